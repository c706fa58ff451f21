//! Time: the loop's clock, sleeping, timeouts and intervals.

mod interval;
mod timeout;
mod timeout_scope;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use crate::{
    event_loop::current,
    scheduler::{
        homed::Homed,
        timers::{Due, NEVER, TimerKey},
    },
};

pub use interval::{Interval, MissedTickBehavior, interval, interval_at};
pub use std::time::{Duration, Instant};
pub use timeout::{Timeout, TimeoutError, timeout, timeout_at, wait_for};
pub use timeout_scope::{Deadline, timeout_scope};

/// The loop's time: the monotonic clock, or the simulator's virtual one. Outside a loop, the monotonic clock.
///
/// ```
/// let before = corio_runtime::time::now();
/// assert!(corio_runtime::time::now() >= before);
/// ```
pub fn now() -> Instant {
    current::peek(|lp| lp.clock.now()).unwrap_or_else(Instant::now)
}

/// Waits for `duration` (asyncio `sleep`). Never ends early; zero takes exactly one turn.
///
/// Dropping it removes its timer.
///
/// ```
/// use corio_runtime::time::{Duration, Instant, sleep};
/// corio_runtime::run(async {
///     let before = Instant::now();
///     sleep(Duration::from_millis(5)).await;
///     assert!(before.elapsed() >= Duration::from_millis(5));
/// });
/// ```
///
/// ```compile_fail,E0308
/// // TASK-33: a duration is never NaN, and what may be is no duration.
/// corio_runtime::run(corio_runtime::time::sleep(f64::NAN));
/// ```
pub fn sleep(duration: Duration) -> Sleep {
    match now().checked_add(duration) {
        Some(at) => sleep_until(at),
        None => Sleep { at: None, armed: None },
    }
}

/// Waits until `at`. If that has passed, it takes exactly one turn.
pub fn sleep_until(at: Instant) -> Sleep {
    Sleep { at: Some(at), armed: None }
}

/// The future of [`sleep`] and [`sleep_until`]. Plain data: `Send`, `Sync` and `Unpin`.
///
/// It belongs to the loop that first polls it. Polled on another one, it panics with "attached to a different loop".
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    /// `None` if the time overflows: it never ends.
    at: Option<Instant>,
    armed: Option<Homed<TimerKey>>,
}

impl Sleep {
    /// Ends at `at`, or never.
    pub(super) fn ending(at: Option<Instant>) -> Sleep {
        Sleep { at, armed: None }
    }

    /// When it ends; `None` if it never does.
    pub fn deadline(&self) -> Option<Instant> {
        self.at
    }

    /// Moves the end to `at`, even after it has passed.
    pub fn reset(&mut self, at: Instant) {
        self.disarm();
        self.at = Some(at);
    }

    fn disarm(&mut self) {
        if let Some(key) = self.armed.take() {
            // The removed waker is dropped outside the borrow: its destructor is foreign code.
            match key.peek(|lp, key| lp.remove_timer(key)) {
                Some(due) => drop(due),
                None => disarm_elsewhere(key),
            }
        }
    }

    fn arm(&mut self, cx: &mut Context<'_>) {
        let due = Due::Wake(cx.waker().clone());
        let armed = current::peek(|lp| {
            let deadline = self.at.map_or(NEVER, |at| lp.clock.to_ns(at));
            lp.homed(lp.timers.borrow_mut().insert(deadline, due))
        });
        self.armed = Some(armed.unwrap_or_else(|| current::absent()));
    }
}

/// Disarms a timer of a loop that is not running.
#[cold]
#[inline(never)]
fn disarm_elsewhere(key: Homed<TimerKey>) {
    key.on_loop(|lp, key| drop(lp.remove_timer(key)));
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(key) = self.armed else {
            self.arm(cx);
            return Poll::Pending;
        };
        let polled = key.here(|lp, key| lp.timers.borrow_mut().poll(key, cx.waker()));
        let Some((polled, old)) = polled else { current::away("a Sleep") };
        drop(old);
        polled
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.disarm();
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("at", &self.at).finish_non_exhaustive()
    }
}
