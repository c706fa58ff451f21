//! Receives once, into a buffer that the caller gave. If the caller goes, the bytes go to the stream.

use std::io;

use corio_runtime::{
    fd::Fd,
    op::{Done, Operation, Sqe},
};

use crate::streams::{Chunk, TABLE, errno};

pub(crate) struct RecvInto<B> {
    fd: Fd,
    slot: u32,
    pub(crate) buf: B,
    /// The slice had no room, as the simulator asked for it again.
    empty: bool,
}

impl<B> RecvInto<B> {
    pub(crate) fn new(fd: Fd, slot: u32, buf: B) -> RecvInto<B> {
        RecvInto { fd, slot, buf, empty: false }
    }
}

/// The code of `B` is foreign: it may panic, and give another slice each time.
impl<B: AsMut<[u8]> + 'static> Operation for RecvInto<B> {
    type Output = (io::Result<usize>, B);

    fn prepare(&mut self) -> Sqe<'_> {
        let slice = self.buf.as_mut();
        self.empty = slice.is_empty();
        Sqe::recv(&self.fd, slice)
    }

    fn complete(self: Box<Self>, done: Done) -> Self::Output {
        TABLE.try_with(|streams| streams.owned_ended(self.slot, &done, self.empty));
        let result = match done.errno() {
            Some(errno::ECANCELED | errno::EINTR | errno::EAGAIN) => Err(io::ErrorKind::Interrupted.into()),
            _ => done.count(),
        };
        (result, self.buf)
    }

    fn abandoned(mut self: Box<Self>, done: Done) {
        let count = done.count().unwrap_or(0);
        let mut unclaimed = Unclaimed { slot: self.slot, empty: self.empty, done, data: None };
        unclaimed.data = match count {
            0 => Some(Chunk::default()),
            _ => self.buf.as_mut().get(..count).map(Chunk::from),
        };
    }
}

/// Tells the stream of the end of its receive, whatever the caller's buffer does.
struct Unclaimed {
    slot: u32,
    empty: bool,
    done: Done,
    /// What had come; `None` if the buffer does not give it.
    data: Option<Chunk>,
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        let data = self.data.take();
        TABLE.try_with(|streams| streams.owned_abandoned(self.slot, &self.done, self.empty, data));
    }
}
