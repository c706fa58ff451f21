//! The limits of a connection's end, and what was seen of it so far.

use std::time::Duration;

use corio_runtime::{TimerHandle, time::Instant};

/// Limits of one connection's end. Made only for one that needs it.
#[derive(Debug)]
pub(super) struct Linger {
    pub(super) total: Duration,
    pub(super) idle: Duration,
    /// Since the close.
    pub(super) watch: Option<Watch>,
}

#[derive(Debug)]
pub(super) struct Watch {
    pub(super) since: Instant,
    /// When a byte moved last, as far as was seen.
    pub(super) moved: Instant,
    pub(super) seen: Progress,
    pub(super) pause: Duration,
    pub(super) timer: TimerHandle,
}

/// What changes as bytes move.
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
