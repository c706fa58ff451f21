//! State of a stream's receiving half: unread bytes, the armed receive, and the kind of the next one.

use std::{io, mem, task::Waker};

use corio_runtime::op::{self, OpKey};

use super::{
    chunk::{Block, Chunk},
    news::News,
};

/// A reader that waits for this many bytes gets a bulk receive.
const LARGE_DEMAND: usize = 16 << 10;
pub(super) const BULK_MIN: usize = 16 << 10;
pub(super) const BULK_START: usize = 64 << 10;
pub(super) const BULK_MAX: usize = 256 << 10;
/// Two bulk receives in a row with fewer bytes than this end the bulk mode. One is just the tail of a large message.
pub(super) const SHORT: usize = 4 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Armed {
    Idle,
    Multi(OpKey),
    Single(OpKey),
    /// A receive into the caller's buffer.
    Owned,
    /// End of stream, or a failure with this error number if not 0.
    Ended(i32),
}

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Receive {
    pub(super) buf: Chunk,
    pub(super) armed: Armed,
    pub(super) limit: usize,
    pub(super) waker: Option<Waker>,
    /// Bytes that a waiting reader still needs; 0 if nobody waits.
    pub(super) wanted: usize,
    pub(super) full_run: u8,
    /// Full pool buffers that this multishot receive has brought.
    pub(super) full: u8,
    /// Size of the next bulk receive; 0 for a multishot.
    pub(super) bulk: usize,
    /// The last receive was a short bulk receive.
    pub(super) short: bool,
    /// The pool was empty: the next receive is a single one.
    pub(super) starved: bool,
    /// In `Common::due`: the end of the turn arms a receive.
    pub(super) due: bool,
    pub(super) cancelling: bool,
    /// The reader is gone or the stream closes: received bytes are discarded.
    pub(super) discarded: bool,
}

impl Receive {
    pub(super) fn new(limit: usize) -> Receive {
        Receive {
            buf: Chunk::default(),
            armed: Armed::Idle,
            limit,
            waker: None,
            wanted: 0,
            full_run: 0,
            full: 0,
            bulk: 0,
            short: false,
            starved: false,
            due: false,
            cancelling: false,
            discarded: false,
        }
    }

    /// Whether so much is unread that no receive is armed.
    pub(super) fn is_full(&self) -> bool {
        self.buf.len() > self.limit && self.wanted == 0
    }

    pub(super) fn at_eof(&self) -> bool {
        self.at_end() && self.buf.is_empty()
    }

    /// Whether the reader gets no more bytes than are buffered.
    pub(super) fn at_end(&self) -> bool {
        self.has_ended() || self.discarded
    }

    /// Whether the peer has ended its side, or the connection has failed.
    #[inline(always)]
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.armed, Armed::Ended(_))
    }

    /// Whether a receive is in flight.
    pub(super) fn in_flight(&self) -> bool {
        matches!(self.armed, Armed::Multi(_) | Armed::Single(_) | Armed::Owned)
    }

    /// The error that ended the stream.
    pub(super) fn error(&self) -> Option<io::Error> {
        match self.armed {
            Armed::Ended(errno) if errno != 0 => Some(io::Error::from_raw_os_error(errno)),
            _ => None,
        }
    }

    /// Registers `waker`. Returns the waker that it replaces: its destructor is foreign code.
    #[inline(always)]
    pub(super) fn wait(&mut self, waker: &Waker) -> Option<Waker> {
        match &self.waker {
            None => {
                // The old value is `None`; `forget` spares the compiler's drop check.
                mem::forget(self.waker.replace(waker.clone()));
                None
            }
            Some(old) if old.will_wake(waker) => None,
            Some(_) => self.waker.replace(waker.clone()),
        }
    }

    pub(super) fn cancel(&mut self) {
        if let Armed::Multi(key) | Armed::Single(key) = self.armed
            && !self.cancelling
        {
            self.cancelling = true;
            op::cancel(key);
        }
    }

    pub(super) fn demand_is_large(&self) -> bool {
        self.wanted >= LARGE_DEMAND
    }

    pub(super) fn append(&mut self, data: &[u8]) {
        let more = if self.full_run > 0 { 3 * data.len() } else { 0 };
        self.buf.append(data, more);
    }

    /// The common case: a small message, and nothing buffered. `false` if it is not that case.
    #[inline(always)]
    pub(super) fn take_first(&mut self, data: &[u8], full: bool) -> bool {
        let first = self.buf.is_vacant() && !self.discarded && !full;
        if first {
            self.full_run = 0;
            // The old value is vacant; `forget` spares the compiler's drop check.
            mem::forget(mem::replace(&mut self.buf, Block::copied(data).into()));
        }
        first
    }

    /// Notes how much a bulk receive of `asked` bytes brought, and sizes the next one.
    pub(super) fn learn(&mut self, count: usize, asked: usize) {
        let again = mem::take(&mut self.short);
        if count >= asked {
            self.bulk = (2 * asked).clamp(BULK_MIN, BULK_MAX);
        } else if count < SHORT {
            self.full_run = 0;
            self.short = self.bulk > 0 && !again;
            if !self.short {
                self.bulk = 0;
            }
        } else if 4 * count < asked {
            self.bulk = (asked / 2).max(BULK_MIN);
        }
    }

    pub(super) fn end(&mut self, errno: i32) {
        self.armed = Armed::Ended(errno);
        News::happened();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_tail_of_a_large_message_does_not_end_bulk_receives() {
        let mut receive = Receive::new(64 << 10);
        receive.bulk = BULK_MAX;
        for _ in 0..10 {
            receive.learn(130_966, BULK_MAX);
            receive.learn(106, BULK_MAX);
            assert_eq!(receive.bulk, BULK_MAX);
        }
        receive.learn(106, BULK_MAX);
        assert_eq!(receive.bulk, 0, "two short ones do");
        // The multishot got all of the next large message but its tail.
        receive.bulk = BULK_START;
        receive.learn(106, BULK_START);
        assert_eq!(receive.bulk, BULK_START, "these are not in a row");
    }

    #[test]
    fn bulk_receives_grow_while_they_are_filled_and_shrink_while_they_are_not() {
        let mut receive = Receive::new(64 << 10);
        let sizes = |receive: &mut Receive, count: fn(usize) -> usize| {
            [(); 4].map(|()| {
                receive.learn(count(receive.bulk), receive.bulk);
                receive.bulk >> 10
            })
        };
        receive.bulk = BULK_START;
        assert_eq!(sizes(&mut receive, |asked| asked), [128, 256, 256, 256]);
        assert_eq!(sizes(&mut receive, |asked| asked / 2), [256; 4]);
        assert_eq!(sizes(&mut receive, |_| SHORT), [128, 64, 32, 16]);
    }
}
