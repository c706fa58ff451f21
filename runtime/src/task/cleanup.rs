//! Async cleanups: the `finally` of a cancelled asyncio coroutine.

use std::{
    fmt,
    future::{Future, poll_fn},
    panic::{self, AssertUnwindSafe, Location},
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use crate::{
    event_loop::{
        current::{self, Loop},
        ends::{Hold, Leftovers},
        exception::call_exception_handler,
        exceptions::ExceptionContext,
    },
    scheduler::{loop_id::LoopId, task_error::discard},
};

/// Runs `future`. If this is dropped before the end (the task is cancelled, a timeout passes, the group fails), the
/// loop runs the future that `cleanup` returns.
///
/// Whoever ended this waits for that future (asyncio's `finally` with awaits): the timeout, the group,
/// [`catch_cancel`](crate::catch_cancel), who awaits the cancelled task; and the end of `run`, for up to 10 seconds of
/// the loop's clock. Of nested cleanups the inner one runs first. If `future` was never polled, `cleanup` is not
/// called.
///
/// ```
/// use corio_runtime::{create_task, with_cleanup, yield_now};
/// use std::{cell::Cell, rc::Rc};
/// let cleaned = Rc::new(Cell::new(false));
/// let flag = cleaned.clone();
/// corio_runtime::run(async move {
///     let task = create_task(with_cleanup(std::future::pending::<()>(), move || async move {
///         yield_now().await;
///         flag.set(true);
///     }));
///     yield_now().await;
///     task.cancel();
/// });
/// assert!(cleaned.get());
/// ```
#[track_caller]
pub fn with_cleanup<F, C, Fut>(future: F, cleanup: C) -> WithCleanup<F, C, Fut>
where
    F: Future,
    C: FnOnce() -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    WithCleanup { future: Some(future), cleanup: Some(cleanup), started: None, location: Location::caller() }
}

pin_project! {
    /// The future of [`with_cleanup`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct WithCleanup<F, C, Fut>
    where
        C: FnOnce() -> Fut,
        Fut: Future<Output = ()>,
        Fut: 'static,
    {
        #[pin]
        future: Option<F>,
        cleanup: Option<C>,
        // The loop of the first poll; `Some(None)` outside any loop.
        started: Option<Option<LoopId>>,
        location: &'static Location<'static>,
    }

    impl<F, C, Fut> PinnedDrop for WithCleanup<F, C, Fut>
    where
        C: FnOnce() -> Fut,
        Fut: Future<Output = ()>,
        Fut: 'static,
    {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let cleanup = this.cleanup.take();
            // The future's destructors run first, and its own cleanups, as `finally` runs after the inner blocks.
            let mut dropped = Ok(());
            let inner = Leftovers::of_dropped(|| {
                dropped = panic::catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
            });
            if let Some(home) = *this.started && let Some(cleanup) = cleanup {
                start(home, cleanup, inner, this.location);
            }
            if let Err(payload) = dropped {
                panic::resume_unwind(payload);
            }
        }
    }
}

impl<F: Future, C, Fut> Future for WithCleanup<F, C, Fut>
where
    C: FnOnce() -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if this.started.is_none() {
            *this.started = Some(current::try_with(Loop::id));
        }
        let future = this.future.as_pin_mut().expect("the future is there until it is dropped");
        let polled = future.poll(cx);
        if polled.is_ready() {
            *this.cleanup = None;
        }
        polled
    }
}

impl<F, C, Fut> fmt::Debug for WithCleanup<F, C, Fut>
where
    C: FnOnce() -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithCleanup").field("location", &self.location).finish_non_exhaustive()
    }
}

/// Runs the cleanup on its future's loop, even if another loop of this thread is running.
fn start<C, Fut>(
    home: Option<LoopId>,
    cleanup: C,
    inner: Option<Leftovers>,
    location: &'static Location<'static>,
) where
    C: FnOnce() -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    let start = |lp: &Loop| {
        let cleanup = match panic::catch_unwind(AssertUnwindSafe(cleanup)) {
            Ok(cleanup) => cleanup,
            Err(payload) => {
                discard(payload);
                lp.exceptions.report(&ExceptionContext::new("a cleanup panicked"));
                return true;
            }
        };
        if lp.closing.get() {
            return false;
        }
        let hold = Hold::current(lp);
        let cleanup = async move {
            if let Some(inner) = &inner {
                poll_fn(|cx| inner.poll(cx)).await;
            }
            cleanup.await;
            drop(hold);
        };
        let (key, _) = lp.tasks.create_cleanup(cleanup, location);
        lp.detach(key, false);
        true
    };
    let started = match home {
        Some(home) => current::at_home(home, start),
        None => current::try_with(start),
    };
    if started != Some(true) {
        let context = ExceptionContext::new("a cleanup was dropped: its loop is closing or closed");
        call_exception_handler(&context);
    }
}
