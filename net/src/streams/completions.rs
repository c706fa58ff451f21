//! Completions of the streams' operations: each updates the table.

use std::io;

use corio_runtime::op::{Done, Multishot, Operation, Payload, Receiver, Sqe};

use super::{
    chunk::{Block, Chunk, recycle},
    table::{running, try_running},
};
use crate::ops::{Batch, HangUp, Load, RecvInto, RecvOnce};

/// The multishot receives of all streams. The token is the stream's slot.
pub(super) static RECV_MULTI: Receiver = Receiver {
    data: |arrivals| running(|streams| streams.received(arrivals)),
    end: |slot, done| running(|streams| streams.multi_ended(slot, &done)),
};

impl Operation for RecvOnce {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        self.entry()
    }

    fn complete(self: Box<Self>, done: Done) {
        running(|streams| streams.once_ended(self.slot, &done, self.block, self.size));
    }
}

/// `B` is foreign code: it may panic, and return another slice each time.
impl<B: AsMut<[u8]> + 'static> Operation for RecvInto<B> {
    type Output = (io::Result<usize>, B);

    fn prepare(&mut self) -> Sqe<'_> {
        self.entry()
    }

    fn complete(self: Box<Self>, done: Done) -> Self::Output {
        try_running(|streams| streams.owned_ended(self.slot, &done, self.empty));
        let result = match done.errno() {
            Some(libc::ECANCELED | libc::EINTR | libc::EAGAIN) => Err(io::ErrorKind::Interrupted.into()),
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

/// Completes an abandoned receive, even if the caller's buffer panics.
struct Unclaimed {
    slot: u32,
    empty: bool,
    done: Done,
    /// The received bytes; `None` if the buffer does not return them.
    data: Option<Chunk>,
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        let data = self.data.take();
        try_running(|streams| streams.owned_abandoned(self.slot, &self.done, self.empty, data));
    }
}

impl Payload for Block {
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        self
    }

    fn sent(self: Box<Self>, slot: u32, result: i32) {
        running(|streams| streams.sent(slot, Load::Block(self), result));
    }

    fn sent_silently(self: Box<Self>) {
        recycle(self);
    }
}

impl Payload for Batch {
    fn bytes(&self) -> &[u8] {
        self.first()
    }

    fn sent(self: Box<Self>, slot: u32, result: i32) {
        running(|streams| streams.sent(slot, Load::Batch(self), result));
    }

    fn sent_silently(self: Box<Self>) {
        running(|streams| streams.keep_batch(self));
    }
}

impl Operation for Batch {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        self.entry()
    }

    fn complete(mut self: Box<Self>, done: Done) {
        let (slot, result) = (self.came_back(), done.number());
        running(|streams| streams.sent(slot, Load::Batch(self), result));
    }
}

impl Multishot for HangUp {
    fn prepare(&self) -> Sqe<'_> {
        self.entry()
    }

    fn item(&self, done: Done) {
        running(|streams| streams.hung_up(self.slot, &done, &self.fd));
    }

    fn end(&self, done: Done) {
        running(|streams| {
            streams.hung_up(self.slot, &done, &self.fd);
            streams.hang_up_ended(self.slot, &done);
        });
    }
}
