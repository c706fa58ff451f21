//! The sending half of a stream: at most one send in flight, everything written in a turn in one.
//!
//! ```text
//!   write ──▶ next (a batch of segments) ──end of turn──▶ in flight ──all sent──▶ idle, or the next batch
//!                                            ▲                │
//!                                            └── partial ─────┘   error: broken, what is left is dropped
//! ```

use std::{io, net::Shutdown, task::Waker};

use corio_runtime::op::{self, OpKey};

use super::{
    errno,
    table::{Slot, Streams},
};
use crate::ops::{Segment, Send as Batch};

/// asyncio's marks: `drain` waits above the one until the other.
pub(super) const HIGH_WATER: usize = 64 << 10;
pub(super) const LOW_WATER: usize = 16 << 10;
/// Owned data from this size on goes out without a copy, also behind other data.
pub(super) const OWNED_MIN: usize = 8 << 10;

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Send {
    next: Option<Box<Batch>>,
    /// Bytes of `next` and of what is in flight.
    pub(super) queued: usize,
    pub(super) in_flight: Option<OpKey>,
    dirty: bool,
    pub(super) high: usize,
    pub(super) low: usize,
    /// Who waits for the low-water mark. One at most: waiting takes the writer by `&mut`.
    pub(super) drainer: Option<Waker>,
    pub(super) phase: Phase,
    shut_down: bool,
    pub(super) broken: i32,
    /// An abort dropped data.
    pub(super) cut: bool,
}

/// How far the writer is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Open,
    /// `write_eof`: the direction is shut down once everything is sent.
    Eof,
    /// `close`: everything is closed once everything is sent.
    Closing,
    Closed,
}

impl Send {
    pub(super) fn new() -> Send {
        Send {
            next: None,
            queued: 0,
            in_flight: None,
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

    /// Whether data is still on its way.
    pub(super) fn busy(&self) -> bool {
        self.queued > 0 && self.phase < Phase::Closed && self.broken == 0
    }

    pub(super) fn error(&self) -> Option<io::Error> {
        (self.broken != 0).then(|| io::Error::from_raw_os_error(self.broken))
    }
}

impl Slot {
    #[inline(always)]
    fn batch<'s>(&'s mut self, streams: &Streams) -> &'s mut Batch {
        let index = self.index;
        self.send.next.get_or_insert_with(|| {
            let mut batch = streams.batches.borrow_mut().pop().unwrap_or_else(new_batch);
            batch.slot = index;
            batch
        })
    }

    #[inline(never)]
    pub(super) fn write_copy(&mut self, streams: &Streams, data: &[u8]) {
        if !data.is_empty() {
            self.send.queued += data.len();
            self.batch(streams).copy(data);
            self.mark_dirty(streams);
        }
    }

    /// Takes `data` to send it as it is, unless it is small and follows other data: then it is copied.
    #[inline(always)]
    pub(super) fn write_owned<D: AsRef<[u8]>>(
        &mut self,
        streams: &Streams,
        data: &mut Option<D>,
        segment: impl FnOnce(D) -> Segment,
    ) {
        let bytes = data.as_ref().map_or(&[][..], D::as_ref);
        let len = bytes.len();
        let behind = self.send.next.is_some() || self.send.in_flight.is_some();
        if len == 0 || len < OWNED_MIN && behind {
            self.write_copy(streams, bytes);
        } else if let Some(data) = data.take() {
            self.send.queued += len;
            self.batch(streams).push(data, len, segment);
            self.mark_dirty(streams);
        }
    }

    /// Puts the stream on the list of those that `flush` looks at, at the end of the turn.
    #[inline(always)]
    pub(super) fn mark_dirty(&mut self, streams: &Streams) {
        if !self.send.dirty {
            self.send.dirty = true;
            streams.dirty.borrow_mut().push(self.index);
        }
    }

    /// `flush`, apart from the path of the sends that are alone.
    #[inline(never)]
    fn flush_again(&mut self) {
        self.flush();
    }

    /// Sends what was written; if that is all sent, goes on with the end that was asked for.
    #[inline(always)]
    pub(super) fn flush(&mut self) {
        self.send.dirty = false;
        if self.send.in_flight.is_some() {
            return;
        }
        if let Some(mut batch) = self.send.next.take_if(|batch| batch.len > 0)
            && let Some(fd) = &self.fd
        {
            batch.fd = Some(fd.clone());
            batch.pipe = self.pipe;
            // A silent send does not end the loop's sleep, so nobody may wait for it.
            batch.silent = self.send.drainer.is_none()
                && self.send.queued <= self.send.high
                && self.send.phase == Phase::Open;
            self.send.in_flight = Some(op::start(batch));
            return;
        }
        if self.send.phase != Phase::Open {
            self.go_on_closing();
        }
    }

    /// Everything is sent: takes the next step of the end that was asked for.
    #[inline(never)]
    fn go_on_closing(&mut self) {
        match self.send.phase {
            // Its one direction is all there is.
            Phase::Eof if self.one_way => self.close_fd(),
            Phase::Eof if !self.send.shut_down => {
                self.send.shut_down = true;
                if let Some(fd) = &self.fd {
                    // One that is gone already needs no end.
                    let _ = fd.shutdown(Shutdown::Write);
                }
            }
            Phase::Closing => self.close_fd(),
            Phase::Open | Phase::Eof | Phase::Closed => {}
        }
    }

    /// Everything is sent: lets go of the socket. A receive in flight would hold the FIN back, so the
    /// connection is shut down first, which also ends the receive.
    pub(super) fn close_fd(&mut self) {
        self.send.phase = Phase::Closed;
        if let Some(fd) = self.fd.take()
            && (self.receive.in_flight() || self.send.in_flight.is_some())
        {
            let _ = fd.shutdown(Shutdown::Both);
            self.receive.cancel();
        }
    }

    /// The connection cannot send any more: what is left is dropped, and every `drain` and `write` says so. The
    /// reader gets what has arrived, then the same error: nobody waits for answers to what was not sent.
    fn break_send(&mut self, streams: &Streams, errno: i32) {
        self.send.broken = errno;
        if let Some(fd) = &self.fd {
            let _ = fd.shutdown(Shutdown::Both);
        }
        self.send.drop_unsent(streams);
        if self.send.phase == Phase::Closing || self.one_way && self.send.phase == Phase::Eof {
            self.close_fd();
        }
    }
}

impl Streams {
    /// A send came back from the kernel, with a count or a negated error number.
    #[inline(always)]
    pub(crate) fn sent(&self, mut batch: Box<Batch>, result: i32) {
        match usize::try_from(result) {
            Ok(count) if count >= batch.len => self.all_sent(batch),
            Ok(count) => {
                batch.consume(count);
                self.send_rest(batch, count);
            }
            Err(_) if matches!(-result, errno::EAGAIN | errno::EINTR) => self.send_rest(batch, 0),
            Err(_) => self.send_failed(batch, -result),
        }
    }

    #[inline(always)]
    fn all_sent(&self, batch: Box<Batch>) {
        let (index, sent) = (batch.slot, batch.len);
        self.recycle(batch);
        let after = self.with_slot(index, |slot| {
            slot.send.in_flight = None;
            slot.send.queued -= sent.min(slot.send.queued);
            if slot.send.next.is_some() || slot.send.phase != Phase::Open {
                slot.flush_again();
            }
            (slot.fd.is_none(), slot.send.take_drainer())
        });
        if let Some((closed, drainer)) = after {
            if closed {
                self.retire(index);
            }
            drainer.into_iter().for_each(Waker::wake);
        }
    }

    /// The rest may wait for the peer.
    #[cold]
    #[inline(never)]
    fn send_rest(&self, mut batch: Box<Batch>, sent: usize) {
        batch.silent = false;
        let index = batch.slot;
        let mut batch = Some(batch);
        let drainer = self.with_slot(index, |slot| {
            slot.send.queued -= sent.min(slot.send.queued);
            // An aborted stream sends nothing more.
            slot.send.in_flight = batch.take_if(|_| slot.fd.is_some()).map(op::start);
            slot.send.take_drainer()
        });
        if batch.is_some() {
            self.retire(index);
        }
        drainer.flatten().into_iter().for_each(Waker::wake);
    }

    #[cold]
    #[inline(never)]
    fn send_failed(&self, batch: Box<Batch>, errno: i32) {
        let index = batch.slot;
        self.recycle(batch);
        let drainer = self.with_slot(index, |slot| {
            slot.send.in_flight = None;
            slot.break_send(self, errno);
            slot.send.drainer.take()
        });
        self.retire(index);
        drainer.flatten().into_iter().for_each(Waker::wake);
    }

    #[inline(always)]
    fn recycle(&self, mut batch: Box<Batch>) {
        batch.clear();
        batch.fd = None;
        let mut batches = self.batches.borrow_mut();
        if batches.len() < 256 {
            batches.push(batch);
        }
    }
}

#[cold]
#[inline(never)]
fn new_batch() -> Box<Batch> {
    Box::default()
}

impl Send {
    /// Who waits for the low-water mark, once it is reached.
    fn take_drainer(&mut self) -> Option<Waker> {
        self.drainer.take_if(|_| self.queued <= self.low)
    }

    /// Makes `waker` the one that waits, and gives back whom it replaces: that one's destructor is foreign code.
    #[inline(never)]
    pub(super) fn wait(&mut self, waker: &Waker) -> Option<Waker> {
        if self.drainer.as_ref().is_some_and(|old| old.will_wake(waker)) {
            return None;
        }
        self.drainer.replace(waker.clone())
    }

    /// Gives the batch up. Its destructors are foreign code, so `retire` runs them.
    pub(super) fn drop_unsent(&mut self, streams: &Streams) {
        streams.unsent.borrow_mut().extend(self.next.take());
        self.queued = 0;
    }
}
