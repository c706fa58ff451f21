//! The data of one send: a block, or a batch of segments, sent vectored. A pipe takes one segment at a time.

use std::{collections::VecDeque, mem};

use corio_runtime::{
    fd::Fd,
    op::{self, OpKey, Payload, Sqe, TurnEnd},
};

use super::{
    ByThread, Way, Work,
    segment::{Pieces, Segment},
};
use crate::streams::Block;

/// The kernel's `UIO_MAXIOV`.
const SEGMENTS_MAX: usize = 1024;
/// Smaller owned data is copied if other data is queued or in flight. From this size on, it never is.
pub(crate) const OWNED_MIN: usize = 8 << 10;
/// A new copy of at most this size goes into a block; a larger one is a `Vec` of exactly its size.
const BLOCK_MAX: usize = 64 << 10;

/// See the head of the file.
#[derive(Debug)]
pub(crate) enum Load {
    Block(Box<Block>),
    /// A block of copies; it may move to a larger block to take more.
    Copies(Box<Block>),
    Batch(Box<Batch>),
}

impl Load {
    /// A copy of `data`. `batch` makes an empty batch.
    pub(crate) fn copied(data: &[u8], batch: impl FnOnce() -> Box<Batch>) -> Load {
        if data.len() <= BLOCK_MAX {
            return Load::Copies(Block::copied(data));
        }
        let mut batch = batch();
        batch.copy(data);
        Load::Batch(batch)
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        match self {
            Load::Block(block) | Load::Copies(block) => block.len(),
            Load::Batch(batch) => batch.len,
        }
    }

    /// Appends a copy of `data`. `batch` makes an empty batch.
    pub(crate) fn then_copy(self, data: &[u8], batch: impl FnOnce() -> Box<Batch>) -> Load {
        match self {
            Load::Copies(mut block) if block.len() + data.len() <= BLOCK_MAX => {
                block.append(data, 0);
                Load::Copies(block)
            }
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

    /// Appends `segment` without a copy. `batch` makes an empty batch.
    pub(crate) fn then(self, segment: Segment, batch: impl FnOnce() -> Box<Batch>) -> Load {
        let mut batch = self.into_batch(batch);
        batch.push(segment);
        Load::Batch(batch)
    }

    fn into_batch(self, batch: impl FnOnce() -> Box<Batch>) -> Box<Batch> {
        match self {
            Load::Batch(batch) => batch,
            Load::Block(block) | Load::Copies(block) => {
                let mut batch = batch();
                batch.push(Segment::Chunk(block.into()));
                batch
            }
        }
    }

    /// Drops the first `count` bytes, of more; returns the segments that were sent whole.
    pub(crate) fn consume(&mut self, count: usize) -> Vec<Segment> {
        match self {
            Load::Block(block) | Load::Copies(block) => {
                block.consume(count);
                Vec::new()
            }
            Load::Batch(batch) => batch.consume(count),
        }
    }
}

/// Whether `more` bytes are appended to this block: they fit, or the block is small and moves to a larger one.
fn takes(block: &Block, more: usize) -> bool {
    block.room() >= more || block.len() < OWNED_MIN && block.len() + more <= BLOCK_MAX
}

/// Several segments, or one that is not a block. Batches are pooled: an idle stream has none.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    fd: Option<Fd>,
    slot: u32,
    /// `None` only in an empty batch. Separate from `rest`, which most batches leave empty.
    first: Option<Segment>,
    rest: VecDeque<Segment>,
    /// Bytes of the first segment that were sent.
    sent: usize,
    len: usize,
    pipe: bool,
}

impl Batch {
    fn push(&mut self, segment: Segment) {
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
        self.push(match data.len() {
            0..=BLOCK_MAX => Segment::Chunk(Block::copied(data).into()),
            _ => Segment::Vec(data.to_vec()),
        });
    }

    fn consume(&mut self, count: usize) -> Vec<Segment> {
        self.len -= count;
        let (mut left, mut whole) = (count, Vec::new());
        while let Some(segment) = &self.first {
            let rest = segment.as_ref().len() - self.sent;
            if left < rest {
                self.sent += left;
                break;
            }
            left -= rest;
            self.sent = 0;
            whole.extend(mem::replace(&mut self.first, self.rest.pop_front()));
        }
        whole
    }

    /// Drops all segments.
    pub(crate) fn clear(&mut self) {
        self.first = None;
        self.rest.clear();
        (self.sent, self.len) = (0, 0);
    }

    /// The unsent part of the first segment.
    pub(crate) fn first(&self) -> &[u8] {
        self.first.as_ref().map_or(&[], |first| &first.as_ref()[self.sent..])
    }
}

impl Load {
    /// Submits the send for the stream in `slot`. With `end`, the end of a turn, it is silent if it can be (one
    /// contiguous piece, not a pipe): it has a completion only if it fails or is partial. `batch` makes an empty batch.
    #[inline(always)]
    pub(crate) fn start(
        self,
        fd: &Fd,
        slot: u32,
        way: Way,
        end: Option<TurnEnd<'_>>,
        batch: impl FnOnce() -> Box<Batch>,
    ) -> OpKey {
        match self {
            Load::Block(block) | Load::Copies(block) if way == Way::Socket => send(fd, block, slot, end),
            load => load.into_batch(batch).start(fd, slot, way, end),
        }
    }
}

impl Batch {
    #[inline(never)]
    fn start(mut self: Box<Self>, fd: &Fd, slot: u32, way: Way, end: Option<TurnEnd<'_>>) -> OpKey {
        if self.rest.is_empty() && way == Way::Socket {
            return send(fd, self, slot, end);
        }
        if way == Way::Thread {
            let work = Work::Write(self.into_pieces());
            return op::start(Box::new(ByThread { fd: fd.clone(), slot, work }));
        }
        (self.fd, self.slot, self.pipe) = (Some(fd.clone()), slot, way == Way::Pipe);
        op::start(self)
    }
}

impl Batch {
    fn into_pieces(self) -> Pieces {
        let Batch { first, rest, sent, len, .. } = self;
        Pieces { first, rest, sent, len }
    }
}

impl From<Pieces> for Batch {
    fn from(Pieces { first, rest, sent, len }: Pieces) -> Batch {
        Batch { first, rest, sent, len, ..Batch::default() }
    }
}

#[inline(always)]
fn send<P: Payload>(fd: &Fd, payload: Box<P>, slot: u32, end: Option<TurnEnd<'_>>) -> OpKey {
    match end {
        Some(end) => end.sends().send(fd, payload, slot),
        None => op::send(fd, payload, slot),
    }
}

impl Batch {
    pub(crate) fn entry(&mut self) -> Sqe<'_> {
        // A batch without a descriptor is never started.
        let Some(fd) = &self.fd else { return Sqe::nop() };
        if self.pipe {
            return Sqe::write(fd, self.first());
        }
        let rest = self.rest.iter().map(Segment::as_ref);
        Sqe::send_vectored(fd, std::iter::once(self.first()).chain(rest).take(SEGMENTS_MAX).collect())
    }

    /// The send has completed; returns the slot of its stream.
    pub(crate) fn came_back(&mut self) -> u32 {
        self.fd = None;
        self.slot
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn chunk(len: usize) -> Box<Block> {
        Block::copied(&vec![7; len])
    }

    /// The load's segments: address and content of each.
    fn segments(load: &Load) -> Vec<(*const u8, Vec<u8>)> {
        let told = |bytes: &[u8]| (bytes.as_ptr(), bytes.to_vec());
        match load {
            Load::Block(block) | Load::Copies(block) => vec![told(block)],
            Load::Batch(batch) => {
                let rest = batch.rest.iter().map(|segment| told(segment.as_ref()));
                std::iter::once(told(batch.first())).chain(rest).collect()
            }
        }
    }

    fn copied(data: &[u8]) -> Load {
        Load::copied(data, Box::default)
    }

    #[test]
    fn small_copies_share_a_block_and_keep_their_order() {
        for size in [40, 300] {
            let piece = |n: u8| vec![n; size];
            let load = (1..200u8).fold(copied(&piece(0)), |load, n| load.then_copy(&piece(n), Box::default));
            assert!(matches!(load, Load::Copies(_)));
            let bytes: Vec<u8> = (0..200u8).flat_map(piece).collect();
            assert_eq!((load.len(), &segments(&load)[0].1), (200 * size, &bytes));
        }
        let full = copied(&[1; BLOCK_MAX]).then_copy(&[2], Box::default);
        assert_eq!(segments(&full).len(), 2);
    }

    #[test]
    fn a_small_copy_joins_a_small_chunk() {
        for len in [100, 512, 5000] {
            let load = Load::Block(chunk(len)).then_copy(&[1; 700], Box::default);
            let bytes = [vec![7; len], vec![1; 700]].concat();
            assert!(matches!(load, Load::Block(_)));
            assert_eq!(segments(&load)[0].1, bytes);
        }
    }

    #[test]
    fn a_large_chunk_stays_where_it_is_whatever_follows() {
        // Sizes of blocks: these have no room for more.
        for len in [16 << 10, 64 << 10, 256 << 10] {
            let block = chunk(len);
            assert_eq!(block.room(), 0);
            let place = block.as_ptr();
            let load = Load::Block(block).then_copy(b"\r\n", Box::default).then_copy(b"!", Box::default);
            let told = segments(&load);
            assert_eq!((told.len(), told[0].0, &told[1].1[..]), (2, place, &b"\r\n!"[..]));
        }
    }

    #[test]
    fn a_large_copy_takes_no_more_memory_than_it_needs() {
        let load = copied(&vec![1; BLOCK_MAX + 1]);
        let Load::Batch(batch) = &load else { panic!("{load:?}") };
        assert!(matches!(&batch.first, Some(Segment::Vec(data)) if data.capacity() == BLOCK_MAX + 1));
        let behind = copied(&[1; 100]).then_copy(&vec![2; BLOCK_MAX], Box::default);
        assert_eq!(segments(&behind).len(), 2);
        assert_eq!(behind.len(), 100 + BLOCK_MAX);
    }

    #[test]
    fn what_was_sent_is_dropped_and_the_rest_keeps_its_order() {
        let load = || {
            let load = Load::Block(chunk(16 << 10)).then(Segment::Vec(vec![1; 100]), Box::default);
            load.then(Segment::from(Bytes::from_static(&[2; 50])), Box::default)
        };
        let all: Vec<u8> = segments(&load()).into_iter().flat_map(|(_, bytes)| bytes).collect();
        for count in [0, 1, (16 << 10) - 1, 16 << 10, (16 << 10) + 1, (16 << 10) + 100, all.len() - 1] {
            let mut load = load();
            let whole: usize = load.consume(count).iter().map(|segment| segment.as_ref().len()).sum();
            assert!(whole <= count);
            let left: Vec<u8> = segments(&load).into_iter().flat_map(|(_, bytes)| bytes).collect();
            assert_eq!((load.len(), &left[..]), (all.len() - count, &all[count..]));
        }
        let mut block = Load::Block(chunk(100));
        drop(block.consume(99));
        assert_eq!((block.len(), &segments(&block)[0].1[..]), (1, &[7][..]));
    }
}
