//! Accepts connections until told to stop.

use corio_runtime::{
    fd::Fd,
    op::{Done, Multishot, Sqe},
};

use crate::listener::ListenerKey;

pub(crate) struct Accept {
    pub(crate) fd: Fd,
    pub(crate) listener: ListenerKey,
}

impl Multishot for Accept {
    fn prepare(&self) -> Sqe<'_> {
        Sqe::accept_multi(&self.fd)
    }

    fn item(&self, done: Done) {
        self.listener.accepted(done);
    }

    fn end(&self, done: Done) {
        self.listener.accept_ended(done);
    }
}
