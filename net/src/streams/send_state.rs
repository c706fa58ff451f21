//! State of a stream's sending half: data to send, the send in flight, and how far the writer has closed.

use std::{io, task::Waker};

use corio_runtime::op::{self, OpKey};

use super::news::News;
use crate::ops::Load;

/// asyncio's water marks: if more than the high one is queued, `drain` waits for the low one.
pub(super) const HIGH_WATER: usize = 64 << 10;
pub(super) const LOW_WATER: usize = 16 << 10;

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Send {
    pub(super) next: Option<Load>,
    /// Bytes of `next` and of the send in flight, if that is not silent.
    pub(super) queued: usize,
    /// The send in flight, or the last silent send, which may have ended: only the loop knows.
    pub(super) last: Option<OpKey>,
    pub(super) dirty: bool,
    pub(super) high: usize,
    pub(super) low: usize,
    /// The task that waits for the low-water mark; one at most, as waiting takes the writer by `&mut`.
    pub(super) drainer: Option<Waker>,
    pub(super) phase: Phase,
    pub(super) shut_down: bool,
    pub(super) broken: i32,
    /// An abort dropped data.
    pub(super) cut: bool,
}

/// How far the writer has closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Open,
    /// `write_eof`: shuts down the sending side once everything is sent.
    Eof,
    /// `close`: closes the socket once everything is sent.
    Closing,
    /// Everything is sent; what the peer sends is discarded until its end of stream.
    Lingering,
    Closed,
}

impl Send {
    pub(super) fn new() -> Send {
        Send {
            next: None,
            queued: 0,
            last: None,
            dirty: false,
            high: HIGH_WATER,
            low: LOW_WATER,
            drainer: None,
            phase: Phase::Open,
            shut_down: false,
            broken: 0,
            cut: false,
        }
    }

    pub(super) fn closing(&self) -> bool {
        self.phase >= Phase::Closing
    }

    /// Whether a silent send is in flight.
    pub(super) fn is_silent(&self) -> bool {
        self.last.is_some_and(|key| key.is_silent() && op::is_in_flight(key))
    }

    /// The send in flight, if it is not silent.
    #[inline(always)]
    pub(super) fn in_flight(&self) -> Option<OpKey> {
        self.last.filter(|key| !key.is_silent())
    }

    pub(super) fn error(&self) -> Option<io::Error> {
        match self.broken {
            0 => None,
            libc::ETIMEDOUT if self.cut => Some(gave_up()),
            errno => Some(io::Error::from_raw_os_error(errno)),
        }
    }

    /// After a write: the latest news if `drain` would not wait.
    #[inline(always)]
    pub(super) fn calm(&self) -> News {
        if self.queued <= self.high { News::latest() } else { News::NONE }
    }

    /// Whether the next send may be silent: nobody waits for it. A silent send does not end the loop's sleep.
    #[inline(always)]
    pub(super) fn can_be_silent(&self) -> bool {
        self.phase == Phase::Open
            && self.last.is_none_or(OpKey::is_silent)
            && self.drainer.is_none()
            && self.queued <= self.high
    }

    /// `next` was submitted as `key`.
    #[inline(always)]
    pub(super) fn started(&mut self, key: OpKey) {
        self.last = Some(key);
        if key.is_silent() {
            self.queued = 0;
        }
    }

    /// A completion reports that a send of `len` bytes failed or was partial. `false` if none is in flight.
    pub(super) fn reported(&mut self, len: usize) -> bool {
        let Some(key) = self.last else { return false };
        if !key.is_silent() {
            return true;
        }
        self.last = None;
        self.queued += len;
        News::happened();
        self.cut |= self.phase == Phase::Closed;
        true
    }

    /// The task that waits for the low-water mark, once it is reached.
    pub(super) fn take_drainer(&mut self) -> Option<Waker> {
        self.drainer.take_if(|_| self.queued <= self.low)
    }

    /// Registers `waker`. Returns the waker that it replaces: its destructor is foreign code.
    #[inline(never)]
    pub(super) fn wait(&mut self, waker: &Waker) -> Option<Waker> {
        if self.drainer.as_ref().is_some_and(|old| old.will_wake(waker)) {
            return None;
        }
        self.drainer.replace(waker.clone())
    }

    /// Drops what is not in flight. Its destructors are foreign code, so `retire` runs them.
    pub(super) fn drop_unsent(&mut self, unsent: &mut Vec<Load>) {
        unsent.extend(self.next.take());
        self.queued = 0;
    }
}

/// The error after a linger limit.
fn gave_up() -> io::Error {
    let text = "the peer took nothing for the time that `linger` allows: the connection was reset";
    io::Error::new(io::ErrorKind::TimedOut, text)
}
