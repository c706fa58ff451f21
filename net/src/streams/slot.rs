//! One stream in the table of its loop: its two halves, its end, and what refers to it.

use std::task::Waker;

use corio_runtime::{fd::Fd, slab::Place};

use super::{
    common::Common,
    ending::{Ending, HangUpPoll},
    receive_state::Receive,
    send_state::Send,
    watch::Linger,
};
use crate::{
    listener::{ListenerKey, LocalListener},
    ops::Way,
};

/// Where a connection came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Connected,
    Accepted(ListenerKey),
}

impl Origin {
    pub(super) fn listener(self) -> Option<LocalListener> {
        match self {
            Origin::Connected => None,
            Origin::Accepted(listener) => Some(listener.local()),
        }
    }
}

/// A stream, or a free slot.
#[derive(Debug)]
pub(crate) struct Slot {
    /// The loop's number; 0 in a free slot.
    pub(super) home: u64,
    pub(super) index: u32,
    pub(super) generation: u32,
    pub(super) next_free: u32,
    pub(super) fd: Option<Fd>,
    pub(super) receive: Receive,
    pub(super) send: Send,
    /// Whether the multishot receive is armed ahead of the reader.
    pub(super) ahead: bool,
    /// How its bytes are read and written.
    pub(super) way: Way,
    /// Has only one handle, a reader or a writer.
    pub(super) one_way: bool,
    pub(super) reader: bool,
    pub(super) writer: bool,
    /// A server's handler runs for it.
    pub(super) handler: bool,
    /// The listener that accepted it.
    pub(super) listener: Option<LocalListener>,
    /// Closed, and the tasks that waited for that were woken.
    pub(super) gone: bool,
    /// Made when first needed.
    ending: Option<Box<Ending>>,
}

// An idle connection costs little more than its slot and its handler.
const _: () = assert!(size_of::<Slot>() <= 216);

impl Slot {
    pub(super) fn free(index: u32, generation: u32, next_free: u32) -> Slot {
        Slot {
            home: 0,
            index,
            generation,
            next_free,
            fd: None,
            receive: Receive::new(0),
            send: Send::new(),
            ahead: false,
            way: Way::Socket,
            one_way: false,
            reader: false,
            writer: false,
            handler: false,
            listener: None,
            gone: false,
            ending: None,
        }
    }

    pub(super) fn is_free(&self) -> bool {
        self.home == 0
    }

    pub(super) fn has_reader(&self) -> bool {
        self.reader
    }

    /// Whether the descriptor is closed and no operation is in flight.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether an operation on the stream is in flight.
    pub(super) fn in_flight(&self) -> bool {
        self.receive.in_flight()
            || self.send.in_flight().is_some()
            || matches!(self.hang_up(), HangUpPoll::InFlight(_))
    }

    /// Makes it if there is none.
    pub(super) fn make_ending(&mut self) -> &mut Ending {
        self.ending.get_or_insert_default()
    }

    pub(super) fn hang_up(&self) -> HangUpPoll {
        self.ending.as_ref().map_or(HangUpPoll::NotYet, |ending| ending.hang_up)
    }

    pub(super) fn linger(&mut self) -> Option<&mut Linger> {
        self.ending.as_mut()?.linger.as_deref_mut()
    }

    pub(super) fn has_linger(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.linger.is_some())
    }

    /// Whether a task waits in `wait_closed`.
    pub(super) fn is_awaited(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.waiter.is_some())
    }

    pub(super) fn take_close_waiter(&mut self) -> Option<Waker> {
        self.ending.as_mut()?.waiter.take()
    }

    pub(super) fn thrown_away(&self) -> u64 {
        self.ending.as_ref().map_or(0, |ending| ending.thrown_away)
    }

    pub(super) fn throw_away(&mut self, bytes: usize) {
        if bytes > 0 {
            self.make_ending().thrown_away += bytes as u64;
        }
    }

    pub(super) fn forget_thrown_away(&mut self) {
        if let Some(ending) = &mut self.ending {
            ending.thrown_away = 0;
        }
    }

    /// Lists the stream for `flush`, at the end of the turn.
    #[inline(always)]
    pub(super) fn mark_dirty(&mut self, common: &mut Common) {
        if !self.send.dirty {
            self.send.dirty = true;
            common.dirty.push(self.index);
        }
    }
}

impl Place for Slot {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn is_free(&self) -> bool {
        Slot::is_free(self)
    }

    fn next_free(&self) -> u32 {
        self.next_free
    }

    fn set_next_free(&mut self, next: u32) {
        self.next_free = next;
    }
}
