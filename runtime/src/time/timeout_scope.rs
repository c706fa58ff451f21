//! A timeout whose body can move the deadline.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
};

use super::{Duration, Instant, Sleep, TimeoutError, now, sleep_until, timeout::enter};
use crate::{budget, task::endable::Endable};

/// Runs `body` with a deadline that it can read and move (asyncio `timeout` with `reschedule`).
///
/// At the deadline the body ends as that of [`timeout`](super::timeout) does. Nested scopes each end only their own
/// body.
///
/// ```
/// use corio_runtime::time::{Duration, now, sleep, timeout_scope};
/// corio_runtime::run(async {
///     let value = timeout_scope(Duration::from_millis(1), async |deadline| {
///         deadline.reschedule(now() + Duration::from_secs(10));
///         sleep(Duration::from_millis(2)).await;
///         7
///     });
///     assert_eq!(value.await, Ok(7));
/// });
/// ```
///
/// # Errors
/// [`TimeoutError`] if the deadline passed first.
pub async fn timeout_scope<T>(
    duration: Duration,
    body: impl AsyncFnOnce(&Deadline) -> T,
) -> Result<T, TimeoutError> {
    let (start, entered) = enter();
    let deadline = Deadline { at: Cell::new(start.checked_add(duration)), expired: Cell::new(false) };
    let mut body = pin!(Endable::new(body(&deadline), Some(entered)));
    let mut timer: Option<(Instant, Sleep)> = None;
    let mut last_look = false;
    poll_fn(|cx| {
        if let Poll::Ready(output) = body.as_mut().poll(cx) {
            return Poll::Ready(output.ok_or(TimeoutError(())));
        }
        if body.is_ending() {
            return Poll::Pending;
        }
        let Some(at) = deadline.at.get() else {
            timer = None;
            return Poll::Pending;
        };
        let up = if at <= now() {
            true
        } else {
            if timer.as_ref().is_none_or(|(armed, _)| *armed != at) {
                timer = Some((at, sleep_until(at)));
            }
            timer.as_mut().is_some_and(|(_, sleep)| Pin::new(sleep).poll(cx).is_ready())
        };
        if !up {
            last_look = false;
            return Poll::Pending;
        }
        // The body may be pending only because the task's budget is used up.
        if budget::is_spent() && !std::mem::replace(&mut last_look, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        deadline.expired.set(true);
        body.as_mut().end(cx).map(|output| output.ok_or(TimeoutError(())))
    })
    .await
}

/// The deadline of a [`timeout_scope`].
#[derive(Debug)]
pub struct Deadline {
    at: Cell<Option<Instant>>,
    expired: Cell<bool>,
}

impl Deadline {
    /// Moves the deadline; `None` removes it.
    pub fn reschedule(&self, at: impl Into<Option<Instant>>) {
        self.at.set(at.into());
    }

    /// The deadline, if there is one.
    pub fn when(&self) -> Option<Instant> {
        self.at.get()
    }

    /// Whether the deadline has passed, for destructors of the body.
    pub fn expired(&self) -> bool {
        self.expired.get()
    }
}
