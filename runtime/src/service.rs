//! State that other crates keep on a loop, such as the streams of `corio-net`.

use std::{
    any::Any,
    cell::{Cell, OnceCell},
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    current::{self, Loop},
    op::TurnEnd,
};

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

    /// The round that [`want_round`] asked for: a [`ROUND`] has passed since. A panic goes to the exception handler.
    fn round(&self) {}

    /// Connections that the service has open: for the loop's metrics.
    fn connections(&self) -> usize {
        0
    }

    /// Gives back what a peak has left, as far as it is not used any more. Called a moment after something has asked
    /// for it ([`tidy_later`]). Whether there is more, to be given back a moment later.
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

/// Time from [`want_round`] to [`Service::round`].
pub const ROUND: Duration = Duration::from_secs(60);

/// Asks for one [`Service::round`] of each service of the running loop in a [`ROUND`], unless that was asked for
/// already. It costs nothing until then, neither a turn nor a message. (A simulated loop on which nothing happens makes
/// no second round, so that it can wait for another thread.)
///
/// ```
/// use corio_runtime::{Backend, Runner, service::{LoopLocal, ROUND, Service, want_round}, time::{now, sleep}};
/// use std::cell::Cell;
/// struct Rounds(Cell<u32>);
/// impl Service for Rounds {
///     fn round(&self) { self.0.set(self.0.get() + 1) }
/// }
/// static ROUNDS: LoopLocal<Rounds> = LoopLocal::new(|| Rounds(Cell::new(0)));
/// Runner::builder().backend(Backend::Sim { seed: 1 }).build()?.run(async {
///     ROUNDS.with(|_| want_round());
///     sleep(ROUND * 3).await;
///     assert_eq!(ROUNDS.with(|rounds| rounds.0.get()), 1);
/// });
/// # std::io::Result::Ok(())
/// ```
///
/// # Panics
/// Outside a running loop.
pub fn want_round() {
    current::with(Loop::want_round);
}

/// Something of the running loop holds far more memory than it uses. A moment later (100 ms) everything that has grown
/// in a peak is looked at, this loop's tables and all its services ([`Service::tidy`]), and gives back what is not
/// used: so memory that is needed again at once stays. Without effect outside a running loop.
///
/// ```
/// use corio_runtime::{service::{LoopLocal, Service, tidy_later}, time::{Duration, sleep}};
/// use std::cell::RefCell;
///
/// struct Spare(RefCell<Vec<u8>>);
/// impl Service for Spare {
///     fn tidy(&self) -> bool {
///         self.0.take();
///         false
///     }
///     fn bytes(&self) -> usize { self.0.borrow().capacity() }
/// }
/// static SPARE: LoopLocal<Spare> = LoopLocal::new(|| Spare(RefCell::default()));
///
/// corio_runtime::run(async {
///     SPARE.with(|spare| spare.0.replace(vec![0; 1 << 20]));
///     assert!(corio_runtime::metrics().memory.services_bytes >= 1 << 20);
///     tidy_later();
///     while SPARE.with(|spare| spare.bytes()) > 0 {
///         sleep(Duration::from_millis(10)).await;
///     }
///     assert_eq!(corio_runtime::metrics().memory.services_bytes, 0);
/// });
/// ```
#[cold]
#[inline(never)]
pub fn tidy_later() {
    current::peek(Loop::tidy_later);
}

/// A static that has one value on each loop, made when first used there.
///
/// ```
/// use corio_runtime::service::{LoopLocal, Service};
/// use std::cell::Cell;
/// struct Count(Cell<u32>);
/// impl Service for Count {}
/// static COUNT: LoopLocal<Count> = LoopLocal::new(|| Count(Cell::new(0)));
///
/// for _ in 0..2 {
///     corio_runtime::run(async {
///         assert_eq!(COUNT.with(|c| c.0.replace(1)), 0);
///         assert_eq!(COUNT.with(|c| c.0.get()), 1);
///     });
/// }
/// ```
pub struct LoopLocal<T: Service> {
    index: OnceLock<usize>,
    make: fn() -> T,
}

static NEXT_INDEX: AtomicUsize = AtomicUsize::new(0);

impl<T: Service> LoopLocal<T> {
    /// A value that `make` makes.
    pub const fn new(make: fn() -> T) -> LoopLocal<T> {
        LoopLocal { index: OnceLock::new(), make }
    }

    /// Runs `f` with this loop's value.
    ///
    /// # Panics
    /// Outside a running loop.
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        match self.try_with(f) {
            Some(value) => value,
            // Not in a closure, which would be the caller that it names.
            None => current::absent(),
        }
    }

    /// As `with`; `None` outside a running loop.
    pub fn try_with<R>(&self, f: impl FnOnce(&T) -> R) -> Option<R> {
        let index = *self.index.get_or_init(|| NEXT_INDEX.fetch_add(1, Ordering::Relaxed));
        current::try_with(|lp| {
            let service: &dyn Any = lp.services.get(index, || Box::new((self.make)()));
            service.downcast_ref().map(f)
        })?
    }
}

impl<T: Service> fmt::Debug for LoopLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopLocal").field("index", &self.index).finish_non_exhaustive()
    }
}

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
    fn get(&self, index: usize, make: impl FnOnce() -> Box<dyn Service>) -> &dyn Service {
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
