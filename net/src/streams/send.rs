//! The sending half of a stream: at most one send in flight. Everything written in a turn leaves as one send.
//!
//! ```text
//!    write ──▶ next (a block, or a batch) ──end of turn──▶ in flight ──all sent──▶ idle, or the next send
//!                                             ▲                │
//!                                             └─ partial send ─┘   error: broken, unsent data is dropped
//! ```
//! Nearly all sends are silent: such a send counts as sent at its submission, and has a completion only if it failed or
//! was partial. While one of an earlier turn is in flight, the end of a turn submits nothing (`Streams::flush`).

use corio_runtime::{
    op::{Sends, TurnEnd},
    wake,
};

use super::{
    chunk::{Chunk, recycle},
    common::Common,
    send_state::Phase,
    slot::Slot,
    table::Streams,
};
use crate::ops::{Batch, Load, OWNED_MIN, Segment, Way};

impl Slot {
    #[inline(never)]
    pub(super) fn write_copy(&mut self, common: &mut Common, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let next = match self.send.next.take() {
            None => Load::copied(data, || common.empty_batch()),
            Some(load) => load.then_copy(data, || common.empty_batch()),
        };
        self.queue(common, next, data.len());
    }

    /// Takes the chunk without a copy, unless it is small and follows other data.
    #[inline(always)]
    pub(super) fn write_chunk(&mut self, common: &mut Common, chunk: Chunk) {
        let len = chunk.len();
        if self.send.next.is_some() {
            self.write_chunk_behind(common, chunk);
        } else if len > 0
            && let Some(block) = chunk.into_block()
        {
            self.queue(common, Load::Block(block), len);
        }
    }

    #[inline(never)]
    fn write_chunk_behind(&mut self, common: &mut Common, chunk: Chunk) {
        let mut chunk = Some(chunk);
        self.write_owned(common, &mut chunk, Segment::Chunk);
    }

    /// Takes `data` without a copy, unless it is small and follows other data.
    pub(super) fn write_owned<D: AsRef<[u8]>>(
        &mut self,
        common: &mut Common,
        data: &mut Option<D>,
        segment: impl FnOnce(D) -> Segment,
    ) {
        let bytes = data.as_ref().map_or(&[][..], D::as_ref);
        let len = bytes.len();
        let behind = self.send.next.is_some() || self.send.in_flight().is_some();
        if len == 0 || len < OWNED_MIN && behind {
            self.write_copy(common, bytes);
        } else if let Some(data) = data.take() {
            let next = self.send.next.take().unwrap_or_else(|| Load::Batch(common.empty_batch()));
            let next = next.then(segment(data), || common.empty_batch());
            self.queue(common, next, len);
        }
    }

    /// Makes `next`, which has grown by `more` bytes, the next send.
    #[inline(always)]
    fn queue(&mut self, common: &mut Common, next: Load, more: usize) {
        self.send.next = Some(next);
        self.send.queued += more;
        self.mark_dirty(common);
    }

    /// The common case at the end of a turn: a silent send of one block. `false` if it is not that case.
    #[inline(always)]
    pub(super) fn flush_block(&mut self, sends: &mut Sends<'_>) -> bool {
        let send = &mut self.send;
        if let Some(Load::Block(_) | Load::Copies(_)) = &send.next
            && self.way == Way::Socket
            && send.can_be_silent()
            && let Some(fd) = &self.fd
            && let Some(Load::Block(block) | Load::Copies(block)) = send.next.take()
        {
            send.dirty = false;
            send.started(sends.send(fd, block, self.index));
            return true;
        }
        false
    }

    /// Sends what was written; with everything sent, continues `write_eof` or `close`. No silent send of the stream may
    /// be in flight.
    pub(super) fn flush(&mut self, common: &mut Common, end: Option<TurnEnd<'_>>) {
        let send = &mut self.send;
        send.dirty = false;
        if send.in_flight().is_some() {
            return;
        }
        let end = end.filter(|_| send.can_be_silent());
        if let Some(fd) = &self.fd
            && let Some(load) = send.next.take()
        {
            let key = load.start(fd, self.index, self.way, end, || common.empty_batch());
            send.started(key);
            return;
        }
        if send.phase != Phase::Open {
            self.go_on_closing(common);
        }
    }

    /// Everything is sent: takes the next step of `write_eof` or `close`.
    #[inline(never)]
    fn go_on_closing(&mut self, common: &mut Common) {
        match self.send.phase {
            // A pipe has one direction: closing it is its end of stream.
            Phase::Eof if self.one_way => self.close_fd(),
            Phase::Eof => self.shut_down_writing(),
            Phase::Closing => self.finish(common),
            Phase::Open | Phase::Lingering | Phase::Closed => {}
        }
    }
}

impl Streams {
    /// A send has completed, with a count or a negated error number.
    pub(crate) fn sent(&self, index: u32, load: Load, result: i32) {
        match usize::try_from(result) {
            Ok(count) if count >= load.len() => self.all_sent(index, load),
            _ => self.not_all_sent(index, load, result),
        }
    }

    fn all_sent(&self, index: u32, load: Load) {
        let sent = load.len();
        let after = self.with_slot(index, |common, slot| {
            slot.send.last = None;
            slot.send.queued -= sent.min(slot.send.queued);
            if slot.send.next.is_some() || slot.send.phase != Phase::Open {
                slot.flush(common, None);
            }
            (slot.send.closing(), slot.send.take_drainer())
        });
        if let Some((closing, drainer)) = after {
            drainer.into_iter().for_each(wake);
            if closing {
                self.retire(index);
            }
        }
        // Last: these destructors are foreign code.
        match load {
            Load::Block(block) | Load::Copies(block) => recycle(block),
            Load::Batch(batch) => self.keep_batch(batch),
        }
    }

    #[cold]
    #[inline(never)]
    fn not_all_sent(&self, index: u32, mut load: Load, result: i32) {
        if self.with_slot(index, |_, slot| slot.send.reported(load.len())) != Some(true) {
            return;
        }
        match result {
            0.. => {
                // Dropped at the end of the arm: its destructors are foreign code.
                let _sent = load.consume(result as usize);
                self.send_rest(index, load, result as usize);
            }
            _ if matches!(-result, libc::EAGAIN | libc::EINTR) => self.send_rest(index, load, 0),
            _ => self.send_failed(index, load, -result),
        }
    }

    /// Sends the rest of a partial send; this send may wait for the peer.
    fn send_rest(&self, index: u32, load: Load, sent: usize) {
        let mut load = Some(load);
        let drainer = self.with_slot(index, |common, slot| {
            slot.send.queued -= sent.min(slot.send.queued);
            slot.send.last = None;
            // An aborted stream sends nothing more.
            if let Some(fd) = &slot.fd
                && let Some(rest) = load.take()
            {
                slot.send.last = Some(rest.start(fd, index, slot.way, None, || common.empty_batch()));
            }
            slot.send.take_drainer()
        });
        drainer.flatten().into_iter().for_each(wake);
        if load.is_some() {
            self.retire(index);
        }
        drop(load);
    }

    fn send_failed(&self, index: u32, load: Load, errno: i32) {
        let waiters = self.with_slot(index, |common, slot| {
            slot.send.last = None;
            slot.break_send(common, errno);
            [slot.send.drainer.take(), slot.take_close_waiter()]
        });
        waiters.into_iter().flatten().flatten().for_each(wake);
        self.retire(index);
        drop(load);
    }

    /// Empties a batch and returns it to the pool.
    pub(crate) fn keep_batch(&self, mut batch: Box<Batch>) {
        batch.clear();
        self.with_common(|common| common.keep_batch(batch));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::{
        open_connection,
        streams::{Block, table::running},
    };

    #[test]
    fn a_report_of_a_send_that_is_not_on_its_way_is_nobodys() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        corio_runtime::run(async {
            let (_reader, mut writer) = open_connection(listener.local_addr().unwrap()).await.unwrap();
            let mut peer = listener.accept().unwrap().0;
            for result in [3, 0, -libc::EAGAIN, -libc::ECONNRESET] {
                let load = Load::Block(Block::copied(b"not this"));
                running(|streams| streams.sent(writer.key.slot, load, result));
                writer.write_all(b"this").await.unwrap();
                writer.flush().await.unwrap();
            }
            drop(writer);
            corio_runtime::time::sleep(std::time::Duration::from_millis(1)).await;
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            assert_eq!(all, b"this".repeat(4));
        });
    }
}
