//! A multishot poll for a connection's failure.

use corio_runtime::{fd::Fd, op::Sqe};

pub(crate) struct HangUp {
    pub(crate) fd: Fd,
    pub(crate) slot: u32,
}

impl HangUp {
    pub(crate) fn entry(&self) -> Sqe<'_> {
        Sqe::poll_multi(&self.fd)
    }
}
