//! Notices steps that keep the loop for long, at the cost of a few nanoseconds per turn.
//!
//! A clock read after each step would cost a busy loop too much. So in a turn of few steps the clock is read after
//! each, and a long step is reported by its task. In a turn of many steps it is read once, at the end, and the report
//! names the tasks together; then each step is timed for a minute, so that the next report can name the one. Turns
//! that make no `enter` are checked together before the next `enter`.

use std::{cell::Cell, time::Duration};

use nix::time::{ClockId, clock_gettime};

use crate::scheduler::task_info::TaskInfo;

/// From this time on it is worth a report.
const LONG: Duration = Duration::from_secs(1);
/// Steps of a turn that are looked at one by one: where there are more, the looks would cost a message one percent.
pub(super) const FEW: usize = 4;
/// Steps since the last `enter` that are: a loop of pure computation has more.
const FIRST: u32 = 16;
/// How long each step is looked at once some that were long could not be told apart.
const CLOSELY: Duration = Duration::from_secs(60);

/// See the head of the file.
pub(crate) struct SlowWatch {
    enabled: bool,
    /// The last look.
    pub(super) since: Cell<Duration>,
    /// When the loop last left the kernel, or what kept it was last reported.
    left_kernel: Cell<Duration>,
    /// Steps were made since the last look.
    pub(super) pending: Cell<bool>,
    /// `FEW`, or more while each step is looked at.
    pub(super) few: Cell<usize>,
    /// `FIRST`, or all while each step is looked at.
    first: Cell<u32>,
    closely_until: Cell<Duration>,
    /// The last task with a name that is gone.
    pub(super) ended: Cell<Option<TaskInfo>>,
}

impl SlowWatch {
    /// In the simulator the machine's time is of no account.
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

    /// Whether to look at each of the `steps` of a turn, after `polls` since the last `enter`.
    #[inline(always)]
    pub(crate) fn is_close(&self, steps: usize, polls: u32) -> bool {
        polls < self.first.get() && steps <= self.few.get()
    }

    /// Looks: how long it is since the last time, if that is long.
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

    /// How long all the steps since the kernel was left have kept the loop, if that is long and was not reported.
    pub(super) fn all(&self) -> Option<Duration> {
        let kept = self.since.get().saturating_sub(self.left_kernel.replace(self.since.get()));
        (kept >= LONG).then_some(kept)
    }
}

/// Some milliseconds coarse, and so several times cheaper than the exact clock.
fn coarse_now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::ZERO, Duration::from)
}
