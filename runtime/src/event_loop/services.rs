//! Services: state that other crates keep on a loop, and when the loop calls them.

use std::{
    any::Any,
    cell::{Cell, OnceCell},
    time::Duration,
};

use super::turn_end::TurnEnd;

/// A part of the loop that lives outside this crate.
pub trait Service: Any {
    /// The loop becomes the running one of this thread. A panic goes to the exception handler. Also called when the
    /// service is made: then a panic goes to who asked for it.
    fn entered(&self) {}

    /// The loop is no longer the running one. A panic goes to the exception handler.
    fn left(&self) {}

    /// Called at the end of each turn, before everything queued is submitted. What is sent by the [`TurnEnd`] needs no
    /// completion entry. The services come in the order in which they were first used in the process: what one asks of
    /// an earlier one here is for the next turn ([`TurnEnd::stay_awake`]).
    fn before_submit(&self, _: TurnEnd<'_>) {}

    /// Whether the end of a turn has something to do: a loop that another one drives wants one, then. Also called while
    /// the loop is not the running one.
    fn wants_turn(&self) -> bool {
        false
    }

    /// The loop ends, and all tasks are gone: what is open closes in order now. What takes longer than `total`, or
    /// stands still for `idle`, is given up ([`Builder::linger`](crate::Builder::linger)).
    fn end(&self, total: Duration, idle: Duration) {
        let _ = (total, idle);
    }

    /// Whether the ending loop should wait for work in flight, such as unsent data.
    fn busy(&self) -> bool {
        false
    }

    /// The round that [`want_round`](crate::service::want_round) asked for: a [`ROUND`] has passed since. A panic
    /// goes to the exception handler.
    fn round(&self) {}

    /// Connections that the service has open: for the loop's metrics.
    fn connections(&self) -> usize {
        0
    }

    /// Gives back what a peak has left, as far as it is not used any more. Called a moment after something has asked
    /// for it ([`tidy_later`](crate::service::tidy_later)). Whether there is more, to be given back a moment later.
    fn tidy(&self) -> bool {
        false
    }

    /// Memory that the service holds, in use or not, in bytes: for the loop's metrics.
    fn bytes(&self) -> usize {
        0
    }

    /// The loop is closing: all tasks are gone, and whatever is still held must be let go.
    fn close(&self) {}
}

/// Time from [`want_round`](crate::service::want_round) to [`Service::round`].
pub const ROUND: Duration = Duration::from_secs(60);

/// Most services of a process: each is one static of a crate beside this one.
const SERVICES_MAX: usize = 8;

/// The services of one loop. They live as long as the loop.
#[derive(Default)]
pub(crate) struct Services {
    by_index: [OnceCell<Box<dyn Service>>; SERVICES_MAX],
    /// No index from here on is in use.
    end: Cell<usize>,
}

impl Services {
    pub(crate) fn get(&self, index: usize, make: impl FnOnce() -> Box<dyn Service>) -> &dyn Service {
        assert!(index < SERVICES_MAX, "more than {SERVICES_MAX} kinds of services in a process");
        &**self.by_index[index].get_or_init(|| {
            let service = make();
            self.end.set(self.end.get().max(index + 1));
            service.entered();
            service
        })
    }

    /// Also what one of them makes meanwhile.
    #[inline(always)]
    pub(crate) fn each(&self, mut f: impl FnMut(&dyn Service)) {
        let mut index = 0;
        while index < self.end.get() {
            if let Some(service) = self.by_index.get(index).and_then(OnceCell::get) {
                f(&**service);
            }
            index += 1;
        }
    }

    pub(crate) fn any_busy(&self) -> bool {
        let mut busy = false;
        self.each(|service| busy |= service.busy());
        busy
    }

    pub(crate) fn any_wants_turn(&self) -> bool {
        let mut wants = false;
        self.each(|service| wants |= service.wants_turn());
        wants
    }
}
