//! Accepts one connection.

use corio_runtime::{
    fd::Fd,
    op::{Done, Operation, PeerAddr, Sqe},
};

use crate::listener::ListenerKey;

pub(crate) struct Accept {
    pub(crate) fd: Fd,
    pub(crate) listener: ListenerKey,
    /// Its number among those that the listener has armed.
    pub(crate) number: usize,
    pub(crate) peer: PeerAddr,
}

impl Operation for Accept {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        Sqe::accept(&self.fd, &mut self.peer)
    }

    fn complete(self: Box<Self>, done: Done) {
        self.listener.accept_ended(self, done);
    }
}
