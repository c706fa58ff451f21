//! `Handle`: names a loop, on any thread.

use std::{fmt, num::NonZeroU64, panic::Location};

use crate::{
    event_loop::{
        backend::BackendInfo,
        current::{self, Loop},
        registry,
        registry::LoopClosed,
    },
    scheduler::loop_id::LoopId,
};

/// Names a loop, on any thread.
///
/// ```
/// let n = corio_runtime::run(async {
///     let handle = corio_runtime::handle();
///     let (tx, rx) = std::sync::mpsc::channel();
///     std::thread::spawn(move || handle.call_soon_threadsafe(move || tx.send(42).unwrap()));
///     loop {
///         if let Ok(n) = rx.try_recv() { break n }
///         corio_runtime::yield_now().await;
///     }
/// });
/// assert_eq!(n, 42);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle {
    pub(crate) loop_id: LoopId,
}

impl Handle {
    /// Calls `f` on the loop, in one of its next turns (asyncio `loop.call_soon_threadsafe`).
    ///
    /// # Errors
    /// [`LoopClosed`] if the loop has ended: `f` was not called. After `Ok`, `f` is called, or dropped if the loop ends
    /// before.
    ///
    /// ```compile_fail,E0599
    /// // LOOP-16: `call_soon` finds the loop of its own thread; for another one there is no such call.
    /// let handle = corio_runtime::Runner::new().unwrap().handle();
    /// std::thread::spawn(move || handle.call_soon(|| ()));
    /// ```
    #[track_caller]
    pub fn call_soon_threadsafe(&self, f: impl FnOnce() + Send + 'static) -> Result<(), LoopClosed> {
        let place = Some(Location::caller());
        self.post(move |lp: &Loop| {
            lp.call_now(Box::new(f), place);
        })
    }

    /// Calls `f` with this loop as the running one: at once if the loop is of this thread, else through its inbox. If
    /// the loop has ended, `f` is dropped. For handles that are dropped on another loop.
    pub fn run_at_home(&self, f: impl FnOnce() + Send + 'static) {
        current::on_loop(self.loop_id, |_| f());
    }

    /// The loop's number, unique in the process, also among ended loops.
    ///
    /// ```
    /// let number = || corio_runtime::run(async { corio_runtime::handle().number() });
    /// assert_ne!(number(), number());
    /// ```
    #[inline]
    pub fn number(&self) -> NonZeroU64 {
        self.loop_id.0
    }

    /// Whether the loop has ended.
    pub fn is_closed(&self) -> bool {
        registry::is_closed(self.loop_id)
    }

    /// Whether this loop is the running one of this thread.
    pub fn is_current(&self) -> bool {
        current::try_with(|lp| lp.id() == self.loop_id).unwrap_or(false)
    }

    pub(crate) fn post(&self, f: impl FnOnce(&Loop) + Send + 'static) -> Result<(), LoopClosed> {
        current::post(self.loop_id, f)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("loop", &self.loop_id.0).field("closed", &self.is_closed()).finish()
    }
}

/// The handle of the running loop (asyncio `get_running_loop`).
///
/// # Panics
/// Outside a running loop: "no running event loop".
pub fn handle() -> Handle {
    current::with(|lp| lp.handle())
}

/// Whether the running loop is ending, and cancels its remaining tasks; `false` outside a loop.
///
/// ```
/// use corio_runtime::{create_task, is_closing, run, yield_now};
/// use std::{cell::Cell, rc::Rc};
/// struct Left(Rc<Cell<bool>>);
/// impl Drop for Left {
///     fn drop(&mut self) { self.0.set(is_closing()) }
/// }
/// let cancelled_at_the_end = Rc::new(Cell::new(false));
/// let left = Left(cancelled_at_the_end.clone());
/// run(async {
///     assert!(!is_closing());
///     drop(create_task(async move { let _left = left; std::future::pending::<()>().await }));
///     yield_now().await;
/// });
/// assert!(cancelled_at_the_end.get());
/// ```
pub fn is_closing() -> bool {
    current::try_with(|lp| lp.ending.get()).unwrap_or(false)
}

impl Loop {
    pub(crate) fn handle(&self) -> Handle {
        Handle { loop_id: self.id() }
    }
}

/// Which kernel the running loop runs on, and why.
///
/// ```
/// use corio_runtime::{Backend, backend};
/// let info = corio_runtime::run(async { backend() });
/// assert_ne!(info.backend(), Backend::Auto);
/// println!("on {info}");
/// ```
///
/// # Panics
/// Outside a running loop.
#[track_caller]
pub fn backend() -> BackendInfo {
    current::with(|lp| lp.backend)
}
