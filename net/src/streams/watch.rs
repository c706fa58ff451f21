//! Limits of a connection's lingering, and its progress so far.

use std::time::Duration;

use corio_runtime::{TimerHandle, time::Instant};

/// Limits of one connection's lingering; made only when needed.
#[derive(Debug)]
pub(super) struct Linger {
    pub(super) total: Duration,
    pub(super) idle: Duration,
    /// Set from the close on.
    pub(super) watch: Option<Watch>,
}

#[derive(Debug)]
pub(super) struct Watch {
    pub(super) since: Instant,
    /// When a check last saw progress.
    pub(super) moved: Instant,
    pub(super) seen: Progress,
    pub(super) pause: Duration,
    pub(super) timer: TimerHandle,
}

/// Counters that change when bytes move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) queued: usize,
    pub(super) acknowledged: u64,
    pub(super) thrown_away: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.timer.cancel();
    }
}
