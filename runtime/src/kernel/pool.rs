//! The provided buffers of a loop: a small ring from which the kernel takes receive buffers.
//!
//! # What this file owns
//! One memory region. The part after the first page boundary is used: a ring of `count` entries (16 bytes each),
//! followed by `count` buffers of `size` bytes. The ring (`ring/uring.rs`) registers it with the kernel as buffer group
//! 0.
//!
//! # States of a buffer
//! ```text
//!           publish()                    CQE with its id: take()
//!   ours ───────────────▶ the kernel's ──────────────────────────▶ lent out, as a Filled or a PoolBuf
//!     ▲                                                                 │ the end of lend(), PoolBuf::drop
//!     └─────────────────────────────────────────────────────────────────┘ (publish at once)
//! ```
//! If no kernel takes buffers (epoll, the simulator), `fill()` replaces the CQE.
//!
//! # Rules
//! 1. The region is allocated once, zeroed, and freed only by `Region::drop`, which runs when the last share
//!    of the pool and the last `PoolBuf` are gone, or never if the ring could not be quiesced (`leak`).
//! 2. We read a buffer only through its one `Filled`, alone or inside a `PoolBuf`, which exists only between the CQE
//!    that named the buffer and its publication: the kernel does not touch a buffer that it has given out.
//! 3. Before an id becomes a `Filled`, it is checked against `count` and against already being lent out, and the length
//!    against `size`.
//! 4. Only `publish` writes ring entries (`write_entry`), at the tail, on the loop's thread (the region is neither
//!    `Send` nor `Sync`). Entries between the kernel's head and our tail are never written: at most `count` buffers
//!    exist, so at most `count` entries are live, and `count` is a power of two.
//! 5. The tail is the only word that both sides use; it is stored with release order after the entry.
//! 6. A pool with `Owner::Us` is never registered (`ring_address` asserts it): its free buffers are ours, not the
//!    kernel's. `fill` lends one for writing, after it is marked as lent out and before its `Filled` is given away.
//! 7. A `Filled` is lent or shared only by the pool that it came from: a loop has one pool, the ring's, and `driver.rs`
//!    has a share of it.
//!
//! Callers may assume: a `PoolBuf` is plain readable memory; dropping it returns the buffer.

use std::{
    alloc::{self, Layout},
    cell::Cell,
    fmt, io, mem,
    ops::Deref,
    ptr::NonNull,
    rc::Rc,
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::types::BufRingEntry;

/// The buffer group id of receives.
pub(crate) const GROUP: u16 = 0;
/// The largest total size: more would never fit into a cache, and is a mistake.
const TOTAL_MAX: usize = 1 << 30;
/// The largest page of the architecture.
const PAGE: usize = if cfg!(target_arch = "x86_64") { 4 << 10 } else { 64 << 10 };

/// The buffers of one loop.
#[derive(Clone)]
pub(crate) struct Pool {
    region: Rc<Region>,
}

/// The side that takes the free buffers: the kernel, or our own code.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Kernel,
    Us,
}

struct Region {
    /// The allocation: up to a page more than the used part.
    memory: NonNull<u8>,
    /// The ring, at the first page boundary in the allocation.
    base: NonNull<u8>,
    /// The buffers, after the ring.
    buffers: NonNull<u8>,
    layout: Layout,
    count: u16,
    /// The size of a buffer: at most 1 MiB.
    size: u32,
    owner: Owner,
    tail: Cell<u16>,
    lent: Box<[Cell<bool>]>,
    available: Cell<usize>,
    leaked: Cell<bool>,
}

impl Pool {
    /// Allocates `count` buffers (a power of two up to 32768) of `size` bytes.
    pub(crate) fn new(count: u16, size: usize) -> io::Result<Pool> {
        Pool::allocate(count, size, Owner::Kernel)
    }

    /// Like `new`, for epoll and the simulator, whose receives are executed by our own code.
    pub(crate) fn ours(count: u16, size: usize) -> io::Result<Pool> {
        Pool::allocate(count, size, Owner::Us)
    }

    fn allocate(count: u16, size: usize, owner: Owner) -> io::Result<Pool> {
        check(count, size)?;
        let bytes = ring_bytes(count) + usize::from(count) * size;
        // With page alignment in the layout, the allocator would write to all of the memory now. Without it, the memory
        // consists of untouched zero pages.
        let layout = Layout::from_size_align(bytes + PAGE, 16).map_err(io::Error::other)?;
        // SAFETY: rule 1; the layout is not empty.
        let memory = NonNull::new(unsafe { alloc::alloc_zeroed(layout) })
            .ok_or_else(|| io::Error::new(io::ErrorKind::OutOfMemory, "no memory for receive buffers"))?;
        // SAFETY: rule 1: the boundary is within the first page of the allocation, which is a page longer.
        let base = unsafe { memory.add(memory.align_offset(PAGE)) };
        // SAFETY: rule 1: the buffers are inside the allocation.
        let buffers = unsafe { base.add(ring_bytes(count)) };
        let region = Rc::new(Region {
            memory,
            base,
            buffers,
            layout,
            count,
            size: size as u32,
            owner,
            tail: Cell::new(0),
            available: Cell::new(0),
            lent: vec![Cell::new(true); usize::from(count)].into_boxed_slice(),
            leaked: Cell::new(false),
        });
        for id in 0..count {
            region.publish(id);
        }
        Ok(Pool { region })
    }

    /// The address of the ring, for its registration.
    pub(crate) fn ring_address(&self) -> u64 {
        assert!(self.region.owner == Owner::Kernel, "these buffers are not for the kernel to take");
        self.region.base.as_ptr() as u64
    }

    pub(crate) fn count(&self) -> u16 {
        self.region.count
    }

    /// The number of buffers that the kernel can take now.
    pub(crate) fn available(&self) -> usize {
        self.region.available.get()
    }

    /// The buffer `id`, filled by the kernel with `len` bytes. `None` for an id that the kernel did not own.
    #[inline(always)]
    pub(crate) fn take(&self, id: u16, len: i32) -> Option<Filled> {
        let region = &self.region;
        region.lent.get(usize::from(id)).filter(|lent| !lent.replace(true))?;
        region.available.set(region.available.get() - 1);
        Some(Filled { id, len: u32::try_from(len).unwrap_or(0).min(region.size) })
    }

    /// Runs `f` with the bytes of a buffer of this pool, and whether they fill the buffer. Then the buffer is free
    /// again.
    #[inline(always)]
    pub(crate) fn lend<R>(&self, filled: Filled, f: impl FnOnce(&[u8], bool) -> R) -> R {
        let lent = Lent { region: &self.region, filled };
        let result = f(self.region.bytes(&lent.filled), lent.filled.len == self.region.size);
        lent.end();
        result
    }

    #[inline(always)]
    pub(crate) fn is_full(&self, filled: &Filled) -> bool {
        filled.len == self.region.size
    }

    /// Turns a buffer of this pool into one that the caller may keep.
    pub(crate) fn share(&self, filled: Filled) -> PoolBuf {
        PoolBuf { region: Rc::clone(&self.region), filled: Some(filled) }
    }

    /// Does the kernel's part of a receive: `f` writes to a free buffer and returns the number of bytes. `None` if no
    /// buffer is free, or if the number is 0. `f` must not receive from this pool.
    ///
    /// # Panics
    /// If the kernel owns the free buffers.
    #[inline(always)]
    pub(crate) fn fill(&self, f: impl FnOnce(&mut [u8]) -> usize) -> Option<Filled> {
        assert!(self.region.owner == Owner::Us, "the buffers are the kernel's");
        let region = &*self.region;
        let id = region.lent.iter().position(|lent| !lent.get())? as u16;
        let mut lent = Lent { region, filled: self.take(id, 0)? };
        let len = f(region.bytes_mut(&mut lent.filled)).min(region.size as usize);
        if len == 0 {
            lent.end();
            return None;
        }
        Some(lent.keep(len as u32))
    }

    /// Never frees the memory: the kernel may still write to it.
    pub(crate) fn leak(&self) {
        self.region.leaked.set(true);
    }
}

impl Region {
    /// Publishes buffer `id` to the kernel.
    #[inline(always)]
    fn publish(&self, id: u16) {
        self.lent[usize::from(id)].set(false);
        self.available.set(self.available.get() + 1);
        if self.owner == Owner::Kernel {
            self.write_entry(id);
        }
    }

    #[inline(always)]
    fn write_entry(&self, id: u16) {
        let tail = self.tail.get();
        let index = usize::from(tail & (self.count - 1));
        let entry = self.base.cast::<BufRingEntry>();
        // SAFETY: rule 4; `index` < `count`, so the entry is inside the region.
        let entry = unsafe { entry.add(index) };
        // SAFETY: rules 1 and 4: zeroed memory is a valid entry and nobody else refers to this one. The
        // setters do not write the bytes of the tail, which overlap the last two of the first entry.
        let entry = unsafe { &mut *entry.as_ptr() };
        entry.set_addr(self.buffer(id).as_ptr() as u64);
        entry.set_len(self.size);
        entry.set_bid(id);
        self.tail.set(tail.wrapping_add(1));
        self.tail_word().store(self.tail.get(), Ordering::Release);
    }

    fn tail_word(&self) -> &AtomicU16 {
        // SAFETY: rule 1: the base is the first entry, which is initialised.
        let tail = unsafe { BufRingEntry::tail(self.base.as_ptr().cast()) };
        // SAFETY: rule 5; the word is aligned and lives as long as the region.
        unsafe { AtomicU16::from_ptr(tail.cast_mut()) }
    }

    #[inline(always)]
    fn bytes<'a>(&'a self, filled: &'a Filled) -> &'a [u8] {
        debug_assert!(self.lent[usize::from(filled.id)].get(), "a buffer of this pool, and lent out");
        // SAFETY: rules 2, 3 and 7; the memory is initialised (rule 1).
        unsafe { std::slice::from_raw_parts(self.buffer(filled.id).as_ptr(), filled.len as usize) }
    }

    /// The whole memory of a buffer.
    fn bytes_mut<'a>(&'a self, filled: &'a mut Filled) -> &'a mut [u8] {
        // SAFETY: rules 2, 3, 6 and 7: nobody else refers to the buffer; the memory is initialised (rule 1).
        unsafe { std::slice::from_raw_parts_mut(self.buffer(filled.id).as_ptr(), self.size as usize) }
    }

    #[inline(always)]
    fn buffer(&self, id: u16) -> NonNull<u8> {
        // SAFETY: `id` < `count`, so the buffer is inside the region (rule 3).
        unsafe { self.buffers.add(usize::from(id) * self.size as usize) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if !self.leaked.get() {
            // SAFETY: rule 1: allocated with this layout, and the last owner is going.
            unsafe { alloc::dealloc(self.memory.as_ptr(), self.layout) };
        }
    }
}

/// Checks the sizes of a pool.
pub(crate) fn check(count: u16, size: usize) -> io::Result<()> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    if !count.is_power_of_two() || count > 1 << 15 {
        return Err(bad(&format!("buffer count {count} is not a power of two from 1 to 32768")));
    }
    if size == 0 || size > 1 << 20 {
        return Err(bad(&format!("buffer size {size} is not within 1 B and 1 MiB")));
    }
    let total = usize::from(count) * size;
    if total > TOTAL_MAX {
        return Err(bad(&format!("{count} buffers of {size} B are {total} B: must be at most 1 GiB in all")));
    }
    Ok(())
}

fn ring_bytes(count: u16) -> usize {
    (usize::from(count) * size_of::<BufRingEntry>()).next_multiple_of(PAGE)
}

/// A buffer that the kernel has filled, to be lent or shared by its pool. If it is dropped, its buffer is lost to the
/// pool.
#[must_use]
pub(crate) struct Filled {
    id: u16,
    len: u32,
}

/// Frees the buffer when dropped, even after a panic.
struct Lent<'a> {
    region: &'a Region,
    filled: Filled,
}

impl Lent<'_> {
    /// Like `drop`, but inlined in the usual case.
    #[inline(always)]
    fn end(self) {
        self.region.publish(self.filled.id);
        mem::forget(self);
    }

    /// Keeps the buffer lent out, with `len` bytes.
    fn keep(self, len: u32) -> Filled {
        let filled = Filled { id: self.filled.id, len };
        mem::forget(self);
        filled
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.region.publish(self.filled.id);
    }
}

/// Received bytes in a buffer of the pool. Dropping it returns the buffer to the kernel.
pub struct PoolBuf {
    region: Rc<Region>,
    /// `None` only while `unshare` consumes it.
    filled: Option<Filled>,
}

impl PoolBuf {
    /// The `Filled` inside.
    pub(crate) fn unshare(mut self) -> Filled {
        self.filled.take().expect("it is taken only here, where the rest goes")
    }

    /// Whether the receive filled the whole buffer, so that more is likely to come.
    pub fn is_full(&self) -> bool {
        self.len() == self.region.size as usize
    }
}

impl Deref for PoolBuf {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        self.filled.as_ref().map_or(&[], |filled| self.region.bytes(filled))
    }
}

impl Drop for PoolBuf {
    fn drop(&mut self) {
        if let Some(filled) = &self.filled {
            self.region.publish(filled.id);
        }
    }
}

impl fmt::Debug for PoolBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuf").field("len", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b4_every_buffer_comes_back_and_none_twice() {
        let pool = Pool::new(4, 64).unwrap();
        assert_eq!(pool.available(), 4);
        for round in 0..100u16 {
            let buf = pool.share(pool.take(round % 4, 8).unwrap());
            assert!(pool.take(round % 4, 8).is_none(), "a lent buffer cannot be lent again");
            assert_eq!(&buf[..], &[0; 8]);
            assert_eq!(pool.available(), 3);
            drop(buf);
            assert_eq!(pool.available(), 4);
        }
        assert!(pool.take(4, 1).is_none(), "an id that is out of range");
    }

    #[test]
    fn b4_a_lent_buffer_comes_back_also_after_a_panic() {
        let pool = Pool::ours(2, 4).unwrap();
        let receive = |bytes: &[u8]| {
            pool.fill(|buf| {
                let len = bytes.len().min(buf.len());
                buf[..len].copy_from_slice(&bytes[..len]);
                len
            })
        };
        let lengths = |bytes: &[u8]| {
            let filled = receive(bytes).unwrap();
            pool.lend(filled, |data, full| {
                assert_eq!((data, pool.available()), (&bytes[..data.len()], 1));
                (data.len(), full)
            })
        };
        assert_eq!(
            [lengths(b"abc"), lengths(b"abcd"), lengths(b"abcde")],
            [(3, false), (4, true), (4, true)]
        );
        let filled = receive(b"abc").unwrap();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.lend(filled, |_, _| panic!("a receiver panics"));
        }));
        assert!(panicked.is_err());
        assert_eq!(pool.available(), 2);
        let again = pool.share(receive(b"x").unwrap()).unshare();
        assert_eq!(pool.available(), 1);
        assert_eq!(pool.lend(again, |data, _| data.to_vec()), b"x");
        assert_eq!(pool.available(), 2);
    }

    #[test]
    fn a_buffer_that_nothing_was_written_to_is_free_again() {
        let pool = Pool::ours(1, 4).unwrap();
        assert!(pool.fill(|_| 0).is_none());
        let panicked =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.fill(|_| panic!("amid it"))));
        assert!(panicked.is_err() && pool.available() == 1);
        let filled = pool.fill(|buf| {
            assert!(pool.fill(|_| 1).is_none(), "the only one is lent");
            buf.fill(7);
            99
        });
        assert_eq!(pool.lend(filled.unwrap(), |data, full| (data.to_vec(), full)), (vec![7; 4], true));
    }

    #[test]
    fn a_buffer_outlives_its_pool() {
        let pool = Pool::new(1, 16).unwrap();
        let buf = pool.share(pool.take(0, 16).unwrap());
        drop(pool);
        assert_eq!(buf.len(), 16);
    }

    #[test]
    fn wrong_sizes_are_refused_with_the_value() {
        assert!(Pool::new(3, 16).err().unwrap().to_string().contains("count 3"));
        assert!(Pool::new(2, 0).err().unwrap().to_string().contains("size 0"));
    }
}
