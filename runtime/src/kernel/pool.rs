//! The provided buffers of a loop: a small ring that the kernel takes receive buffers from.
//!
//! # What this file owns
//! One memory region, of which it uses what follows the first page boundary: a ring of `count` entries (16 bytes
//! each), and `count` buffers of `size` bytes after it. It is registered with the kernel as buffer group 0 by the
//! ring (`ring/uring.rs`).
//!
//! # States of a buffer
//! ```text
//!           publish()                    CQE with its id: take()
//!   ours ───────────────▶ the kernel's ──────────────────────────▶ lent out, as a Filled or a PoolBuf
//!     ▲                                                                 │ the end of lend(), PoolBuf::drop
//!     └─────────────────────────────────────────────────────────────────┘ (publish at once)
//! ```
//! Where no kernel takes buffers (the simulator), `fill()` stands for the CQE.
//!
//! # Rules
//! 1. The region is allocated once, zeroed, and freed only by `Region::drop`, which runs when the last share
//!    of the pool and the last `PoolBuf` are gone, or never if the ring could not be quiesced (`leak`).
//! 2. A buffer is read by us only through its one `Filled`, be it alone or in a `PoolBuf`, which exists only between
//!    the CQE that named the buffer and its publication: the kernel does not touch a buffer that it has given out.
//! 3. Every id is checked against `count` and against being lent out already before it becomes a `Filled`, and the
//!    length against `size`.
//! 4. Only `publish` writes ring entries, at the tail, on the loop's thread (the region is neither `Send` nor
//!    `Sync`). Entries between the kernel's head and our tail are never written: at most `count` buffers
//!    exist, so at most `count` entries are live, and `count` is a power of two.
//! 5. The tail is the only word that both sides use; it is stored with release order after the entry.
//! 6. A pool of ours is never registered (`ring_address` asserts it): what would be the kernel's is ours, and `fill`
//!    lends it to be written, once it is marked as lent out and before a `Filled` of it is given away.
//! 7. A `Filled` is lent or shared by the pool that it came from: a loop has one, the ring's, which `driver.rs` has a
//!    share of.
//!
//! Callers may assume: a `PoolBuf` is plain readable memory; dropping it gives the buffer back.

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

/// The group id that receives name.
pub(crate) const GROUP: u16 = 0;
/// More would never be in a cache, and is a mistake.
const TOTAL_MAX: usize = 1 << 30;
/// The largest page of the architecture.
const PAGE: usize = if cfg!(target_arch = "x86_64") { 4 << 10 } else { 64 << 10 };

/// The buffers of one loop.
#[derive(Clone)]
pub(crate) struct Pool {
    region: Rc<Region>,
    owner: Owner,
}

/// Who takes the free buffers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Kernel,
    Us,
}

struct Region {
    /// What was allocated: up to a page more than what is used.
    memory: NonNull<u8>,
    /// The first page boundary in it: the ring.
    base: NonNull<u8>,
    /// Behind the ring.
    buffers: NonNull<u8>,
    layout: Layout,
    count: u16,
    /// Of a buffer: at most 1 MiB.
    size: u32,
    tail: Cell<u16>,
    lent: Box<[Cell<bool>]>,
    available: Cell<usize>,
    leaked: Cell<bool>,
}

impl Pool {
    /// Allocates `count` buffers (a power of two up to 32768) of `size` bytes.
    pub(crate) fn new(count: u16, size: usize) -> io::Result<Pool> {
        check(count, size)?;
        let bytes = ring_bytes(count) + usize::from(count) * size;
        // Asked for with a page's alignment, all of it would be written to now: so it comes as untouched zero pages.
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
            tail: Cell::new(0),
            available: Cell::new(0),
            lent: vec![Cell::new(true); usize::from(count)].into_boxed_slice(),
            leaked: Cell::new(false),
        });
        for id in 0..count {
            region.publish(id);
        }
        Ok(Pool { region, owner: Owner::Kernel })
    }

    /// As `new`, for a kernel that receives by system calls of ours, or none.
    pub(crate) fn ours(count: u16, size: usize) -> io::Result<Pool> {
        Ok(Pool { owner: Owner::Us, ..Pool::new(count, size)? })
    }

    /// Where the ring begins, for its registration.
    pub(crate) fn ring_address(&self) -> u64 {
        assert!(self.owner == Owner::Kernel, "these buffers are not for the kernel to take");
        self.region.base.as_ptr() as u64
    }

    pub(crate) fn count(&self) -> u16 {
        self.region.count
    }

    /// Buffers that the kernel can take now.
    pub(crate) fn available(&self) -> usize {
        self.region.available.get()
    }

    /// The buffer `id`, of which the kernel filled `len` bytes. `None` for an id that was not the kernel's.
    #[inline(always)]
    pub(crate) fn take(&self, id: u16, len: i32) -> Option<Filled> {
        let region = &self.region;
        region.lent.get(usize::from(id)).filter(|lent| !lent.replace(true))?;
        region.available.set(region.available.get() - 1);
        Some(Filled { id, len: u32::try_from(len).unwrap_or(0).min(region.size) })
    }

    /// Runs `f` with the bytes of a buffer of this pool, and whether they are all of it; then it goes back.
    #[inline(always)]
    pub(crate) fn lend<R>(&self, filled: Filled, f: impl FnOnce(&[u8], bool) -> R) -> R {
        let lent = Lent { region: &self.region, filled };
        let result = f(self.region.bytes(&lent.filled), lent.filled.len == self.region.size);
        lent.end();
        result
    }

    /// A buffer of this pool, for as long as the caller keeps it.
    pub(crate) fn share(&self, filled: Filled) -> PoolBuf {
        PoolBuf { region: Rc::clone(&self.region), filled: Some(filled) }
    }

    /// Does the kernel's part in a receive: `f` writes to a free buffer and says how many bytes. `None` if there is no
    /// free one, or if that is 0. `f` must not receive from this pool.
    ///
    /// # Panics
    /// If the buffers are the kernel's.
    pub(crate) fn fill(&self, f: impl FnOnce(&mut [u8]) -> usize) -> Option<Filled> {
        assert!(self.owner == Owner::Us, "the buffers are the kernel's");
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
    /// Gives buffer `id` to the kernel.
    #[inline(always)]
    fn publish(&self, id: u16) {
        let tail = self.tail.get();
        let index = usize::from(tail & (self.count - 1));
        let entry = self.base.cast::<BufRingEntry>();
        // SAFETY: rule 4; `index` < `count`, so the entry is inside the region.
        let entry = unsafe { entry.add(index) };
        // SAFETY: rules 1 and 4: zeroed memory is a valid entry and nobody else refers to this one. The
        // setters leave the bytes of the tail, which lie over the first entry's last two, alone.
        let entry = unsafe { &mut *entry.as_ptr() };
        entry.set_addr(self.buffer(id).as_ptr() as u64);
        entry.set_len(self.size);
        entry.set_bid(id);
        self.tail.set(tail.wrapping_add(1));
        self.lent[usize::from(id)].set(false);
        self.available.set(self.available.get() + 1);
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

    /// All of a buffer of ours.
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

/// Whether a pool can have these sizes.
/// Whether there can be so many buffers of this size.
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

/// A buffer that the kernel has filled. To be lent or shared by its pool: dropped, it is lost until the pool goes.
#[must_use]
pub(crate) struct Filled {
    id: u16,
    len: u32,
}

/// Goes back also after a panic.
struct Lent<'a> {
    region: &'a Region,
    filled: Filled,
}

impl Lent<'_> {
    /// As its drop, which is a call where it may also follow a panic.
    #[inline(always)]
    fn end(self) {
        self.region.publish(self.filled.id);
        mem::forget(self);
    }

    /// Stays lent out, with `len` bytes.
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

/// Received bytes in a buffer of the pool. Dropping it gives the buffer back to the kernel.
pub struct PoolBuf {
    region: Rc<Region>,
    /// `None` while it goes, no longer shared.
    filled: Option<Filled>,
}

impl PoolBuf {
    /// What it was made of.
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
