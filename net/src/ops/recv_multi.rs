//! Receives into buffers of the loop's pool until told to stop.

use corio_runtime::{
    fd::Fd,
    op::{Done, Multishot, Sqe},
};

use crate::streams::TABLE;

pub(crate) struct RecvMulti {
    pub(crate) fd: Fd,
    pub(crate) slot: u32,
    /// Ends after about so many bytes.
    pub(crate) cap: u32,
}

impl Multishot for RecvMulti {
    fn prepare(&self) -> Sqe<'_> {
        Sqe::recv_multi(&self.fd, self.cap)
    }

    fn item(&self, done: Done) {
        if let Some(data) = done.into_buffer() {
            TABLE.existing(|streams| streams.received(self.slot, &data));
        }
    }

    fn end(&self, done: Done) {
        TABLE.existing(|streams| streams.multi_ended(self.slot, &done));
    }
}
