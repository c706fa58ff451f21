//! The waker of a task: a number.
//!
//! # What this file owns
//! Nothing: a waker's data word is not a pointer. It packs (loop index: 12 bits, generation: 24, slot: 28), so
//! there is no reference count, clone and drop do nothing, and no waker can dangle.
//!
//! # Rules
//! 1. The data word is made without provenance and is never dereferenced: `wake` reads it as an integer.
//! 2. All four functions of the vtable are thread-safe: `clone` and `drop` touch nothing shared, `wake` goes
//!    to the task table only on the loop's own thread and to the loop's inbox from any other. Who has read a waker's
//!    number may forget it.
//! 3. A key whose task, or loop, is gone matches nothing; one whose generation wrapped (2^24 reuses of one
//!    slot) or whose loop index was taken over wakes a task needlessly, which futures allow.

use std::{
    ptr,
    task::{RawWaker, RawWakerVTable, Waker},
};

use crate::{current, handle};

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

    pub(crate) fn slot(self) -> usize {
        (self.0 & SLOT_MASK) as usize
    }

    /// Whose waker it is, if it is a task's.
    #[inline(always)]
    pub(crate) fn of(waker: &Waker) -> Option<WakeKey> {
        ptr::eq(waker.vtable(), &VTABLE).then(|| WakeKey(waker.data().addr() as u64))
    }

    pub(crate) fn waker(self) -> Waker {
        // SAFETY: rules 1 and 2: the contract of RawWaker holds for any data word.
        unsafe { Waker::new(ptr::without_provenance(self.0 as usize), &VTABLE) }
    }
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(|data| RawWaker::new(data, &VTABLE), wake, wake, |_| {});

fn wake(data: *const ()) {
    let key = WakeKey(data.addr() as u64);
    let ours = current::peek(|lp| {
        let ours = lp.id().index() == key.loop_index();
        if ours {
            lp.tasks.wake(key);
        }
        ours
    });
    if ours != Some(true) {
        handle::wake_elsewhere(key);
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

    #[test]
    fn f3_a_waker_of_no_loop_wakes_nothing_and_clones_for_free() {
        let waker = WakeKey::new(4000, 1, 1).waker();
        for _ in 0..70_000 {
            std::mem::forget(waker.clone());
        }
        waker.wake_by_ref();
        assert!(waker.will_wake(&waker.clone()));
    }
}
