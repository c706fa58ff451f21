//! Ctrl-C during a run, as in asyncio's `run`: the first SIGINT cancels the main future, and the process ends by the
//! signal once the loop has closed; the second one ends it at once.
//!
//! Only on the main thread, if nothing else handles SIGINT, and until the loop listens to SIGINT itself.

use std::{fs, sync::Arc};

use nix::{libc::SIGINT, unistd};
use signal_hook::{SigId, flag, low_level};

use crate::{
    event_loop::{
        current::Loop,
        signals::{
            claim::{self, Claim},
            read::{Heard, ReadSignal},
        },
    },
    kernel::key::Key,
    scheduler::homed::Homed,
};

/// While it lives, SIGINT ends the running loop.
pub(crate) struct Interrupt {
    next_by_default: SigId,
    read: Homed<Key>,
    _claim: Claim,
}

impl Interrupt {
    /// `None` if SIGINT has another handler; the loop runs without it.
    pub(crate) fn install(lp: &Loop) -> Option<Interrupt> {
        if unistd::gettid() != unistd::getpid() || lp.driver.is_simulated() || !is_ours() {
            return None;
        }
        let (claim, reader) = Claim::new(SIGINT).ok()?;
        // Runs after the check for the default action, which so applies from the second signal on.
        let next_by_default = flag::register(SIGINT, Arc::clone(claim.by_default())).ok()?;
        let read = ReadSignal::start(lp, reader, Heard::Interrupt);
        Some(Interrupt { next_by_default, read, _claim: claim })
    }
}

/// Ends the process by SIGINT's default action.
pub(crate) fn end_by_sigint() {
    // Fails only for unknown signals.
    let _ = low_level::emulate_default_handler(SIGINT);
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        low_level::unregister(self.next_by_default);
        self.read.on_loop(|lp, key| lp.driver.cancel(key));
    }
}

/// Whether SIGINT has its default action, or our handler that performs it.
fn is_ours() -> bool {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return false };
    let has = |field: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
        u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 1 << (SIGINT - 1) != 0)
    };
    !has("SigIgn:") && (claim::was_claimed(SIGINT) || !has("SigCgt:"))
}
