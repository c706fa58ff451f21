//! Services: state that other crates keep per loop, such as the streams of `corio-net`.

use std::{
    any::Any,
    fmt, io,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::event_loop::current::{self, Loop};

pub use crate::event_loop::{
    services::{ROUND, Service},
    tidy::tidy_later,
};

/// Requests one call of [`Service::round`] for each service of the running loop, after [`ROUND`], unless it was
/// requested before. It costs nothing until then, neither a turn nor a message. (A simulated loop on which nothing
/// happens makes no second round, so that it can wait for another thread.)
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

/// Calls `job`, which may block, on a thread of the running loop's pool, as [`to_thread`](crate::to_thread) does. It is
/// not cancelled, and nothing waits for it but the end of the loop. If it cannot run it is dropped: the loop may end
/// before a thread is free.
///
/// ```
/// use corio_runtime::service::run_blocking;
/// corio_runtime::run(async {
///     let (here, (tell, told)) = (corio_runtime::handle(), std::sync::mpsc::channel());
///     run_blocking(move || tell.send(here.is_current()).unwrap())?;
///     assert!(!told.recv().unwrap());
///     std::io::Result::Ok(())
/// }).unwrap();
/// ```
///
/// # Errors
/// If the pool has no thread and the system refuses one.
///
/// # Panics
/// Outside a running loop.
pub fn run_blocking(job: impl FnOnce() + Send + 'static) -> io::Result<()> {
    current::with(|lp| lp.pool().submit(Box::new(job)))
}

/// A static with one value per loop, made at first use. A process may use eight of them; `corio-net` uses two.
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
    /// A static whose values `make` makes.
    pub const fn new(make: fn() -> T) -> LoopLocal<T> {
        LoopLocal { index: OnceLock::new(), make }
    }

    /// Calls `f` with this loop's value.
    ///
    /// # Panics
    /// Outside a running loop, and if the process uses more than eight of them.
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        match self.try_with(f) {
            Some(value) => value,
            // Not in a closure: the panic would name that as the caller.
            None => current::absent(),
        }
    }

    /// As `with`; `None` outside a running loop.
    ///
    /// # Panics
    /// If the process uses more than eight of them.
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
