//! The table of callbacks that have not run yet.

use std::cell::RefCell;

use crate::scheduler::slab::{NONE, Place, Slab};

type Callback = Box<dyn FnOnce()>;

/// Names one callback of a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallKey {
    pub(crate) slot: u32,
    generation: u32,
}

struct Slot {
    generation: u32,
    next_free: u32,
    callback: Option<Callback>,
    /// Also once its callback was cancelled.
    used: bool,
}

impl Place for Slot {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn is_free(&self) -> bool {
        !self.used
    }

    fn next_free(&self) -> u32 {
        self.next_free
    }

    fn set_next_free(&mut self, next: u32) {
        self.next_free = next;
    }
}

/// The callbacks that have not run.
pub(crate) struct Calls {
    slots: RefCell<Slab<Slot>>,
}

impl Calls {
    /// `far_too_large` hears that the table is.
    pub(crate) fn new(far_too_large: fn()) -> Calls {
        Calls { slots: RefCell::new(Slab::new(far_too_large)) }
    }

    pub(crate) fn insert(&self, callback: Callback) -> CallKey {
        let mut slots = self.slots.borrow_mut();
        let (slot, place) =
            slots.take(|_, generation| Slot { generation, next_free: NONE, callback: None, used: false });
        (place.callback, place.used) = (Some(callback), true);
        CallKey { slot, generation: place.generation }
    }

    /// The callback's turn has come: its slot is free again. `None` if it was cancelled.
    pub(crate) fn take(&self, slot: u32) -> Option<Callback> {
        let mut slots = self.slots.borrow_mut();
        slots.give_back(slot as usize, |place, next| {
            place.generation = place.generation.wrapping_add(1);
            (place.next_free, place.used) = (next, false);
            Some(place.callback.take())
        })?
    }

    /// Gives the memory of a peak back.
    pub(crate) fn tidy(&self) {
        self.slots.borrow_mut().shrink();
    }

    /// Memory of the slots.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.borrow().bytes()
    }

    /// Takes the function away; the slot is freed when its turn comes.
    pub(crate) fn cancel(&self, key: CallKey) -> Option<Callback> {
        let mut slots = self.slots.borrow_mut();
        slots.get_mut(key.slot as usize).filter(|s| s.generation == key.generation)?.callback.take()
    }

    /// Everything, to be dropped by the closing loop.
    pub(crate) fn clear(&self) -> Vec<Option<Callback>> {
        self.slots.borrow_mut().take_all().into_places().map(|slot| slot.callback).collect()
    }
}
