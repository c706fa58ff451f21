//! Notices, at the cost of a few nanoseconds per `enter`, that tasks kept the loop for long.

use std::{cell::Cell, time::Duration};

use nix::time::{ClockId, clock_gettime};

/// From this time on it is worth a report.
const LONG: Duration = Duration::from_secs(1);

/// The time since the loop last left the kernel.
pub(crate) struct SlowWatch {
    since: Cell<Option<Duration>>,
    enabled: bool,
}

impl SlowWatch {
    /// In the simulator the machine's time is of no account.
    pub(crate) fn new(enabled: bool) -> SlowWatch {
        SlowWatch { since: Cell::new(None), enabled }
    }

    /// The loop left the kernel.
    pub(crate) fn start(&self) {
        if self.enabled {
            self.since.set(coarse_now());
        }
    }

    /// How long the loop has been kept, if that is long.
    pub(crate) fn check(&self) -> Option<Duration> {
        let since = self.since.get()?;
        let kept = coarse_now()?.checked_sub(since)?;
        (kept >= LONG).then_some(kept)
    }
}

/// Some milliseconds coarse, and so several times cheaper than the exact clock.
fn coarse_now() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).ok().map(Duration::from)
}
