//! One receive into the caller's buffer. If the caller's future is dropped, the stream gets the bytes.

use corio_runtime::{fd::Fd, op::Sqe};

pub(crate) struct RecvInto<B> {
    fd: Fd,
    pub(crate) slot: u32,
    pub(crate) buf: B,
    /// The slice was empty, or the buffer panicked, when a kernel that makes plain calls asked for it again.
    pub(crate) empty: bool,
}

impl<B> RecvInto<B> {
    pub(crate) fn new(fd: Fd, slot: u32, buf: B) -> RecvInto<B> {
        RecvInto { fd, slot, buf, empty: false }
    }
}

impl<B: AsMut<[u8]>> RecvInto<B> {
    pub(crate) fn entry(&mut self) -> Sqe<'_> {
        self.empty = true;
        let slice = self.buf.as_mut();
        self.empty = slice.is_empty();
        Sqe::recv(&self.fd, slice)
    }
}
