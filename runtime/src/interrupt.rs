//! Ctrl-C while a loop runs, as asyncio's `run` has it: the first SIGINT cancels the main future, and the process
//! ends by the signal once the loop has closed in order; the second one ends it at once.
//!
//! Only on the main thread, and only if nobody else handles SIGINT. Between runs the signal does what it did
//! before: the handler that stays installed then acts as the system's default.

use std::{
    fs,
    io::{self, PipeReader},
    os::fd::OwnedFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::{libc::SIGINT, unistd};
use signal_hook::{SigId, flag, low_level};

use crate::{
    current::{self, Loop},
    fd::Fd,
    op::{Done, OpKey, Operation, Sqe, inflight::InFlight},
};

/// Whether SIGINT does what it does by default.
static BY_DEFAULT: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// SIGINT is the running loop's until this is dropped.
pub(crate) struct Interrupt {
    actions: [SigId; 2],
    by_default: &'static AtomicBool,
    read: OpKey,
}

impl Interrupt {
    /// `None` where SIGINT is not ours to handle; a loop runs without it, too.
    pub(crate) fn install(lp: &Loop) -> Option<Interrupt> {
        if unistd::gettid() != unistd::getpid() || lp.driver.with_sim(|_| ()).is_some() || !is_ours() {
            return None;
        }
        let by_default = by_default()?;
        let (reader, writer) = io::pipe().ok()?;
        let told = low_level::pipe::register(SIGINT, OwnedFd::from(writer)).ok()?;
        // Runs after the default action, which so comes with the second signal.
        let Ok(next_by_default) = flag::register(SIGINT, Arc::clone(by_default)) else {
            low_level::unregister(told);
            return None;
        };
        by_default.store(false, Ordering::SeqCst);
        let read = lp.driver.submit(InFlight::Resident(Box::new(ReadInterrupt::new(reader))));
        Some(Interrupt { actions: [told, next_by_default], by_default, read })
    }

    /// Ends the process by SIGINT, as it would have ended at first.
    pub(crate) fn finish(self) {
        drop(self);
        // Fails only for signals that it does not know.
        let _ = low_level::emulate_default_handler(SIGINT);
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        for action in self.actions {
            low_level::unregister(action);
        }
        self.by_default.store(true, Ordering::SeqCst);
        current::try_with(|lp| lp.driver.cancel(self.read));
    }
}

/// Installs what stands for the default action, once in a process.
fn by_default() -> Option<&'static Arc<AtomicBool>> {
    if let Some(known) = BY_DEFAULT.get() {
        return Some(known);
    }
    let on = Arc::new(AtomicBool::new(true));
    flag::register_conditional_default(SIGINT, Arc::clone(&on)).ok()?;
    Some(BY_DEFAULT.get_or_init(|| on))
}

/// Whether SIGINT has its default action, or the one that stands for it.
fn is_ours() -> bool {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return false };
    let has = |field: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
        u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 1 << (SIGINT - 1) != 0)
    };
    !has("SigIgn:") && (BY_DEFAULT.get().is_some() || !has("SigCgt:"))
}

/// Reads the byte that the signal's handler writes.
struct ReadInterrupt {
    fd: Fd,
    byte: [u8; 1],
}

impl ReadInterrupt {
    fn new(reader: PipeReader) -> ReadInterrupt {
        ReadInterrupt { fd: OwnedFd::from(reader).into(), byte: [0] }
    }
}

impl Operation for ReadInterrupt {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        Sqe::read(&self.fd, &mut self.byte)
    }

    fn complete(self: Box<Self>, done: Done) {
        if done.count().is_ok_and(|n| n > 0) {
            current::try_with(|lp| lp.interrupted.set(true));
        }
    }
}
