//! One stream as its loop has it: what its halves, its handles and its end keep of it.

use std::task::Waker;

use corio_runtime::{fd::Fd, op::OpKey, slab::Place};

use super::{common::Common, receive_state::Receive, send_state::Send, watch::Linger};
use crate::listener::ListenerKey;

/// Where a connection came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Connected,
    Accepted(ListenerKey),
}

/// The poll by which a stream hears of a failure where no receive would tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HangUpPoll {
    NotYet,
    InFlight(OpKey),
    Over,
}

/// One stream, or a free place for one.
#[derive(Debug)]
pub(crate) struct Slot {
    /// The number of its loop; 0 in a free place.
    pub(super) home: u64,
    pub(super) index: u32,
    pub(super) generation: u32,
    pub(super) next_free: u32,
    pub(super) fd: Option<Fd>,
    pub(super) receive: Receive,
    pub(super) send: Send,
    /// Whether the multishot receive is armed ahead of the reader.
    pub(super) ahead: bool,
    /// Not a socket: it is read and written.
    pub(super) pipe: bool,
    /// A reader or a writer is all there ever was.
    pub(super) one_way: bool,
    pub(super) reader: bool,
    pub(super) writer: bool,
    /// A server's handler of it runs.
    pub(super) handler: bool,
    pub(super) origin: Origin,
    /// Who waits for the end: one at most, as `wait_closed` takes the writer by `&mut`.
    pub(super) close_waiter: Option<Waker>,
    /// Everybody who waits for its end has been told.
    pub(super) gone: bool,
    pub(super) linger: Option<Box<Linger>>,
    pub(super) hang_up: HangUpPoll,
}

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
            pipe: false,
            one_way: false,
            reader: false,
            writer: false,
            handler: false,
            origin: Origin::Connected,
            close_waiter: None,
            gone: false,
            linger: None,
            hang_up: HangUpPoll::NotYet,
        }
    }

    pub(super) fn is_free(&self) -> bool {
        self.home == 0
    }

    pub(super) fn has_reader(&self) -> bool {
        self.reader
    }

    /// Whether the descriptor is closed and nothing is in flight.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether the kernel still refers to the stream.
    pub(super) fn in_flight(&self) -> bool {
        self.receive.in_flight()
            || self.send.in_flight.is_some()
            || matches!(self.hang_up, HangUpPoll::InFlight(_))
    }

    /// Puts the stream on the list of those that `flush` looks at, at the end of the turn.
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
