//! What one send takes to the kernel: a block, or a batch of segments, as a vectored send; to what is no socket one
//! after the other.

use std::collections::VecDeque;

use bytes::Bytes;
use corio_runtime::{
    fd::Fd,
    op::{self, Done, OpKey, Operation, Payload, Sqe, TurnEnd},
};

use crate::streams::{Block, Chunk, TABLE};

/// The kernel's `UIO_MAXIOV`.
const SEGMENTS_MAX: usize = 1024;
/// A block that is full moves to a larger one as long as it is no larger than this; then another begins.
const GROWS_MAX: usize = 16 << 10;

/// See the head of the file.
#[derive(Debug)]
pub(crate) enum Load {
    Block(Box<Block>),
    Batch(Box<Batch>),
}

impl Load {
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        match self {
            Load::Block(block) => block.len(),
            Load::Batch(batch) => batch.len,
        }
    }

    /// With a copy of `data` behind it; `batch` is an empty one.
    pub(crate) fn and_copy(self, data: &[u8], batch: impl FnOnce() -> Box<Batch>) -> Load {
        match self {
            Load::Block(mut block) if takes(&block, data.len()) => {
                block.append(data, 0);
                Load::Block(block)
            }
            load => {
                let mut batch = load.into_batch(batch);
                batch.copy(data);
                Load::Batch(batch)
            }
        }
    }

    /// With `segment` behind it, as it is; `batch` is an empty one.
    pub(crate) fn and(self, segment: Segment, batch: impl FnOnce() -> Box<Batch>) -> Load {
        let mut batch = self.into_batch(batch);
        batch.push(segment);
        Load::Batch(batch)
    }

    fn into_batch(self, batch: impl FnOnce() -> Box<Batch>) -> Box<Batch> {
        match self {
            Load::Batch(batch) => batch,
            Load::Block(block) => {
                let mut batch = batch();
                batch.push(Segment::Chunk(block.into()));
                batch
            }
        }
    }

    /// Drops what was sent, which is not all.
    pub(crate) fn consume(&mut self, count: usize) {
        match self {
            Load::Block(block) => block.consume(count),
            Load::Batch(batch) => batch.consume(count),
        }
    }
}

/// Whether a copy of `more` bytes goes into this block, or a larger one in its place.
fn takes(block: &Block, more: usize) -> bool {
    block.room() >= more || block.len() <= GROWS_MAX
}

/// A piece of what is to be sent.
#[derive(Debug)]
pub(crate) enum Segment {
    Vec(Vec<u8>),
    Chunk(Chunk),
    Bytes(Bytes),
}

impl AsRef<[u8]> for Segment {
    #[inline(always)]
    fn as_ref(&self) -> &[u8] {
        match self {
            Segment::Vec(data) => data,
            Segment::Chunk(data) => data,
            Segment::Bytes(data) => data,
        }
    }
}

/// Several segments, or one that is no block. Batches are pooled: an idle stream has none.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) fd: Option<Fd>,
    pub(crate) slot: u32,
    /// `None` only in an empty batch. Apart from `rest`, which most batches never use.
    first: Option<Segment>,
    rest: VecDeque<Segment>,
    /// Of the first segment.
    sent: usize,
    len: usize,
    pub(crate) pipe: bool,
}

impl Batch {
    pub(crate) fn push(&mut self, segment: Segment) {
        self.len += segment.as_ref().len();
        match self.first {
            None => self.first = Some(segment),
            Some(_) => self.rest.push_back(segment),
        }
    }

    fn copy(&mut self, data: &[u8]) {
        if let Some(Segment::Chunk(tail)) = self.rest.back_mut().or(self.first.as_mut())
            && let Some(tail) = tail.block().filter(|tail| takes(tail, data.len()))
        {
            self.len += data.len();
            return tail.append(data, 0);
        }
        let mut tail = Block::new(data.len().max(GROWS_MAX));
        tail.append(data, 0);
        self.push(Segment::Chunk(tail.into()));
    }

    fn consume(&mut self, count: usize) {
        self.len -= count;
        let mut left = count;
        while let Some(segment) = &self.first {
            let rest = segment.as_ref().len() - self.sent;
            if left < rest {
                self.sent += left;
                return;
            }
            left -= rest;
            self.sent = 0;
            self.first = self.rest.pop_front();
        }
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        self.fd = None;
        self.first = None;
        self.rest.clear();
        (self.sent, self.len) = (0, 0);
    }

    /// What is left of the first segment.
    fn first(&self) -> &[u8] {
        self.first.as_ref().map_or(&[], |first| &first.as_ref()[self.sent..])
    }
}

/// The sends of a stream: each tells `slot`.
impl Load {
    /// Hands it to the kernel; at the `end` of a turn so that it reports only if it is not all sent. `batch` is empty.
    #[inline(always)]
    pub(crate) fn start(
        self,
        fd: &Fd,
        slot: u32,
        pipe: bool,
        end: Option<TurnEnd<'_>>,
        batch: impl FnOnce() -> Box<Batch>,
    ) -> OpKey {
        match self {
            Load::Block(block) if !pipe => send(fd, block, slot, end),
            load => load.into_batch(batch).start(fd, slot, pipe, end),
        }
    }
}

impl Batch {
    #[inline(never)]
    fn start(mut self: Box<Self>, fd: &Fd, slot: u32, pipe: bool, end: Option<TurnEnd<'_>>) -> OpKey {
        if self.rest.is_empty() && !pipe {
            return send(fd, self, slot, end);
        }
        (self.fd, self.slot, self.pipe) = (Some(fd.clone()), slot, pipe);
        op::start(self)
    }
}

#[inline(always)]
fn send<P: Payload>(fd: &Fd, payload: Box<P>, slot: u32, end: Option<TurnEnd<'_>>) -> OpKey {
    match end {
        Some(end) => end.send(fd, payload, slot),
        None => op::send(fd, payload, slot),
    }
}

impl Payload for Block {
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        self
    }

    fn sent(self: Box<Self>, slot: u32, result: i32) {
        TABLE.existing(|streams| streams.sent(slot, Load::Block(self), result));
    }
}

impl Payload for Batch {
    fn bytes(&self) -> &[u8] {
        self.first()
    }

    fn sent(self: Box<Self>, slot: u32, result: i32) {
        TABLE.existing(|streams| streams.sent(slot, Load::Batch(self), result));
    }
}

impl Operation for Batch {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        // One without a descriptor is never started.
        let Some(fd) = &self.fd else { return Sqe::nop() };
        if self.pipe {
            return Sqe::write(fd, self.first());
        }
        let rest = self.rest.iter().map(Segment::as_ref);
        Sqe::send_vectored(fd, std::iter::once(self.first()).chain(rest).take(SEGMENTS_MAX).collect())
    }

    fn complete(self: Box<Self>, done: Done) {
        let (slot, result) = (self.slot, done.number());
        TABLE.existing(|streams| streams.sent(slot, Load::Batch(self), result));
    }
}
