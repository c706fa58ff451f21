//! `WakeKey`: names a task in the 64 bits of a waker's data word.

use std::{
    ptr,
    task::{RawWakerVTable, Waker},
};

// The key fills a pointer exactly.
const _: () = assert!(usize::BITS == 64, "corio needs a 64-bit target: a waker packs its task into 64 bits");

const SLOT_BITS: u32 = 28;
const GENERATION_BITS: u32 = 24;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;
const GENERATION_MASK: u64 = (1 << GENERATION_BITS) - 1;

/// Most tasks of a loop.
pub(crate) const MAX_TASKS: usize = 1 << SLOT_BITS;

/// Names a task of any loop in 64 bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct WakeKey(u64);

impl WakeKey {
    pub(crate) fn new(loop_index: usize, generation: u32, slot: u32) -> WakeKey {
        let generation = u64::from(generation) & GENERATION_MASK;
        WakeKey(
            (loop_index as u64) << (SLOT_BITS + GENERATION_BITS)
                | generation << SLOT_BITS
                | u64::from(slot) & SLOT_MASK,
        )
    }

    pub(crate) fn loop_index(self) -> usize {
        (self.0 >> (SLOT_BITS + GENERATION_BITS)) as usize
    }

    /// The data word of the task's wakers.
    #[inline(always)]
    pub(crate) fn word(self) -> usize {
        self.0 as usize
    }

    #[inline(always)]
    pub(crate) fn of_word(word: usize) -> WakeKey {
        WakeKey(word as u64)
    }

    pub(crate) fn slot(self) -> usize {
        (self.0 & SLOT_MASK) as usize
    }

    /// The key in a waker, if it is a task's: if its vtable is `table`.
    #[inline(always)]
    pub(crate) fn of(waker: &Waker, table: &'static RawWakerVTable) -> Option<WakeKey> {
        ptr::eq(waker.vtable(), table).then(|| WakeKey(waker.data().addr() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_parts() {
        let key = WakeKey::new(4095, 0xff_ffff, (1 << 28) - 1);
        assert_eq!((key.loop_index(), key.slot()), (4095, (1 << 28) - 1));
        let of = |generation| WakeKey::new(4095, generation, (1 << 28) - 1);
        assert!(key == of(0xff_ffff) && key == of(0x1ff_ffff) && key != of(0xff_fffe));
    }
}
