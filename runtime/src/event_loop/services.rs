//! Services: state that other crates keep per loop, and the calls they get from it.

use std::{
    any::Any,
    cell::{Cell, OnceCell},
    time::Duration,
};

use super::turn_end::TurnEnd;

/// State of another crate on a loop.
pub trait Service: Any {
    /// The loop becomes the running one of this thread. A panic goes to the exception handler. Also called when the
    /// service is made; a panic then goes to the caller.
    fn entered(&self) {}

    /// The loop is no longer the running one. A panic goes to the exception handler.
    fn left(&self) {}

    /// Called at the end of each turn, before the submission. Sends through the [`TurnEnd`] need no completion entry.
    /// Services are called in the order of their first use in the process: work for an earlier service has to wait for
    /// the next turn ([`TurnEnd::stay_awake`]).
    fn before_submit(&self, _: TurnEnd<'_>) {}

    /// Whether there is work for the end of a turn. A loop driven by another loop asks this; it may not be the running
    /// one then.
    fn wants_turn(&self) -> bool {
        false
    }

    /// The loop ends, and all tasks are gone: close everything in order now. Work that takes longer than `total`, or
    /// makes no progress for `idle`, is given up ([`Builder::linger`](crate::Builder::linger)).
    fn end(&self, total: Duration, idle: Duration) {
        let _ = (total, idle);
    }

    /// Whether the ending loop should wait for work in flight, such as unsent data.
    fn busy(&self) -> bool {
        false
    }

    /// The round requested by [`want_round`](crate::service::want_round), [`ROUND`] ago. A panic goes to the exception
    /// handler.
    fn round(&self) {}

    /// Number of open connections, for the loop's metrics.
    fn connections(&self) -> usize {
        0
    }

    /// Frees unused memory after a peak. Called a moment after [`tidy_later`](crate::service::tidy_later). Returns
    /// whether there is more to free a moment later.
    fn tidy(&self) -> bool {
        false
    }

    /// Memory that the service holds, used or not, in bytes, for the loop's metrics.
    fn bytes(&self) -> usize {
        0
    }

    /// The loop closes: all tasks are gone, and the service must release everything.
    fn close(&self) {}
}

/// Time from [`want_round`](crate::service::want_round) to [`Service::round`].
pub const ROUND: Duration = Duration::from_secs(60);

/// Most services in a process; each is a static of another crate.
const SERVICES_MAX: usize = 8;

/// The services of one loop; they live as long as the loop.
#[derive(Default)]
pub(crate) struct Services {
    by_index: [OnceCell<Box<dyn Service>>; SERVICES_MAX],
    /// All indexes from here on are unused.
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

    /// Calls `f` with each service, including those made meanwhile.
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
