//! Connects a socket to one address.

use std::io;

use corio_runtime::{
    fd::Fd,
    op::{Done, Operation, SockAddr, Sqe},
};

pub(crate) struct Connect {
    pub(crate) fd: Fd,
    pub(crate) addr: SockAddr,
}

impl Operation for Connect {
    type Output = io::Result<Fd>;

    fn prepare(&mut self) -> Sqe<'_> {
        Sqe::connect(&self.fd, &self.addr)
    }

    fn complete(self: Box<Self>, done: Done) -> io::Result<Fd> {
        done.unit().map(|()| self.fd)
    }
}
