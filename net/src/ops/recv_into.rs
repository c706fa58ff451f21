//! Receives once, into a buffer that the caller gave. If the caller goes, the bytes go to the stream.

use std::io;

use corio_runtime::{
    fd::Fd,
    op::{Done, Operation, Sqe},
};

use crate::streams::{Chunk, TABLE, errno};

pub(crate) struct RecvInto<B> {
    pub(crate) fd: Fd,
    pub(crate) slot: u32,
    pub(crate) buf: B,
}

impl<B: AsMut<[u8]> + 'static> Operation for RecvInto<B> {
    type Output = (io::Result<usize>, B);

    fn prepare(&mut self) -> Sqe<'_> {
        Sqe::recv(&self.fd, self.buf.as_mut())
    }

    fn complete(self: Box<Self>, done: Done) -> Self::Output {
        TABLE.try_with(|streams| streams.owned_ended(self.slot, &done, None));
        let result = match done.errno() {
            Some(errno::ECANCELED | errno::EINTR | errno::EAGAIN) => Err(io::ErrorKind::Interrupted.into()),
            _ => done.count(),
        };
        (result, self.buf)
    }

    fn abandoned(mut self: Box<Self>, done: Done) {
        let received = Chunk::from(&self.buf.as_mut()[..done.count().unwrap_or(0)]);
        TABLE.try_with(|streams| streams.owned_ended(self.slot, &done, Some(received)));
    }
}
