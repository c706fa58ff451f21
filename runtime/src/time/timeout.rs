//! Timeouts around a future.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::{Duration, Instant, Sleep, sleep_until};
use crate::{budget, event_loop::current, task::endable::Ending};

/// Runs `future` for up to `duration` (asyncio `timeout`).
///
/// At the deadline `future` is polled a last time: if it is ready, its value wins. Else it is dropped, what that leaves
/// behind (cleanups, tasks that it awaited) is awaited, and the result is [`TimeoutError`]. A
/// [`catch_cancel`](crate::catch_cancel) inside catches the end as a cancel: the value that follows is the result. With
/// a zero duration, `future` is polled exactly once; once more if there may be such a scope inside.
///
/// ```
/// use corio_runtime::time::{Duration, timeout};
/// corio_runtime::run(async {
///     assert_eq!(timeout(Duration::from_secs(1), async { 7 }).await, Ok(7));
///     assert!(timeout(Duration::from_millis(1), std::future::pending::<()>()).await.is_err());
/// });
/// ```
///
/// ```compile_fail,E0382
/// // TO-22: a timeout is used once.
/// corio_runtime::run(async {
///     let once = corio_runtime::time::timeout(std::time::Duration::ZERO, async {});
///     once.await.unwrap();
///     once.await.unwrap();
/// });
/// ```
pub fn timeout<F: Future>(duration: Duration, future: F) -> Timeout<F> {
    let (now, entered) = enter();
    Timeout::new(future, Sleep::ending(now.checked_add(duration)), duration.is_zero(), entered)
}

/// Runs `future` until `at` at the latest (asyncio `timeout_at`). If that has passed, it is as [`timeout`] with a zero
/// duration.
pub fn timeout_at<F: Future>(at: Instant, future: F) -> Timeout<F> {
    let (now, entered) = enter();
    Timeout::new(future, sleep_until(at), at <= now, entered)
}

/// The loop's time, and its latest request to cancel a task: newer ones count for what is entered now.
#[inline(always)]
pub(super) fn enter() -> (Instant, u32) {
    current::peek(|lp| (lp.clock.now(), lp.tasks.latest_request())).unwrap_or_else(|| (Instant::now(), 0))
}

/// [`timeout`], with the arguments in asyncio's older order (asyncio `wait_for`).
pub fn wait_for<F: Future>(future: F, duration: Duration) -> Timeout<F> {
    timeout(duration, future)
}

pin_project! {
    /// The future of [`timeout`], [`timeout_at`] and [`wait_for`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct Timeout<F> {
        #[pin]
        future: Option<F>,
        // Armed if the future is pending: most are ready at their first poll.
        sleep: Sleep,
        phase: Phase,
        entered: u32,
        // The deadline has passed, and the future is not over yet. Boxed, so that a timeout stays small.
        ending: Option<Box<Ending>>,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    /// The deadline had passed before the first poll.
    Passed,
    /// The future gets a last poll, as the task's budget was used up before.
    LastLook,
}

impl<F> Timeout<F> {
    #[inline(always)]
    fn new(future: F, sleep: Sleep, passed: bool, entered: u32) -> Timeout<F> {
        let phase = if passed { Phase::Passed } else { Phase::Waiting };
        Timeout { future: Some(future), sleep, phase, entered, ending: None }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, TimeoutError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(ending) = this.ending {
            return ending
                .poll(this.future, Some(*this.entered), cx)
                .map(|output| output.ok_or(TimeoutError(())));
        }
        let future = this.future.as_mut().as_pin_mut().expect("it is dropped only at the deadline");
        if let Poll::Ready(value) = future.poll(cx) {
            return Poll::Ready(Ok(value));
        }
        if *this.phase == Phase::Waiting && Pin::new(this.sleep).poll(cx).is_pending() {
            return Poll::Pending;
        }
        // The future may be pending only because the task's budget is used up.
        if budget::is_spent() && *this.phase != Phase::LastLook {
            *this.phase = Phase::LastLook;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        expire(this.future, this.ending, *this.entered, cx)
    }
}

/// The deadline has passed, and the future is pending.
#[cold]
#[inline(never)]
fn expire<F: Future>(
    future: Pin<&mut Option<F>>,
    place: &mut Option<Box<Ending>>,
    entered: u32,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, TimeoutError>> {
    match Ending::begin(future, Some(entered), cx) {
        Ok(output) => Poll::Ready(output.ok_or(TimeoutError(()))),
        Err(ending) => {
            *place = Some(Box::new(ending));
            Poll::Pending
        }
    }
}

impl<F> fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout").field("deadline", &self.sleep.deadline()).finish_non_exhaustive()
    }
}

/// The deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutError(pub(super) ());

impl fmt::Display for TimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deadline has elapsed")
    }
}

impl std::error::Error for TimeoutError {}

impl From<TimeoutError> for io::Error {
    fn from(e: TimeoutError) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, e)
    }
}
