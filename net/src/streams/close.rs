//! The ends of streams: closing and resetting sockets, waking tasks that wait for the end, freeing slots.

use std::net::Shutdown;

use corio_runtime::{op, wake};

use super::{
    common::Common,
    ending::HangUpPoll,
    news::News,
    receive_state::Armed,
    send_state::Phase,
    slot::Slot,
    table::{Streams, taken},
};
use crate::listener::ListenerKey;

impl Slot {
    /// `close`: sends everything written first.
    pub(super) fn close(&mut self, common: &mut Common) {
        if self.send.phase < Phase::Closing {
            self.send.phase = Phase::Closing;
            self.receive.discarded = true;
            self.forget_thrown_away();
            self.stop_polling();
            News::happened();
            self.mark_dirty(common);
        }
    }

    /// `abort`: sends nothing more and resets the connection.
    pub(super) fn abort(&mut self, common: &mut Common) {
        self.stop_watching();
        self.stop_polling();
        if let Some(fd) = &self.fd {
            let _ = fd.reset_on_close();
            self.receive.cancel();
            if let Some(key) = self.send.in_flight() {
                op::cancel(key);
            }
        }
        self.send.phase = Phase::Closed;
        News::happened();
        self.send.cut |= self.send.queued > 0;
        self.send.drop_unsent(&mut common.unsent);
        self.fd = None;
    }

    /// Closes the socket. A receive in flight would delay the FIN, so the connection is shut down first, which also
    /// ends the receive.
    pub(super) fn close_fd(&mut self) {
        self.send.phase = Phase::Closed;
        News::happened();
        self.stop_watching();
        self.stop_polling();
        if let Some(fd) = self.fd.take()
            && self.in_flight()
        {
            let _ = fd.shutdown(Shutdown::Both);
            self.receive.cancel();
        }
    }

    /// Sending has failed: drops unsent data; every `write` and `drain` gives the error. The reader gets what has
    /// arrived, then the error, as the peer will not answer requests that were not sent.
    pub(super) fn break_send(&mut self, common: &mut Common, errno: i32) {
        // Closed meanwhile.
        let Some(fd) = &self.fd else { return };
        let _ = fd.shutdown(Shutdown::Both);
        self.send.broken = errno;
        News::happened();
        self.send.drop_unsent(&mut common.unsent);
        let more_to_read = !self.receive.at_end() && !self.send.closing();
        if !more_to_read {
            self.close_fd();
        }
    }

    /// The connection has failed in both directions: drops unsent data and closes the socket.
    pub(super) fn fail(&mut self, common: &mut Common, errno: i32) {
        if self.send.broken == 0 {
            self.send.broken = errno;
        }
        self.send.drop_unsent(&mut common.unsent);
        // The kernel may not know of the failure, and would let the send wait for the peer.
        if let Some(key) = self.send.in_flight() {
            op::cancel(key);
        }
        self.close_fd();
    }

    pub(super) fn shut_down_writing(&mut self) {
        if let Some(fd) = &self.fd
            && !std::mem::replace(&mut self.send.shut_down, true)
        {
            // A failure is fine: the connection is gone already.
            let _ = fd.shutdown(Shutdown::Write);
        }
    }

    pub(super) fn stop_watching(&mut self) {
        if let Some(linger) = self.linger() {
            linger.watch = None;
        }
    }

    /// Cancels the poll for errors, which holds the descriptor.
    pub(super) fn stop_polling(&mut self) {
        if let HangUpPoll::InFlight(key) = self.hang_up() {
            op::cancel(key);
        }
    }
}

impl Streams {
    /// If the stream's last operation has ended, wakes the tasks that wait for the end; frees the slot once both
    /// handles are gone, too.
    #[inline(never)]
    pub(super) fn retire(&self, index: u32) {
        // Last: its destructors are foreign code.
        let _unsent = self.with_common(|common| std::mem::take(&mut common.unsent));
        // A closing stream brings its reader nothing more.
        let reader = self.with_slot(index, |_, slot| slot.receive.waker.take_if(|_| slot.receive.discarded));
        reader.flatten().into_iter().for_each(wake);
        let ended = {
            let inner = &mut *self.inner.borrow_mut();
            let Some(slot) = taken(&mut inner.slots, index) else { return };
            if slot.fd.is_some() || slot.in_flight() {
                return;
            }
            // The silent send of an aborted stream: nothing reports its end, so the end of the next turn looks again.
            if slot.send.is_silent() {
                inner.common.closed.push_back(index);
                return;
            }
            if slot.receive.armed == Armed::Idle {
                slot.receive.end(0);
            }
            let told = std::mem::replace(&mut slot.gone, true);
            let waiters = [slot.take_close_waiter(), slot.receive.waker.take(), slot.send.drainer.take()];
            let listener =
                slot.listener.zip(inner.home).map(|(listener, home)| ListenerKey::of(home, listener));
            let handled = slot.handler;
            let unused = inner.slots.give_back(index as usize, |slot, next| {
                (!slot.reader && !slot.writer && !slot.handler).then(|| {
                    let place = Slot::free(index, slot.generation.wrapping_add(1), next);
                    std::mem::replace(slot, place)
                })
            });
            self.open.set(self.open.get() - usize::from(!told));
            (told, waiters, (listener, handled), unused)
        };
        let (told, waiters, (listener, handled), unused) = ended;
        drop(unused);
        waiters.into_iter().flatten().for_each(wake);
        if let Some(listener) = listener
            && !told
        {
            listener.connection_gone(handled);
        }
    }

    fn each_of(&self, listener: ListenerKey, mut f: impl FnMut(&mut Common, &mut Slot)) {
        if self.inner.borrow().home != Some(listener.home()) {
            return;
        }
        self.each(|common, slot| {
            if slot.listener == Some(listener.local()) && !slot.gone {
                f(common, slot);
            }
        });
    }

    /// Closes the connections of a listener.
    pub(crate) fn close_clients(&self, listener: ListenerKey) {
        self.each_of(listener, |common, slot| slot.close(common));
    }

    /// Resets the connections of a listener, and counts them.
    pub(crate) fn abort_clients(&self, listener: ListenerKey) -> usize {
        let mut aborted = Vec::new();
        self.each_of(listener, |common, slot| {
            slot.abort(common);
            aborted.push(slot.index);
        });
        // Last: its destructors are foreign code.
        let _unsent = self.with_common(|common| std::mem::take(&mut common.unsent));
        aborted.iter().for_each(|index| self.retire(*index));
        aborted.len()
    }
}
