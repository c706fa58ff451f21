//! A poll for errors reports a connection's failure while no receive is in flight: the reader is gone or over its
//! limit, or a task waits in `wait_closed` or asks `is_closing`.

use corio_runtime::{
    fd::Fd,
    op::{self, Done},
    wake,
};

use super::{ending::HangUpPoll, slot::Slot, table::Streams};
use crate::ops::{HangUp, Way};

const POLLERR: usize = libc::POLLERR as usize;

impl Slot {
    /// A receive has ended and none follows: polls for errors if a task waits for the end, or if the writer continues
    /// while the reader is gone or over its limit.
    pub(super) fn watch_without_receive(&mut self) {
        let writes_alone = !self.has_reader() && !self.receive.has_ended();
        if self.is_awaited() || writes_alone || self.receive.is_full() && self.writer {
            self.poll_hang_up();
        }
    }

    /// Polls for errors, unless a receive would report them.
    pub(super) fn poll_hang_up(&mut self) {
        if let Some(fd) = &self.fd
            && self.hang_up() == HangUpPoll::NotYet
            && !self.receive.in_flight()
            && !self.send.closing()
        {
            let op = HangUp { fd: fd.clone(), slot: self.index };
            self.make_ending().hang_up = HangUpPoll::InFlight(op::start_multishot(op));
        }
    }
}

impl Streams {
    /// The poll has an event: the peer's half-close, the end of both sides, or a failure. Only a failure counts.
    pub(crate) fn hung_up(&self, index: u32, done: &Done, fd: &Fd) {
        if !done.count().is_ok_and(|events| events & POLLERR > 0) {
            return;
        }
        let errno = fd.take_error().ok().flatten().and_then(|e| e.raw_os_error());
        let waiters = self.with_slot(index, |common, slot| {
            let otherwise = if slot.way != Way::Socket { libc::EPIPE } else { libc::ECONNRESET };
            slot.break_send(common, errno.unwrap_or(otherwise));
            slot.stop_polling();
            [slot.send.drainer.take(), slot.take_close_waiter()]
        });
        waiters.into_iter().flatten().flatten().for_each(wake);
        self.retire(index);
    }

    /// The poll has ended. If the kernel ended it without an error, it is armed again while needed.
    pub(crate) fn hang_up_ended(&self, index: u32, done: &Done) {
        self.with_slot(index, |common, slot| {
            let again = done.errno().is_none() && slot.send.broken == 0;
            slot.make_ending().hang_up = if again { HangUpPoll::NotYet } else { HangUpPoll::Over };
            if again {
                slot.watch_without_receive();
            }
            if slot.fd.is_none() {
                // The operation holds the descriptor until this returns: the stream retires after that.
                common.closed.push_back(index);
            }
        });
    }
}
