//! One receive, or one read from a pipe, into a block that the stream will own.

use corio_runtime::{fd::Fd, op::Sqe};

use crate::streams::Chunk;

pub(crate) struct RecvOnce {
    pub(crate) fd: Fd,
    pub(crate) slot: u32,
    pub(crate) block: Chunk,
    /// How many bytes of the block may be filled.
    pub(crate) size: usize,
    pub(crate) pipe: bool,
}

impl RecvOnce {
    pub(crate) fn entry(&mut self) -> Sqe<'_> {
        let size = self.size;
        let block = &mut self.block.block_mut()[..size];
        if self.pipe { Sqe::read(&self.fd, block) } else { Sqe::recv(&self.fd, block) }
    }
}
