//! The receiving half of a stream: which receive is armed, and when.
//!
//! ```text
//!           small messages                    data with F_MORE: stays armed
//!         ┌───────────────────────▶ Multi ────┐
//!         │ bulk, pipe or empty pool;         │ final completion
//!    Idle ┼ a reader waits ───────▶ Single ───┼──────────────────▶ Idle again; Ended after end of stream or error
//!         │ read into a caller's buffer       │
//!         └───────────────────────▶ Owned ────┘
//! ```
//! A quiet stream has a multishot receive armed and owns no memory: each completion brings a provided buffer of the
//! loop's pool, whose bytes are copied out at once. Full buffers in a row, or a reader that waits for much, make a
//! stream bulk: then a single receive fills a block of the stream's own, within a memory budget of the loop. Two short
//! bulk receives in a row end that. While more than `limit` bytes are unread, a receive is armed only for a reader that
//! waits.
//!
//! A single receive is submitted at the end of the turn, after the sends: the kernel executes these first, so the
//! answer may have arrived when the receive is tried.

use std::mem;

use corio_runtime::op::{self, Arrivals, Done, Op, Prepared};

use super::{
    chunk::Chunk,
    common::Common,
    receive_state::{Armed, BULK_MIN, BULK_START, SHORT},
    send_state::Phase,
    slot::Slot,
    table::{Streams, taken},
};
use crate::ops::{ByThread, RecvInto, RecvOnce, Way, Work};

/// A stream turns bulk after this many full pool buffers in a row.
const FULL_RUN: u8 = 4;
/// A multishot receive should end after this many full pool buffers: it may miss a reset that is queued behind the
/// data. A kernel that knows caps ends it earlier by itself.
const FULL_MAX: u8 = 32;
/// Memory of all armed bulk receives of one loop.
const BULK_BUDGET: usize = 16 << 20;
/// A bulk receive after a short one must fit into this part of the budget: its stream may be idle from now on.
const IDLE_BUDGET: usize = 4 << 20;

/// The receive to arm next, in state `Idle`.
enum Next {
    Nothing,
    Multi { cap: u32 },
    Single { size: usize },
}

impl Slot {
    /// Arms a receive if the stream wants one. A multishot is armed at once, ahead of the reader; a single receive,
    /// which holds memory, at the end of the turn and only for a reader that waits.
    #[inline(always)]
    pub(super) fn arm_receive(&mut self, common: &mut Common) {
        if self.receive.armed == Armed::Idle && !self.receive.due {
            self.arm_idle(common);
        }
    }

    #[inline(never)]
    fn arm_idle(&mut self, common: &mut Common) {
        match self.next_receive(self.receive.wanted > 0, common) {
            Next::Nothing => {}
            Next::Multi { cap } => self.arm_multi(cap, common),
            Next::Single { .. } => {
                self.receive.due = true;
                common.due.push(self.index);
            }
        }
    }

    /// At the end of a turn, after its sends: arms the receive, even if no reader waits any more. A read that is a
    /// single poll leaves no demand behind.
    pub(super) fn arm_due(&mut self, common: &mut Common) {
        // `due` is unset if the slot has a new stream by now.
        let due = mem::take(&mut self.receive.due);
        if !due || self.receive.armed != Armed::Idle {
            return;
        }
        match self.next_receive(true, common) {
            Next::Nothing => {}
            Next::Multi { cap } => self.arm_multi(cap, common),
            Next::Single { size } => self.arm_single(size, common),
        }
    }

    fn next_receive(&mut self, waits: bool, common: &Common) -> Next {
        let closing = self.send.closing();
        let receive = &mut self.receive;
        let room = waits || receive.buf.len() <= receive.limit;
        let wanted = room && !receive.discarded && (self.ahead || waits);
        if self.fd.is_none() || !wanted && (!closing || self.one_way) {
            return Next::Nothing;
        }
        if closing {
            (receive.bulk, receive.short) = (0, false);
        }
        if receive.bulk == 0 && receive.demand_is_large() {
            receive.bulk = BULK_START;
        }
        let budget = if receive.short { IDLE_BUDGET } else { BULK_BUDGET };
        let bulk = receive.bulk > 0 && common.bulk_armed + receive.bulk <= budget;
        if !bulk && !receive.starved && self.way == Way::Socket {
            let kept = if closing { 0 } else { receive.buf.len() };
            let room = (2 * receive.limit).saturating_sub(kept).max(receive.wanted).max(SHORT);
            return Next::Multi { cap: u32::try_from(room).unwrap_or(u32::MAX) };
        }
        if !waits && !receive.starved {
            return Next::Nothing;
        }
        let otherwise = if self.way == Way::Socket { SHORT } else { BULK_MIN };
        Next::Single { size: if bulk { receive.bulk } else { otherwise } }
    }

    fn arm_multi(&mut self, cap: u32, common: &Common) {
        let Some(fd) = &self.fd else { return };
        (self.receive.cancelling, self.receive.full) = (false, 0);
        self.receive.armed = Armed::Multi(op::receive(fd, cap, self.index, common.receiver));
    }

    fn arm_single(&mut self, size: usize, common: &mut Common) {
        let Some(fd) = &self.fd else { return };
        common.bulk_armed += size;
        let block = Chunk::with_capacity(size);
        let (fd, slot) = (fd.clone(), self.index);
        self.receive.starved = false;
        self.receive.cancelling = false;
        self.receive.armed = Armed::Single(match self.way {
            Way::Thread => op::start(Box::new(ByThread { fd, slot, work: Work::Read(block, size) })),
            way => op::start(Box::new(RecvOnce { fd, slot, block, size, pipe: way == Way::Pipe })),
        });
    }

    /// Takes the data of a multishot receive.
    #[inline(never)]
    fn add(&mut self, data: &[u8], full: bool) {
        let receive = &mut self.receive;
        receive.full_run = if full { receive.full_run.saturating_add(1) } else { 0 };
        receive.full = receive.full.saturating_add(full.into());
        if receive.full_run >= FULL_RUN && receive.bulk == 0 {
            receive.bulk = BULK_START;
        }
        if receive.discarded {
            self.throw_away(data.len());
        } else {
            receive.append(data);
        }
    }

    /// Takes data; whether the receive should be cancelled: the kernel knows no cap, the smallest cap is above the
    /// limit, or a large `readexactly` was dropped.
    #[inline(never)]
    fn add_more(&mut self, data: &[u8], full: bool) -> bool {
        self.add(data, full);
        let receive = &self.receive;
        let crowded = receive.buf.len() > 2 * receive.limit && receive.wanted == 0 && !receive.discarded;
        receive.full >= FULL_MAX || crowded
    }

    fn owned_ended(&mut self, done: &Done, empty: bool, common: &mut Common) {
        // It is the buffer's fault, and not the stream's.
        if empty && matches!(done.errno(), None | Some(libc::EFAULT)) {
            self.receive.armed = Armed::Idle;
        } else {
            self.receive_ended(done.number(), common);
        }
    }

    /// `result` is a count, or a negated error number.
    fn receive_ended(&mut self, result: i32, common: &mut Common) {
        let broken = self.send.broken;
        let receive = &mut self.receive;
        receive.armed = Armed::Idle;
        match result {
            0 => receive.end(broken),
            1.. => {}
            _ => match -result {
                libc::ENOBUFS => receive.starved = true,
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                errno => receive.end(errno),
            },
        }
        self.go_on_receiving(common);
    }

    /// Arms the next receive after one has ended, unless it was the last; then the connection may close, too.
    fn go_on_receiving(&mut self, common: &mut Common) {
        match self.receive.armed {
            Armed::Ended(errno) if errno != 0 && self.fd.is_some() => self.fail(common, errno),
            Armed::Ended(_) if self.send.phase == Phase::Lingering => self.close_fd(),
            _ => {
                self.arm_receive(common);
                if !self.receive.in_flight() {
                    self.watch_without_receive();
                }
            }
        }
    }

    fn deliver(&mut self, block: Chunk) {
        let receive = &mut self.receive;
        if receive.discarded || block.is_empty() {
            return self.throw_away(block.len());
        }
        if receive.buf.is_empty() {
            receive.buf = block;
        } else {
            receive.buf.append(&block, 0);
        }
    }

    /// Starts a receive into the caller's buffer, if the stream is still open and idle: the buffer's code has run
    /// meanwhile.
    pub(super) fn receive_owned<B: AsMut<[u8]> + 'static>(
        &mut self,
        receive: &mut Option<Prepared<RecvInto<B>>>,
    ) -> Option<Op<RecvInto<B>>> {
        if self.fd.is_none() || self.receive.armed != Armed::Idle {
            return None;
        }
        let started = receive.take()?.submit();
        self.receive.armed = Armed::Owned;
        Some(started)
    }
}

impl Streams {
    /// Data of multishot receives that stay armed.
    #[inline(always)]
    pub(crate) fn received(&self, arrivals: &mut Arrivals<'_>) {
        self.with_slots(|slots| {
            let mut crowded = Vec::new();
            arrivals.each(|index, data, full| {
                let slot = taken(slots, index)?;
                if !slot.receive.take_first(data, full) && slot.add_more(data, full) {
                    crowded.push(index);
                }
                slot.receive.waker.take()
            });
            for index in crowded {
                slots[index as usize].receive.cancel();
            }
        });
    }

    /// A multishot receive has ended.
    pub(crate) fn multi_ended(&self, index: u32, done: &Done) {
        self.update(index, |common, slot| {
            if let Some(data) = done.buffer() {
                slot.add(data, data.is_full());
            }
            slot.receive_ended(done.number(), common);
            slot.receive.waker.take()
        });
        self.retire(index);
    }

    /// A single receive of `asked` bytes has ended, with a count or a negated error number.
    pub(crate) fn once_ended(&self, index: u32, result: i32, mut block: Chunk, asked: usize) {
        self.with_common(|common| common.bulk_armed -= asked);
        self.update(index, |common, slot| {
            if let Ok(count @ 1..) = usize::try_from(result) {
                block.set_len(count);
                slot.receive.learn(count, asked);
                // Few bytes do not keep a large block alive.
                let small = count < SHORT && asked > SHORT;
                slot.deliver(if small { Chunk::from(&block[..]) } else { block });
            }
            slot.receive_ended(result, common);
            slot.receive.waker.take()
        });
        self.retire(index);
    }

    /// A receive into a caller's buffer has ended; the caller has the bytes. An empty buffer says nothing about the
    /// stream.
    pub(crate) fn owned_ended(&self, index: u32, done: &Done, empty: bool) {
        self.with_slot(index, |common, slot| slot.owned_ended(done, empty, common));
        self.retire(index);
    }

    /// As `owned_ended`, but the caller has gone: the stream takes the bytes. Without them it has a gap, so it fails.
    pub(crate) fn owned_abandoned(&self, index: u32, done: &Done, empty: bool, data: Option<Chunk>) {
        self.update(index, |common, slot| {
            match data {
                Some(data) => {
                    slot.deliver(data);
                    slot.owned_ended(done, empty, common);
                }
                None => {
                    slot.receive.end(libc::EIO);
                    slot.go_on_receiving(common);
                }
            }
            slot.receive.waker.take()
        });
        self.retire(index);
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, time::Duration};

    use corio_runtime::time::timeout;

    use super::*;
    use crate::{open_connection, streams::receive_state::BULK_MAX};

    #[test]
    fn a_short_bulk_receive_leaves_its_block_to_the_next() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        corio_runtime::run(async {
            let (mut reader, _writer) = open_connection(listener.local_addr().unwrap()).await.unwrap();
            let mut peer = listener.accept().unwrap().0;
            let to_bulk = |_: &mut Common, slot: &mut Slot| {
                slot.receive.bulk = BULK_MAX;
                slot.receive.cancel();
            };
            reader.key.with(to_bulk).unwrap();
            for part in [&b"short"[..], b"and short"] {
                // The first read that waits arms the single receive.
                assert!(timeout(Duration::from_millis(1), reader.read(1)).await.is_err());
                let single = reader.key.with(|_, slot| matches!(slot.receive.armed, Armed::Single(_)));
                assert!(single.unwrap());
                peer.write_all(part).unwrap();
                let chunk = reader.read(100).await.unwrap();
                assert!(chunk == part && chunk.into_block().unwrap().room() < SHORT);
            }
            assert_eq!(reader.key.with(|_, slot| slot.receive.bulk).unwrap(), 0);
        });
    }
}
