//! Receives once, or reads once from what is no socket, into a block that the stream will own.

use corio_runtime::{
    fd::Fd,
    op::{Done, Operation, Sqe},
};

use crate::streams::{Chunk, TABLE};

pub(crate) struct RecvOnce {
    pub(crate) fd: Fd,
    pub(crate) slot: u32,
    pub(crate) block: Chunk,
    /// How much of the block may be filled.
    pub(crate) size: usize,
    pub(crate) pipe: bool,
}

impl Operation for RecvOnce {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        let size = self.size;
        let block = &mut self.block.block_mut()[..size];
        if self.pipe { Sqe::read(&self.fd, block) } else { Sqe::recv(&self.fd, block) }
    }

    fn complete(self: Box<Self>, done: Done) {
        TABLE.existing(|streams| streams.once_ended(self.slot, &done, self.block, self.size));
    }
}
