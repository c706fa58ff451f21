//! Received bytes, and the recycler that their memory comes from.
//!
//! A block is initialised memory in one of a few sizes. Each thread with streams keeps a stack of free blocks per size:
//! the block freed last, which is still in the cache, is reused first.

use std::{
    cell::Cell,
    fmt,
    mem::{self, ManuallyDrop},
    ops::Deref,
};

use bytes::Bytes;
use corio_runtime::{service::tidy_later, slab::KEEP_BYTES};

/// Block sizes, with the number of free blocks of each that a thread keeps.
const CLASSES: [(usize, usize); 5] =
    [(512, 512), (4 << 10, 256), (16 << 10, 256), (64 << 10, 64), (256 << 10, 8)];
/// Free blocks of each size that `tidy_blocks` leaves: 64 KiB in all.
const KEPT_ALWAYS: [usize; CLASSES.len()] = [64, 4, 1, 0, 0];
/// Most looks in a row that `tidy_blocks` skips.
const PATIENCE_MAX: u32 = 32;
/// Class of blocks of other sizes.
const NO_CLASS: usize = CLASSES.len();
/// Alignment of the content, except in the smallest blocks. The allocator places large memory 16 bytes after the start
/// of a page; there some processors (AMD Zen 3) copy at a quarter of their speed (the kernel's `rep movsb`).
const ALIGN: usize = 64;

/// Memory, and the range of it that is content.
pub(crate) struct Block {
    /// Content may reach to its end.
    data: Vec<u8>,
    start: usize,
    end: usize,
    /// Offset of the first aligned byte, where new content begins.
    base: u32,
    /// Index into `CLASSES`, or `NO_CLASS`; never changes.
    class: u32,
    /// The next free block in the recycler's stack.
    below: Option<Box<Block>>,
}

impl Block {
    /// An empty block of at least `size` bytes, mostly of the first class.
    #[inline(always)]
    pub(crate) fn new(size: usize) -> Box<Block> {
        if size > CLASSES[0].0 { Block::large(size) } else { Block::small() }
    }

    #[inline(always)]
    fn small() -> Box<Block> {
        RECYCLER.with(|recycler| recycler.free[0].pop()).unwrap_or_else(|| Block::made(0, 0))
    }

    #[inline(never)]
    fn large(size: usize) -> Box<Block> {
        let class = CLASSES.iter().position(|(bytes, _)| *bytes >= size).unwrap_or(NO_CLASS);
        let recycled = RECYCLER.with(|recycler| recycler.free.get(class).and_then(Stack::pop));
        let mut block = recycled.unwrap_or_else(|| Block::made(class, size));
        (block.start, block.end) = (block.base(), block.base());
        block
    }

    #[cold]
    #[inline(never)]
    fn made(class: usize, size: usize) -> Box<Block> {
        RECYCLER.with(|recycler| recycler.note_made(class));
        let size = CLASSES.get(class).map_or(size.next_power_of_two(), |class| class.0);
        let align = if class == 0 { 1 } else { ALIGN };
        let mut data = vec![0; size + align - 1];
        let base = data.as_ptr().addr().wrapping_neg() % align;
        data.truncate(base + size);
        Box::new(Block { data, start: 0, end: 0, base: base as u32, class: class as u32, below: None })
    }

    fn base(&self) -> usize {
        self.base as usize
    }

    /// A block with a copy of `data`.
    #[inline(always)]
    pub(crate) fn copied(data: &[u8]) -> Box<Block> {
        if data.len() > CLASSES[0].0 {
            return Block::copied_large(data);
        }
        let mut block = Block::small();
        block.data[..data.len()].copy_from_slice(data);
        block.end = data.len();
        block
    }

    #[inline(never)]
    fn copied_large(data: &[u8]) -> Box<Block> {
        let mut block = Block::large(data.len());
        block.put(data);
        block
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn room(&self) -> usize {
        self.data.len() - self.end
    }

    /// Appends `data`, in a larger block if needed. `more` further bytes are expected.
    #[inline(always)]
    pub(crate) fn append(self: &mut Box<Self>, data: &[u8], more: usize) {
        if self.room() < data.len() {
            make_room(self, data.len(), more);
        }
        self.put(data);
    }

    /// Drops the first `n` bytes; `n` is less than the length.
    pub(crate) fn consume(&mut self, n: usize) {
        self.start += n;
    }

    #[inline(always)]
    fn put(&mut self, data: &[u8]) {
        self.data[self.end..self.end + data.len()].copy_from_slice(data);
        self.end += data.len();
    }
}

#[inline(always)]
pub(crate) fn recycle(mut block: Box<Block>) {
    RECYCLER.with(|recycler| {
        if let Some(free) = recycler.free.get(block.class as usize)
            && free.room.get() > 0
        {
            (block.start, block.end) = (0, 0);
            free.push(block);
        }
    });
}

/// Frees half of the free blocks beyond those that are always kept. If blocks were made since the last look, it skips
/// this look and the next ones, as the thread needs so many now and then. Returns whether there is more to free.
pub(super) fn tidy_blocks() -> bool {
    RECYCLER.with(|recycler| {
        let Recycler { made, passed, patience, .. } = &**recycler;
        if made.replace(false) {
            patience.set((2 * patience.get() + 1).min(PATIENCE_MAX));
            passed.set(0);
            return true;
        }
        if passed.get() < patience.get() {
            passed.set(passed.get() + 1);
            return true;
        }
        let mut more = false;
        for (class, free) in recycler.free.iter().enumerate() {
            let spare = recycler.free_blocks(class).saturating_sub(KEPT_ALWAYS[class]);
            let drops = spare.div_ceil(2);
            (0..drops).for_each(|_| drop(free.pop()));
            recycler.bytes.set(recycler.bytes.get().saturating_sub(drops * CLASSES[class].0));
            more |= spare > 1;
        }
        if !more {
            patience.set(0);
        }
        more
    })
}

/// Memory of this thread's free blocks.
pub(super) fn free_bytes() -> usize {
    RECYCLER.with(|recycler| {
        let bytes = |(class, (size, _)): (usize, &(usize, usize))| {
            recycler.free_blocks(class) * (size + size_of::<Block>())
        };
        CLASSES.iter().enumerate().map(bytes).sum()
    })
}

struct Recycler {
    /// Bytes of all blocks made, in use or free, including those that moved to other threads.
    bytes: Cell<usize>,
    /// Whether blocks were made since the last look.
    made: Cell<bool>,
    /// Looks skipped since then, and looks to skip.
    passed: Cell<u32>,
    patience: Cell<u32>,
    /// Loops with streams on this thread.
    loops: Cell<u32>,
    free: [Stack; CLASSES.len()],
}

/// Free blocks of one class.
struct Stack {
    top: Cell<Option<Box<Block>>>,
    /// How many more blocks it takes; 0 without a loop.
    room: Cell<usize>,
}

thread_local! {
    /// No destructor, so an access need not check for it. The thread's last loop empties it.
    static RECYCLER: ManuallyDrop<Recycler> = const { ManuallyDrop::new(Recycler::new()) };
}

impl Recycler {
    const fn new() -> Recycler {
        let free = [const { Stack { top: Cell::new(None), room: Cell::new(0) } }; CLASSES.len()];
        let (passed, patience) = (Cell::new(0), Cell::new(0));
        let (bytes, made, loops) = (Cell::new(0), Cell::new(false), Cell::new(0));
        Recycler { bytes, made, passed, patience, loops, free }
    }

    /// Requests a look at the free blocks if they may be more than are always kept.
    fn note_made(&self, class: usize) {
        if let Some((size, _)) = CLASSES.get(class)
            && self.loops.get() > 0
        {
            self.made.set(true);
            self.bytes.set(self.bytes.get() + size);
            if self.bytes.get() > KEEP_BYTES {
                tidy_later();
            }
        }
    }

    fn free_blocks(&self, class: usize) -> usize {
        let kept = if self.loops.get() > 0 { CLASSES[class].1 } else { 0 };
        kept.saturating_sub(self.free[class].room.get())
    }
}

impl Stack {
    #[inline(always)]
    fn pop(&self) -> Option<Box<Block>> {
        let mut block = self.top.take()?;
        // `top` is `None` now, which the compiler cannot know; `forget` spares its drop check.
        mem::forget(self.top.replace(block.below.take()));
        self.room.set(self.room.get() + 1);
        Some(block)
    }

    /// Requires `room > 0`.
    #[inline(always)]
    fn push(&self, mut block: Box<Block>) {
        self.room.set(self.room.get() - 1);
        mem::forget(mem::replace(&mut block.below, self.top.take()));
        mem::forget(self.top.replace(Some(block)));
    }
}

/// Free blocks are kept while one of these exists: a loop of this thread has streams.
pub(crate) struct KeepBlocks(());

impl KeepBlocks {
    pub(crate) fn new() -> KeepBlocks {
        RECYCLER.with(|recycler| {
            if recycler.loops.replace(recycler.loops.get() + 1) == 0 {
                for (free, (_, kept)) in recycler.free.iter().zip(CLASSES) {
                    free.room.set(kept);
                }
            }
        });
        KeepBlocks(())
    }
}

impl Drop for KeepBlocks {
    fn drop(&mut self) {
        RECYCLER.with(|recycler| {
            recycler.loops.set(recycler.loops.get() - 1);
            if recycler.loops.get() == 0 {
                for free in &recycler.free {
                    while free.pop().is_some() {}
                    free.room.set(0);
                }
                recycler.bytes.set(0);
            }
        });
    }
}

/// Received bytes: owned, contiguous, `Send`. Dropping it recycles the memory.
///
/// ```
/// use corio_net::Chunk;
/// let mut chunk = Chunk::from(&b"hello world"[..]);
/// let hello = chunk.split_to(5);
/// assert_eq!((&hello[..], &chunk[..]), (&b"hello"[..], &b" world"[..]));
/// assert!(chunk.len() == 6 && !chunk.is_empty());
/// assert_eq!(Vec::from(chunk), b" world");
/// ```
#[derive(Default)]
pub struct Chunk(Option<Box<Block>>);

impl Chunk {
    /// An empty chunk with a block for at least `size` bytes.
    pub(crate) fn with_capacity(size: usize) -> Chunk {
        Chunk(Some(Block::new(size)))
    }

    /// The block, unless the chunk is vacant.
    #[inline(always)]
    pub(crate) fn into_block(mut self) -> Option<Box<Block>> {
        let block = self.0.take();
        // Nothing is left to drop; `forget` spares the call.
        mem::forget(self);
        block
    }

    /// Whether there is no block.
    #[inline(always)]
    pub(crate) fn is_vacant(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn block(&mut self) -> Option<&mut Box<Block>> {
        self.0.as_mut()
    }

    /// The whole block, to be filled from the start; call `set_len` after that.
    pub(crate) fn block_mut(&mut self) -> &mut [u8] {
        self.0.as_mut().map_or(&mut [], |block| &mut block.data[block.base as usize..])
    }

    /// Makes the first `len` bytes of the block the content.
    pub(crate) fn set_len(&mut self, len: usize) {
        if let Some(block) = &mut self.0 {
            block.start = block.base();
            block.end = block.data.len().min(block.start + len);
        }
    }

    /// Number of bytes.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |block| block.len())
    }

    /// Whether it is empty, as at the end of a stream.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends `data`, in a larger block if needed. `more` further bytes are expected.
    #[inline(always)]
    pub(crate) fn append(&mut self, data: &[u8], more: usize) {
        self.0.get_or_insert_with(|| Block::new(data.len() + more)).append(data, more);
    }

    /// Splits off the first `n` bytes (all if there are fewer). They are copied; the rest keeps the memory. If nothing
    /// remains, nothing is copied.
    #[inline(always)]
    pub fn split_to(&mut self, n: usize) -> Chunk {
        if n >= self.len() {
            return Chunk(self.0.take());
        }
        let first = Chunk::from(&self[..n]);
        self.advance(n);
        first
    }

    /// Drops the first `n` bytes.
    #[inline(always)]
    pub(crate) fn advance(&mut self, n: usize) {
        if n >= self.len() {
            *self = Chunk::default();
        } else if let Some(block) = &mut self.0 {
            block.start += n;
        }
    }
}

/// Makes room for `size` bytes after the content; `more` further bytes are expected.
#[inline(never)]
fn make_room(block: &mut Box<Block>, size: usize, more: usize) {
    let len = block.len();
    let base = block.base();
    // Moving the content to the start pays if the free part is at least as large as the content.
    if block.data.len() - base - len >= size && block.start - base >= len {
        let content = block.start..block.end;
        block.data.copy_within(content, base);
        (block.start, block.end) = (base, base + len);
    } else {
        let mut larger = Block::new((len + size).max(if len == 0 { size + more } else { 2 * len }));
        larger.put(&block.data[block.start..block.end]);
        recycle(mem::replace(block, larger));
    }
}

impl Deref for Block {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("len", &self.len())
            .field("of", &(self.data.len() - self.base()))
            .finish()
    }
}

impl From<Box<Block>> for Chunk {
    #[inline(always)]
    fn from(block: Box<Block>) -> Chunk {
        Chunk(Some(block))
    }
}

impl Deref for Chunk {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Some(block) => block,
            None => &[],
        }
    }
}

impl AsRef<[u8]> for Chunk {
    #[inline(always)]
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Chunk {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(block) = self.0.take() {
            recycle(block);
        }
    }
}

impl From<&[u8]> for Chunk {
    fn from(data: &[u8]) -> Chunk {
        Block::copied(data).into()
    }
}

impl From<Chunk> for Vec<u8> {
    /// Reuses the chunk's memory if its content begins at the start of the block and fills at least half of it; else
    /// copies.
    fn from(mut chunk: Chunk) -> Vec<u8> {
        match chunk.0.take() {
            Some(block) if block.start == block.base() && 2 * block.end >= block.data.len() => {
                let mut data = block.data;
                data.truncate(block.end);
                data.drain(..block.start);
                data
            }
            block => Chunk(block).to_vec(),
        }
    }
}

impl From<Chunk> for Bytes {
    /// No copy.
    fn from(chunk: Chunk) -> Bytes {
        Bytes::from_owner(chunk)
    }
}

impl PartialEq<[u8]> for Chunk {
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}

impl PartialEq<&[u8]> for Chunk {
    fn eq(&self, other: &&[u8]) -> bool {
        **self == **other
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Chunk {
    fn eq(&self, other: &&[u8; N]) -> bool {
        **self == other[..]
    }
}

impl<const N: usize> PartialEq<[u8; N]> for Chunk {
    fn eq(&self, other: &[u8; N]) -> bool {
        **self == other[..]
    }
}

impl PartialEq for Chunk {
    fn eq(&self, other: &Chunk) -> bool {
        **self == **other
    }
}

impl Eq for Chunk {}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appending_and_consuming_keeps_the_bytes_in_order() {
        let _keep = KeepBlocks::new();
        let (mut buffer, mut written, mut read) = (Chunk::default(), 0u32, 0u32);
        for round in 0..2000u32 {
            for _ in 0..round % 37 {
                buffer.append(&written.to_le_bytes(), 0);
                written += 1;
            }
            while buffer.len() >= 4 && !read.is_multiple_of(17) || buffer.len() > 4000 {
                assert_eq!(buffer.split_to(4), read.to_le_bytes());
                read += 1;
            }
            if buffer.len() >= 4 {
                assert_eq!(u32::from_le_bytes(buffer[..4].try_into().unwrap()), read);
                buffer.advance(4);
                read += 1;
            }
        }
        assert!(read > 10_000 && written - read <= 2000);
    }

    #[test]
    fn blocks_are_used_again_last_in_first_out() {
        let _keep = KeepBlocks::new();
        let chunk = Chunk::from(&[1; 1000][..]);
        let place = chunk.as_ptr();
        drop(chunk);
        assert_eq!(Chunk::from(&[2; 1000][..]).as_ptr(), place);
    }

    #[test]
    fn blocks_are_used_again_until_the_last_loop_of_the_thread_has_closed() {
        let kept = || {
            drop(Chunk::from(&[1; 1000][..]));
            RECYCLER.with(|recycler| {
                recycler
                    .free
                    .iter()
                    .filter_map(Stack::pop)
                    .inspect(|block| assert_eq!(block.class, 1))
                    .count()
            })
        };
        let (outer, inner) = (KeepBlocks::new(), KeepBlocks::new());
        assert_eq!(kept(), 1);
        drop(inner);
        assert_eq!(kept(), 1);
        drop(Chunk::from(&[1; 1000][..]));
        drop(outer);
        let left = RECYCLER.with(|recycler| recycler.free.iter().filter_map(Stack::pop).count());
        assert_eq!((left, kept()), (0, 0));
    }

    #[test]
    fn what_large_blocks_hold_begins_at_a_line_of_the_cache() {
        let _keep = KeepBlocks::new();
        // New and recycled blocks of each class, and of `NO_CLASS`.
        for _ in 0..2 {
            let mut chunks = Vec::new();
            for size in [513, 4 << 10, 10_000, 64 << 10, 256 << 10, 300_000] {
                let mut chunk = Chunk::with_capacity(size);
                assert!(chunk.block_mut().len() >= size && chunk.is_empty());
                assert!(chunk.block_mut().as_ptr().addr().is_multiple_of(ALIGN), "{size}");
                let room = chunk.block_mut().len();
                chunk.block_mut().fill(7);
                chunk.set_len(room);
                chunk.advance(room / 2);
                // The content moves to the block's start, then to a larger block.
                for more in [room / 2, room] {
                    chunk.append(&vec![7; more], 0);
                    assert!(chunk.as_ptr().addr().is_multiple_of(ALIGN), "{size} and {more}");
                }
                assert!(chunk[..] == vec![7; 2 * room], "{size}");
                chunks.push(chunk);
            }
        }
    }

    #[test]
    fn a_large_chunk_becomes_a_vec_in_its_own_memory() {
        let data: Vec<u8> = (0..60_000u32).map(|n| n as u8).collect();
        let chunk = Chunk::from(&data[..]);
        let memory = chunk.as_ptr_range();
        let vec = Vec::from(chunk);
        assert!(vec == data && vec.as_ptr().addr().abs_diff(memory.start.addr()) < ALIGN);
        assert_eq!(Vec::from(Chunk::from(&data[..1000])), &data[..1000]);
    }

    #[test]
    fn no_more_blocks_are_kept_than_of_their_class() {
        let _keep = KeepBlocks::new();
        let (size, most) = CLASSES[4];
        drop((0..most + 3).map(|_| Chunk::with_capacity(size)).collect::<Vec<_>>());
        let kept = || RECYCLER.with(|recycler| std::iter::from_fn(|| recycler.free[4].pop()).count());
        assert_eq!((kept(), kept()), (most, 0));
    }

    #[test]
    fn a_chunk_becomes_bytes_and_vec_unchanged() {
        let data: Vec<u8> = (0..=255).collect();
        assert_eq!(Vec::from(Chunk::from(&data[..])), data);
        assert_eq!(Bytes::from(Chunk::from(&data[..])), data);
        let mut chunk = Chunk::from(&data[..]);
        chunk.advance(3);
        assert_eq!(Vec::from(chunk), &data[3..]);
    }
}
