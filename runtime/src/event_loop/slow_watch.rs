//! Notices steps that block the loop, for a few nanoseconds per turn.
//!
//! A clock read after each step would cost a busy loop too much. In a turn of few steps the clock is read after each,
//! and the report names the task. In a turn of many steps it is read once, at the end, and the report names all tasks;
//! for the next minute each step is timed, so that the next report can name the one. Turns without an `enter` are
//! checked together before the next `enter`.

use std::{cell::Cell, time::Duration};

use nix::time::{ClockId, clock_gettime};

use crate::scheduler::task_info::TaskInfo;

/// Blocking for this long is reported.
const LONG: Duration = Duration::from_secs(1);
/// Turns of up to this many steps are timed step by step. With more, timing would cost one percent of a message.
pub(super) const FEW: usize = 4;
/// Only the first steps since the last `enter` are timed one by one: a loop of pure computation makes more.
const FIRST: u32 = 16;
/// How long every step is timed after a report that could not name the task.
const CLOSELY: Duration = Duration::from_secs(60);

/// See the head of the file.
pub(crate) struct SlowWatch {
    enabled: bool,
    /// The last clock read.
    pub(super) since: Cell<Duration>,
    /// When the loop last left the kernel, or last reported.
    left_kernel: Cell<Duration>,
    /// Steps ran since the last clock read.
    pub(super) pending: Cell<bool>,
    /// `FEW`, or unlimited while every step is timed.
    pub(super) few: Cell<usize>,
    /// `FIRST`, or unlimited while every step is timed.
    first: Cell<u32>,
    closely_until: Cell<Duration>,
    /// The last named task that ended.
    pub(super) ended: Cell<Option<TaskInfo>>,
}

impl SlowWatch {
    /// Disabled in the simulator, where real time does not count.
    pub(crate) fn new(enabled: bool) -> SlowWatch {
        SlowWatch {
            enabled,
            since: Cell::default(),
            left_kernel: Cell::default(),
            pending: Cell::new(false),
            few: Cell::new(if enabled { FEW } else { 0 }),
            first: Cell::new(FIRST),
            closely_until: Cell::default(),
            ended: Cell::new(None),
        }
    }

    /// The loop left the kernel.
    pub(crate) fn start(&self) {
        if self.enabled {
            let now = coarse_now();
            self.since.set(now);
            self.left_kernel.set(now);
            self.pending.set(false);
        }
    }

    /// Whether to time each of the `steps` of a turn, after `polls` since the last `enter`.
    #[inline(always)]
    pub(crate) fn is_close(&self, steps: usize, polls: u32) -> bool {
        polls < self.first.get() && steps <= self.few.get()
    }

    /// Reads the clock. Returns the time since the last read, if that is long.
    pub(super) fn look(&self) -> Option<Duration> {
        if !self.enabled {
            return None;
        }
        let now = coarse_now();
        let kept = now.saturating_sub(self.since.replace(now));
        self.pending.set(false);
        if self.few.get() != FEW && now >= self.closely_until.get() {
            self.few.set(FEW);
            self.first.set(FIRST);
        }
        if kept < LONG {
            return None;
        }
        self.left_kernel.set(now);
        Some(kept)
    }

    pub(super) fn look_closely(&self) {
        self.closely_until.set(self.since.get() + CLOSELY);
        self.few.set(usize::MAX);
        self.first.set(u32::MAX);
    }

    /// The time of all steps since the loop left the kernel, if that is long and was not reported.
    pub(super) fn all(&self) -> Option<Duration> {
        let kept = self.since.get().saturating_sub(self.left_kernel.replace(self.since.get()));
        (kept >= LONG).then_some(kept)
    }
}

/// Accurate to some milliseconds only, and several times cheaper than the exact clock.
fn coarse_now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::ZERO, Duration::from)
}
