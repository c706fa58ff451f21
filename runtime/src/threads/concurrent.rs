//! Work for a loop from any thread (asyncio `run_coroutine_threadsafe`).

use std::{
    any::Any,
    fmt,
    future::Future,
    io,
    panic::{self, AssertUnwindSafe, Location},
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;

use crate::{CancelHandle, Handle, PanicPayload, current::Loop};

/// Runs the future that `f` makes as a task of the loop `handle`, from any thread (asyncio
/// `run_coroutine_threadsafe`). `f` goes to the loop, the future is made there: it need not be `Send`.
///
/// Whatever happens there is an answer: the value, a panic, [`ConcurrentError::Cancelled`], or
/// [`ConcurrentError::LoopClosed`] if the loop ends before it takes `f`.
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
    let shared = Arc::new(Shared { state: Mutex::new(State::default()), done: Condvar::new() });
    let answer = Answer { shared: Arc::clone(&shared), otherwise: Some(ConcurrentError::LoopClosed) };
    // A closed loop drops the call, and with it the answer.
    let _ = handle.post(Box::new(move |lp| start(lp, f, answer, location)));
    ConcurrentFuture { shared, home: *handle }
}

fn start<F, Fut, T>(lp: &Loop, f: F, mut answer: Answer<T>, location: &'static Location<'static>)
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    if answer.shared.lock().cancelled {
        return answer.give(Err(ConcurrentError::Cancelled));
    }
    match panic::catch_unwind(AssertUnwindSafe(f)) {
        Err(payload) => answer.give(Err(ConcurrentError::Panicked(PanicPayload::new(payload)))),
        Ok(future) => {
            answer.otherwise = Some(ConcurrentError::Cancelled);
            let shared = Arc::clone(&answer.shared);
            let task = lp.create_task(Answering { future: Some(future), answer }, location);
            let cancelled = {
                let mut state = shared.lock();
                state.task = Some(task.cancel_handle());
                state.cancelled
            };
            // Asked for while it was made.
            if cancelled {
                task.cancel();
            }
        }
    }
}

/// The answer to come from another loop. Dropping it leaves the task running.
#[must_use = "dropping it detaches the task"]
pub struct ConcurrentFuture<T> {
    shared: Arc<Shared<T>>,
    home: Handle,
}

impl<T> ConcurrentFuture<T> {
    /// Blocks this thread until the answer is there, for `timeout` at most.
    ///
    /// # Errors
    /// [`ConcurrentError::TimedOut`], after which it can be asked again; and why there is no value.
    ///
    /// # Panics
    /// If it would block the very loop that has to answer, and after the answer was given.
    pub fn result(&mut self, timeout: Option<Duration>) -> Result<T, ConcurrentError> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.shared.lock();
        loop {
            if let Some(outcome) = state.take() {
                return outcome;
            }
            assert!(!self.home.is_current(), "result() would block the loop that has to give it: await it");
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            state = match left {
                Some(Duration::ZERO) => return Err(ConcurrentError::TimedOut),
                Some(left) => {
                    self.shared.done.wait_timeout(state, left).map_or_else(|e| e.into_inner().0, |w| w.0)
                }
                None => self.shared.done.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Cancels the task, also before it begins; `false` if the answer is there.
    pub fn cancel(&self) -> bool {
        let mut state = self.shared.lock();
        if state.is_done() {
            return false;
        }
        state.cancelled = true;
        let task = state.task;
        drop(state);
        if let Some(task) = task {
            task.cancel();
        }
        true
    }

    /// Whether the answer is there.
    pub fn done(&self) -> bool {
        self.shared.lock().is_done()
    }
}

impl<T> Future for ConcurrentFuture<T> {
    type Output = Result<T, ConcurrentError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let waker = cx.waker().clone();
        let mut state = self.shared.lock();
        if let Some(outcome) = state.take() {
            return Poll::Ready(outcome);
        }
        let old = state.waker.replace(waker);
        drop(state);
        drop(old);
        Poll::Pending
    }
}

impl<T> fmt::Debug for ConcurrentFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConcurrentFuture").field("done", &self.done()).finish_non_exhaustive()
    }
}

struct Shared<T> {
    state: Mutex<State<T>>,
    done: Condvar,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct State<T> {
    outcome: Option<Result<T, ConcurrentError>>,
    /// The outcome was given to the caller.
    taken: bool,
    waker: Option<Waker>,
    task: Option<CancelHandle>,
    cancelled: bool,
}

impl<T> Default for State<T> {
    fn default() -> State<T> {
        State { outcome: None, taken: false, waker: None, task: None, cancelled: false }
    }
}

impl<T> State<T> {
    fn is_done(&self) -> bool {
        self.taken || self.outcome.is_some()
    }

    fn take(&mut self) -> Option<Result<T, ConcurrentError>> {
        assert!(!self.taken, "a ConcurrentFuture was asked again after it gave its answer");
        let outcome = self.outcome.take();
        self.taken = outcome.is_some();
        outcome
    }
}

/// Owes the answer: dropped, it gives `otherwise`.
struct Answer<T> {
    shared: Arc<Shared<T>>,
    otherwise: Option<ConcurrentError>,
}

impl<T> Answer<T> {
    fn give(&mut self, outcome: Result<T, ConcurrentError>) {
        self.otherwise = None;
        let waker = {
            let mut state = self.shared.lock();
            state.outcome = Some(outcome);
            state.waker.take()
        };
        self.shared.done.notify_all();
        waker.into_iter().for_each(Waker::wake);
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        if let Some(otherwise) = self.otherwise.take() {
            self.give(Err(otherwise));
        }
    }
}

pin_project! {
    /// The future on its loop. Its panic is the answer, not the task's.
    struct Answering<F, T>
    where
        F: Future<Output = T>,
    {
        // `None` once it is over.
        #[pin]
        future: Option<F>,
        answer: Answer<T>,
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
        // Its destructors come before the answer, as in a task.
        this.future.set(None);
        this.answer.give(outcome);
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
    /// The loop ended before it could begin.
    LoopClosed,
    /// The answer was not there in time; the task runs on.
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
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, e)
    }
}
