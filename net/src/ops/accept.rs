//! Accepts one connection.

use corio_runtime::{
    fd::Fd,
    op::{PeerAddr, Sqe},
};

use crate::listener::ListenerKey;

pub(crate) struct Accept {
    pub(crate) fd: Fd,
    pub(crate) listener: ListenerKey,
    /// Its index among the listener's armed accepts.
    pub(crate) number: usize,
    pub(crate) peer: PeerAddr,
}

impl Accept {
    pub(crate) fn entry(&mut self) -> Sqe<'_> {
        Sqe::accept(&self.fd, &mut self.peer)
    }
}
