//! Received bytes, and the recycler that their memory comes from.
//!
//! A block is plain initialised memory of one of a few sizes. Each thread with streams keeps a stack of free
//! blocks per size: the last one freed is the first one used, while it is still in the cache.

use std::{
    cell::{Cell, RefCell},
    fmt,
    ops::Deref,
};

use bytes::Bytes;

/// Sizes of blocks, and how many free ones of each a thread keeps.
const CLASSES: [(usize, usize); 5] =
    [(512, 512), (4 << 10, 256), (16 << 10, 64), (64 << 10, 48), (256 << 10, 8)];

struct Recycler {
    open: Cell<bool>,
    free: [RefCell<Vec<Box<[u8]>>>; CLASSES.len()],
}

thread_local! {
    static RECYCLER: Recycler =
        const { Recycler { open: Cell::new(false), free: [const { RefCell::new(Vec::new()) }; CLASSES.len()] } };
}

/// Lets this thread keep free blocks, or frees them all.
pub(crate) fn recycle_blocks(on: bool) {
    let _ = RECYCLER.try_with(|recycler| {
        recycler.open.set(on);
        if !on {
            for class in &recycler.free {
                class.take();
            }
        }
    });
}

/// The smallest class of blocks of at least `size` bytes. Most are of the first.
#[inline(always)]
fn class_of(size: usize) -> Option<usize> {
    if size <= CLASSES[0].0 { Some(0) } else { CLASSES.iter().position(|(bytes, _)| *bytes >= size) }
}

/// A block of at least `size` bytes.
#[inline(always)]
fn block(size: usize) -> Box<[u8]> {
    let Some(class) = class_of(size) else { return vec![0; size.next_power_of_two()].into_boxed_slice() };
    let recycled = RECYCLER.try_with(|recycler| recycler.free[class].borrow_mut().pop()).ok().flatten();
    recycled.unwrap_or_else(|| vec![0; CLASSES[class].0].into_boxed_slice())
}

#[inline(always)]
fn recycle(block: Box<[u8]>) {
    let Some(class) = class_of(block.len()).filter(|class| CLASSES[*class].0 == block.len()) else { return };
    let _ = RECYCLER.try_with(|recycler| {
        let mut free = recycler.free[class].borrow_mut();
        if recycler.open.get() && free.len() < CLASSES[class].1 {
            free.push(block);
        }
    });
}

/// Received bytes: owned, contiguous, `Send`. Its memory is used again when it is dropped.
///
/// ```
/// use corio_net::Chunk;
/// let mut chunk = Chunk::from(&b"hello world"[..]);
/// let hello = chunk.split_to(5);
/// assert_eq!((&hello[..], &chunk[..]), (&b"hello"[..], &b" world"[..]));
/// assert_eq!(Vec::from(chunk), b" world");
/// ```
#[derive(Default)]
pub struct Chunk {
    block: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Chunk {
    /// An empty chunk with a block for at least `size` bytes.
    pub(crate) fn with_capacity(size: usize) -> Chunk {
        Chunk { block: block(size), start: 0, end: 0 }
    }

    /// The whole block, to be filled from the start; then `set_len`.
    pub(crate) fn block_mut(&mut self) -> &mut [u8] {
        &mut self.block
    }

    /// The first `len` bytes of the block are the content now.
    pub(crate) fn set_len(&mut self, len: usize) {
        self.start = 0;
        self.end = len.min(self.block.len());
    }

    /// Appends `data`, in a larger block if need be; `more` more bytes are expected after it.
    #[inline(always)]
    pub(crate) fn append(&mut self, data: &[u8], more: usize) {
        if self.block.is_empty() {
            self.block = block(data.len() + more);
        } else if self.block.len() - self.end < data.len() {
            self.make_room(data.len(), more);
        }
        self.block[self.end..self.end + data.len()].copy_from_slice(data);
        self.end += data.len();
    }

    fn make_room(&mut self, size: usize, more: usize) {
        let len = self.len();
        // Moving down pays if the free part is at least as large as what moves.
        if self.block.len() - len >= size && self.start >= len {
            self.block.copy_within(self.start..self.end, 0);
        } else {
            let wanted = (len + size).max(if len == 0 { size + more } else { 2 * len });
            let mut larger = block(wanted);
            larger[..len].copy_from_slice(self);
            recycle(std::mem::replace(&mut self.block, larger));
        }
        (self.start, self.end) = (0, len);
    }

    /// Takes the first `n` bytes off (all if there are fewer), copying the smaller part of the two.
    ///
    /// The other part keeps the memory.
    #[inline(always)]
    pub fn split_to(&mut self, n: usize) -> Chunk {
        if n >= self.len() {
            return std::mem::take(self);
        }
        let mut first = Chunk::with_capacity(n);
        first.append(&self[..n], 0);
        self.start += n;
        first
    }

    /// Drops the first `n` bytes.
    pub(crate) fn advance(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
        if self.start == self.end {
            *self = Chunk::default();
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        &self.block[self.start..self.end]
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if !self.block.is_empty() {
            recycle(std::mem::take(&mut self.block));
        }
    }
}

impl From<&[u8]> for Chunk {
    fn from(data: &[u8]) -> Chunk {
        let mut chunk = Chunk::with_capacity(data.len());
        chunk.append(data, 0);
        chunk
    }
}

impl From<Chunk> for Vec<u8> {
    /// Without a copy if the chunk fills at least half of its block from the start.
    fn from(mut chunk: Chunk) -> Vec<u8> {
        if chunk.start == 0 && 2 * chunk.end >= chunk.block.len() {
            let mut data = std::mem::take(&mut chunk.block).into_vec();
            data.truncate(chunk.end);
            return data;
        }
        chunk.to_vec()
    }
}

impl From<Chunk> for Bytes {
    /// Without a copy.
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
        recycle_blocks(true);
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
        recycle_blocks(false);
    }

    #[test]
    fn blocks_are_used_again_last_in_first_out() {
        recycle_blocks(true);
        let chunk = Chunk::from(&[1; 1000][..]);
        let place = chunk.block.as_ptr();
        drop(chunk);
        assert_eq!(Chunk::from(&[2; 1000][..]).block.as_ptr(), place);
        recycle_blocks(false);
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
