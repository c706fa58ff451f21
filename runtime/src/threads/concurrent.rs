//! Tasks for a loop, created from any thread (asyncio `run_coroutine_threadsafe`).

use std::{
    any::Any,
    fmt,
    future::Future,
    io,
    panic::{self, AssertUnwindSafe, Location},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;

use super::{
    answer::{self, Awaited, answer},
    poll_answer,
};
use crate::{
    event_loop::{current::Loop, exceptions::ExceptionContext, handle::Handle},
    scheduler::task_error::PanicPayload,
    task::cancel::CancelHandle,
};

/// Runs the future that `f` makes as a task of the loop `handle`, from any thread (asyncio `run_coroutine_threadsafe`).
/// `f` runs on that loop, so its future need not be `Send`.
///
/// There is always an answer: the value, a panic, [`ConcurrentError::Cancelled`], or [`ConcurrentError::LoopClosed`] if
/// the loop ends before it runs `f`. A panic of `f` itself goes to the loop's exception handler, too.
///
/// ```
/// use corio_runtime::{handle, run, run_coroutine_threadsafe};
/// run(async {
///     let home = handle();
///     let thread = std::thread::spawn(move || {
///         run_coroutine_threadsafe(&home, || async { 1 + 2 }).result(None)
///     });
///     let sum = corio_runtime::to_thread(|| thread.join().unwrap()).await;
///     assert_eq!(sum.unwrap(), 3);
/// });
/// ```
#[track_caller]
pub fn run_coroutine_threadsafe<F, Fut, T>(handle: &Handle, f: F) -> ConcurrentFuture<T>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let location = Location::caller();
    let (owed, answer) = answer(Err(ConcurrentError::LoopClosed));
    // A closed loop drops the call; the dropped `owed` answers.
    let _ = handle.post(move |lp| start(lp, f, owed, location));
    ConcurrentFuture { answer, home: *handle }
}

fn start<F, Fut, T>(lp: &Loop, f: F, mut owed: Owed<T>, location: &'static Location<'static>)
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    if owed.is_cancelled() {
        return owed.give(Err(ConcurrentError::Cancelled));
    }
    match panic::catch_unwind(AssertUnwindSafe(f)) {
        Err(payload) => {
            let panic = PanicPayload::new(payload);
            let text = format!("run_coroutine_threadsafe: no task was made: panicked: {}", panic.message());
            owed.give(Err(ConcurrentError::Panicked(panic)));
            lp.exceptions.report(&ExceptionContext::new(text));
        }
        Ok(future) => {
            owed.otherwise(Err(ConcurrentError::Cancelled));
            let starter = owed.starter();
            let task = lp.create_task(Answering { future: Some(future), owed }, location);
            // The cancel may have come while the task was created.
            if starter.started(task.cancel_handle()) {
                task.cancel();
            }
        }
    }
}

/// The answer from another loop. Dropping it detaches the task, which continues.
#[must_use = "dropping it detaches the task"]
pub struct ConcurrentFuture<T> {
    answer: Awaited<Result<T, ConcurrentError>, CancelHandle>,
    home: Handle,
}

impl<T> ConcurrentFuture<T> {
    /// Blocks this thread until the answer is there, up to `timeout`.
    ///
    /// # Errors
    /// [`ConcurrentError::TimedOut`], after which you may ask again; or the reason why there is no value.
    ///
    /// # Panics
    /// On the loop that has to answer, which would block itself, and after the answer was returned.
    pub fn result(&mut self, timeout: Option<Duration>) -> Result<T, ConcurrentError> {
        if let Some(outcome) = self.answer.take() {
            return outcome;
        }
        assert!(!self.home.is_current(), "result() would block the loop that has to give it: await it");
        self.answer.wait(timeout).unwrap_or(Err(ConcurrentError::TimedOut))
    }

    /// Cancels the task, even before it starts. Returns `false` if the answer is there.
    pub fn cancel(&self) -> bool {
        let Some(task) = self.answer.cancel() else { return false };
        if let Some(task) = task {
            task.cancel();
        }
        true
    }

    /// Whether the answer is there.
    pub fn done(&self) -> bool {
        self.answer.is_done()
    }
}

impl<T> Future for ConcurrentFuture<T> {
    type Output = Result<T, ConcurrentError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        poll_answer(&self.answer, cx)
    }
}

impl<T> fmt::Debug for ConcurrentFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConcurrentFuture").field("done", &self.done()).finish_non_exhaustive()
    }
}

type Owed<T> = answer::Owed<Result<T, ConcurrentError>, CancelHandle>;

pin_project! {
    /// A future on its loop. Its panic becomes the answer, and does not panic the task.
    struct Answering<F, T>
    where
        F: Future<Output = T>,
    {
        // `None` once it has ended.
        #[pin]
        future: Option<F>,
        owed: Owed<T>,
    }
}

impl<F: Future<Output = T>, T> Future for Answering<F, T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        let polled: Result<Poll<T>, Box<dyn Any + Send>> =
            panic::catch_unwind(AssertUnwindSafe(|| future.poll(cx)));
        let outcome = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(value)) => Ok(value),
            Err(payload) => Err(ConcurrentError::Panicked(PanicPayload::new(payload))),
        };
        // Its destructors run before the answer is given, as in a task.
        this.future.set(None);
        this.owed.give(outcome);
        Poll::Ready(())
    }
}

/// Why there is no value.
#[derive(Debug)]
pub enum ConcurrentError {
    /// The task was cancelled.
    Cancelled,
    /// The task panicked.
    Panicked(PanicPayload),
    /// The loop ended before it ran the function.
    LoopClosed,
    /// The timeout passed; the task continues.
    TimedOut,
}

impl fmt::Display for ConcurrentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConcurrentError::Cancelled => f.write_str("the task was cancelled"),
            ConcurrentError::Panicked(panic) => write!(f, "the task panicked: {}", panic.message()),
            ConcurrentError::LoopClosed => f.write_str("the event loop is closed"),
            ConcurrentError::TimedOut => f.write_str("the result was not there in time"),
        }
    }
}

impl std::error::Error for ConcurrentError {}

impl From<ConcurrentError> for io::Error {
    fn from(e: ConcurrentError) -> io::Error {
        let kind = match e {
            ConcurrentError::TimedOut => io::ErrorKind::TimedOut,
            // As for `LoopClosed`.
            ConcurrentError::LoopClosed => io::ErrorKind::NotConnected,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, e)
    }
}
