//! Which accepts of a listener are armed, and the backoff after errors.
//!
//! ```text
//!            arm                a connection, or an error of one: arm again
//!   Idle ─────────▶ Armed (1 to 8 accepts) ──────▶
//!    ▲                │ any other error, or many in a row
//!    └── timer, or ───┴──▶ Paused (5 ms, doubling to 1 s)
//!        a freed fd
//! ```
//! Each accept takes one connection, so no more come than there is room for; the rest waits in the kernel's accept
//! queue. (A multishot accept would take more until its cancel arrives.)

use std::time::{Duration, Instant};

use corio_runtime::{
    TimerHandle,
    fd::Fd,
    op::{self, OpKey, PeerAddr},
    time::now,
};

use super::key::ListenerKey;
use crate::ops::Accept;

/// Accepts armed at once, at most: so many connections can come in one turn without another `enter`.
const ARMED_MAX: usize = 8;
/// More errors of single connections in a row than this count as an error of the listener.
const ERRORS_MAX: u32 = 16;
const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Accepting {
    armed: [Option<OpKey>; ARMED_MAX],
    pause: Option<Pause>,
    backoff: Duration,
    /// Errors since the last success.
    errors: u32,
    last_report: Option<Instant>,
}

/// The listener accepts nothing for a while.
#[derive(Debug)]
struct Pause {
    timer: TimerHandle,
    for_resources: bool,
}

/// What an error of an accept means for the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A failure of one connection: the next accept may succeed.
    Connection,
    /// Descriptors or memory have run out.
    Resources,
    /// The listening socket is unusable.
    Socket,
    /// Any other error: the next accept would probably fail, too.
    Other,
}

impl Accepting {
    pub(super) fn new() -> Accepting {
        Accepting {
            armed: [None; ARMED_MAX],
            pause: None,
            backoff: BACKOFF_MIN,
            errors: 0,
            last_report: None,
        }
    }

    /// Accepts in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.armed.iter().flatten().count()
    }

    /// Whether one more accept may be armed. After an error, only one is in flight.
    pub(super) fn may_arm(&self) -> bool {
        let most = if self.errors == 0 { ARMED_MAX } else { 1 };
        self.pause.is_none() && self.in_flight() < most
    }

    /// Arms one more accept, reusing `spare`.
    pub(super) fn arm(&mut self, fd: &Fd, listener: ListenerKey, spare: Option<Box<Accept>>) {
        let Some(number) = self.armed.iter().position(Option::is_none) else { return };
        let mut accept = spare
            .unwrap_or_else(|| Box::new(Accept { fd: fd.clone(), listener, number, peer: PeerAddr::new() }));
        accept.number = number;
        self.armed[number] = Some(op::start(accept));
    }

    pub(super) fn ended(&mut self, number: usize) {
        self.armed[number] = None;
    }

    /// Cancels all accepts. Each still completes, maybe with a connection.
    pub(super) fn cancel(&self) {
        self.armed.iter().flatten().for_each(|key| op::cancel(*key));
    }

    /// An accept has succeeded.
    pub(super) fn succeeded(&mut self) {
        (self.errors, self.backoff) = (0, BACKOFF_MIN);
    }

    /// An accept has failed; returns what that means for the listener.
    pub(super) fn failed(&mut self, errno: i32) -> Fault {
        self.errors = self.errors.saturating_add(1);
        match fault(errno) {
            Fault::Connection if self.errors > ERRORS_MAX => Fault::Other,
            fault => fault,
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    pub(super) fn is_paused_for_resources(&self) -> bool {
        self.pause.as_ref().is_some_and(|pause| pause.for_resources)
    }

    /// Length of the next pause.
    pub(super) fn backoff(&self) -> Duration {
        self.backoff
    }

    /// Pauses until `timer` fires. Whether a report is due.
    pub(super) fn pause(&mut self, timer: TimerHandle, for_resources: bool) -> bool {
        self.pause = Some(Pause { timer, for_resources });
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        let now = now();
        let due = self.last_report.is_none_or(|last| now.saturating_duration_since(last) >= REPORT_EVERY);
        if due {
            self.last_report = Some(now);
        }
        due
    }

    /// Ends the pause. Whether there was one.
    pub(super) fn resume(&mut self) -> bool {
        let pause = self.pause.take();
        pause.map(|pause| pause.timer.cancel()).is_some()
    }
}

fn fault(errno: i32) -> Fault {
    match errno {
        libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => Fault::Resources,
        libc::EBADF | libc::EINVAL | libc::ENOTSOCK => Fault::Socket,
        // Errors of the new socket, as listed in accept(2), and interruptions of the operation itself.
        libc::EINTR
        | libc::EAGAIN
        | libc::ECANCELED
        | libc::ECONNABORTED
        | libc::ECONNRESET
        | libc::EPROTO
        | libc::ENOPROTOOPT
        | libc::EOPNOTSUPP
        | libc::ENETDOWN
        | libc::ENETUNREACH
        | libc::EHOSTDOWN
        | libc::EHOSTUNREACH
        | libc::ENONET
        | libc::ETIMEDOUT => Fault::Connection,
        _ => Fault::Other,
    }
}
