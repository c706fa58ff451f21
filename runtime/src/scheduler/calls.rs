//! The table of callbacks that have not run yet.

use std::{cell::RefCell, panic::Location};

use crate::scheduler::slab::{Held, HeldKey, Slab};

type Callback = Box<dyn FnOnce()>;

/// Where a callback was created, if that is known.
pub(crate) type Place = Option<&'static Location<'static>>;

type Call = (Callback, Place);

/// Names one callback of a loop.
pub(crate) type CallKey = HeldKey;

/// Callbacks that have not run; `None` for a cancelled one.
pub(crate) struct Calls {
    slots: RefCell<Slab<Held<Option<Call>>>>,
}

impl Calls {
    /// `far_too_large` is called when the table is.
    pub(crate) fn new(far_too_large: fn()) -> Calls {
        Calls { slots: RefCell::new(Slab::new(far_too_large)) }
    }

    pub(crate) fn insert(&self, callback: Callback, place: Place) -> CallKey {
        self.slots.borrow_mut().insert(Some((callback, place)))
    }

    /// Removes the callback, to be called; `None` if it was cancelled.
    pub(crate) fn take(&self, slot: u32) -> Option<Call> {
        self.slots.borrow_mut().remove_at(slot).flatten()
    }

    /// Frees memory after a peak.
    pub(crate) fn tidy(&self) {
        self.slots.borrow_mut().shrink();
    }

    /// Memory of the slots.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.borrow().bytes()
    }

    /// Cancels the callback; its slot is freed when it would have run.
    pub(crate) fn cancel(&self, key: CallKey) -> Option<Callback> {
        let (callback, _) = self.slots.borrow_mut().find(key)?.take()?;
        Some(callback)
    }

    /// Removes everything. The closing loop drops it.
    pub(crate) fn clear(&self) -> Vec<Option<Call>> {
        self.slots.borrow_mut().take_all().into_values().collect()
    }
}
