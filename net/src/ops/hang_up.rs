//! Tells of a connection's failure until told to stop.

use corio_runtime::{
    fd::Fd,
    op::{Done, Multishot, Sqe},
};

use crate::streams::TABLE;

pub(crate) struct HangUp {
    pub(crate) fd: Fd,
    pub(crate) slot: u32,
}

impl Multishot for HangUp {
    fn prepare(&self) -> Sqe<'_> {
        Sqe::poll_multi(&self.fd)
    }

    fn item(&self, done: Done) {
        TABLE.existing(|streams| streams.hung_up(self.slot, &done, &self.fd));
    }

    fn end(&self, done: Done) {
        TABLE.existing(|streams| {
            streams.hung_up(self.slot, &done, &self.fd);
            streams.hang_up_ended(self.slot, &done);
        });
    }
}
