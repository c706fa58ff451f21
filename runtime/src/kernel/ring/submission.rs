//! An operation and its entry. Both are made here, the one from the other, so that no entry is ever submitted with
//! another operation than its own: what an entry points to is what the in-flight table keeps.

use std::rc::Rc;

use super::{terms::Abilities, uring::Encoded};
use crate::kernel::{
    fd::Fd,
    inflight::{InFlight, ReceiverId},
    operation::{Multishot, Operation},
    payload::Payload,
    sqe::Sqe,
};

/// See the head of the file.
pub(crate) struct Submission {
    op: InFlight,
    encoded: Encoded,
}

impl Submission {
    /// A send of a handle, which has its completion entry in any case.
    pub(crate) fn send<P: Payload>(fd: &Fd, payload: Box<P>, token: u32, abilities: Abilities) -> Submission {
        let encoded = Encoded::new(Sqe::send(fd, payload.bytes()), abilities);
        Submission { op: InFlight::Send { payload, fd: fd.clone(), token }, encoded }
    }

    /// A multishot receive of a handle.
    pub(crate) fn receive(fd: &Fd, cap: u32, token: u32, to: ReceiverId, abilities: Abilities) -> Submission {
        let encoded = Encoded::new(Sqe::recv_multi(fd, cap), abilities);
        Submission { op: InFlight::Receive { to, fd: fd.clone(), token, cap }, encoded }
    }

    /// An operation of a handle.
    ///
    /// # Panics
    /// If it has many results.
    pub(crate) fn resident<O: Operation<Output = ()>>(mut op: Box<O>, abilities: Abilities) -> Submission {
        let encoded = Encoded::new(op.prepare().single(), abilities);
        Submission { op: InFlight::Resident(op), encoded }
    }

    /// An operation of a handle, with many results.
    pub(crate) fn shots<M: Multishot>(op: M, abilities: Abilities) -> Submission {
        let op = Rc::new(op);
        let encoded = Encoded::new(op.prepare(), abilities);
        Submission { op: InFlight::Shots(op), encoded }
    }

    pub(super) fn into_parts(self) -> (InFlight, Encoded) {
        (self.op, self.encoded)
    }
}

/// An operation of a future that is ready to be submitted.
pub(crate) struct Ready<O> {
    op: Box<O>,
    encoded: Encoded,
    moves_nothing: bool,
}

impl<O: Operation> Ready<O> {
    /// # Panics
    /// If it has many results.
    pub(crate) fn new(op: O, abilities: Abilities) -> Ready<O> {
        let mut op = Box::new(op);
        let sqe = op.prepare().single();
        let moves_nothing = sqe.is_empty();
        let encoded = Encoded::new(sqe, abilities);
        Ready { op, encoded, moves_nothing }
    }

    pub(crate) fn moves_nothing(&self) -> bool {
        self.moves_nothing
    }

    pub(crate) fn into_inner(self) -> O {
        *self.op
    }

    pub(crate) fn claimed(self) -> Submission {
        Submission { op: InFlight::Claimed(self.op), encoded: self.encoded }
    }
}
