//! Timeouts around a future.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::{Duration, Instant, Sleep, now, sleep_until};
use crate::{budget, task::endable::Ending};

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
    let deadline = if duration.is_zero() { Deadline::Passed } else { Deadline::In(duration, now()) };
    Timeout { future: Some(future), deadline }
}

/// Runs `future` until `at` at the latest (asyncio `timeout_at`). If that has passed, it is as [`timeout`] with a zero
/// duration.
pub fn timeout_at<F: Future>(at: Instant, future: F) -> Timeout<F> {
    let deadline = if at <= now() { Deadline::Passed } else { Deadline::At(sleep_until(at)) };
    Timeout { future: Some(future), deadline }
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
        deadline: Deadline,
    }
}

#[derive(Debug)]
enum Deadline {
    Passed,
    /// Not armed yet: most futures are ready at their first poll.
    In(Duration, Instant),
    At(Sleep),
    /// The deadline has passed; the future gets a last poll, as the task's budget was used up before.
    LastLook,
    Never,
    /// It has passed, and the future is not over yet.
    Ended(Ending),
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, TimeoutError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Deadline::Ended(ending) = this.deadline {
            return ending.poll(this.future, cx).map(|output| output.ok_or(TimeoutError(())));
        }
        let future = this.future.as_mut().as_pin_mut().expect("it is dropped only at the deadline");
        if let Poll::Ready(value) = future.poll(cx) {
            return Poll::Ready(Ok(value));
        }
        if let Deadline::In(duration, from) = *this.deadline {
            *this.deadline =
                from.checked_add(duration).map_or(Deadline::Never, |at| Deadline::At(sleep_until(at)));
        }
        let passed = match this.deadline {
            Deadline::Passed | Deadline::LastLook => true,
            Deadline::At(sleep) => Pin::new(sleep).poll(cx).is_ready(),
            Deadline::In(..) | Deadline::Never | Deadline::Ended(_) => false,
        };
        if !passed {
            return Poll::Pending;
        }
        // The future may be pending only because the task's budget is used up.
        if budget::is_spent() && !matches!(this.deadline, Deadline::LastLook) {
            *this.deadline = Deadline::LastLook;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match Ending::begin(this.future, cx) {
            Ok(output) => Poll::Ready(output.ok_or(TimeoutError(()))),
            Err(ending) => {
                *this.deadline = Deadline::Ended(ending);
                Poll::Pending
            }
        }
    }
}

impl<F> fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout").field("deadline", &self.deadline).finish_non_exhaustive()
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
