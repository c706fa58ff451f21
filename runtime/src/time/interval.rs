//! Periodic ticks.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

use super::{Duration, Instant, Sleep, now, sleep_until};

/// Ticks every `period`; the first tick is at once.
///
/// ```
/// use corio_runtime::time::{Duration, interval, now};
/// corio_runtime::run(async {
///     let mut ticks = interval(Duration::from_millis(2));
///     let start = ticks.tick().await;
///     for n in 1..3 {
///         assert_eq!(ticks.tick().await, start + n * ticks.period());
///     }
///     assert!(now() - start >= 2 * ticks.period());
/// });
/// ```
///
/// # Panics
/// If `period` is zero.
pub fn interval(period: Duration) -> Interval {
    interval_at(now(), period)
}

/// As [`interval`], with the first tick at `start`.
///
/// # Panics
/// If `period` is zero.
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(!period.is_zero(), "the period of an interval must not be zero");
    Interval { next: Some(start), period, timer: None, missed: MissedTickBehavior::default() }
}

/// What an [`Interval`] does about missed ticks. The names are tokio's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissedTickBehavior {
    /// Ticks at once for each missed tick, until it has caught up.
    #[default]
    Burst,
    /// Ticks at once, then every period after that.
    Delay,
    /// Ticks at once, then at the next regular time.
    Skip,
}

/// Periodic ticks; made by [`interval`].
#[derive(Debug)]
pub struct Interval {
    /// `None` if the time overflows: it never ticks again.
    next: Option<Instant>,
    period: Duration,
    timer: Option<Sleep>,
    missed: MissedTickBehavior,
}

impl Interval {
    /// Waits for the next tick; returns the time when it was due. Dropping the future loses no tick.
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|cx| self.poll_tick(cx)).await
    }

    /// The poll of [`tick`](Interval::tick).
    pub fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        let Some(due) = self.next else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| sleep_until(due));
        if Pin::new(timer).poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.timer = None;
        self.next = self.after(due, now());
        Poll::Ready(due)
    }

    fn after(&self, due: Instant, now: Instant) -> Option<Instant> {
        let next = due.checked_add(self.period)?;
        match self.missed {
            MissedTickBehavior::Burst => Some(next),
            _ if now < next => Some(next),
            MissedTickBehavior::Delay => now.checked_add(self.period),
            MissedTickBehavior::Skip => {
                let late = (now - due).as_nanos() % self.period.as_nanos();
                // Only periods of more than 584 years overflow.
                now.checked_add(self.period - Duration::from_nanos(u64::try_from(late).unwrap_or(u64::MAX)))
            }
        }
    }

    /// Moves the next tick to one period from now.
    pub fn reset(&mut self) {
        self.timer = None;
        self.next = now().checked_add(self.period);
    }

    /// The time between two ticks.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// Sets what happens to missed ticks. Default: [`MissedTickBehavior::Burst`].
    pub fn set_missed_tick_behavior(&mut self, behavior: MissedTickBehavior) {
        self.missed = behavior;
    }
}
