//! The waker of a task: a number.
//!
//! # What this file owns
//! Nothing: a waker's data word is not a pointer. It packs (loop index: 12 bits, generation: 24, slot: 28), so there is
//! no reference count, clone and drop do nothing, and no waker can dangle.
//!
//! # Rules
//! 1. The data word is made without provenance and is never dereferenced: `wake` reads it as an integer.
//! 2. All four functions of the vtable are thread-safe: `clone` and `drop` touch nothing shared; `wake` uses the task
//!    table only on the loop's own thread, and the loop's inbox on any other. Code that has read a waker's number may
//!    forget the waker.
//! 3. The key of an ended task or loop matches nothing. If its generation has wrapped (2^24 reuses of one slot) or its
//!    loop index was reused, it wakes a task needlessly, which futures allow.

use std::{
    ptr,
    task::{RawWaker, RawWakerVTable, Waker},
};

use crate::{
    event_loop::{current, registry},
    scheduler::wake_key::WakeKey,
};

/// A waker for the task that `key` names.
#[inline(always)]
pub(crate) fn waker(key: WakeKey) -> Waker {
    // SAFETY: rules 1 and 2: the contract of RawWaker holds for any data word.
    unsafe { Waker::new(ptr::without_provenance(key.word()), &VTABLE) }
}

pub(crate) static VTABLE: RawWakerVTable =
    RawWakerVTable::new(|data| RawWaker::new(data, &VTABLE), wake, wake, |_| {});

fn wake(data: *const ()) {
    let key = WakeKey::of_word(data.addr());
    let ours = current::peek(|lp| {
        let ours = lp.id().index() == key.loop_index();
        if ours {
            lp.tasks.wake(key);
        }
        ours
    });
    if ours != Some(true) {
        registry::wake_elsewhere(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f3_a_waker_of_no_loop_wakes_nothing_and_clones_for_free() {
        let waker = waker(WakeKey::new(4000, 1, 1));
        for _ in 0..70_000 {
            std::mem::forget(waker.clone());
        }
        waker.wake_by_ref();
        assert!(waker.will_wake(&waker.clone()));
    }
}
