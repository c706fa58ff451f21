//! Values that live on a loop, for `OnLoop`.

use std::{any::Any, cell::RefCell, rc::Rc};

use crate::scheduler::slab::{Held, HeldKey, Slab};

/// Names one value of a loop.
pub(crate) type ValueKey = HeldKey;

/// The values of a loop, of any types.
pub(crate) struct Values {
    slots: RefCell<Slab<Held<Rc<dyn Any>>>>,
}

impl Values {
    /// `far_too_large` is called when the table is.
    pub(crate) fn new(far_too_large: fn()) -> Values {
        Values { slots: RefCell::new(Slab::new(far_too_large)) }
    }

    pub(crate) fn insert(&self, value: Rc<dyn Any>) -> ValueKey {
        self.slots.borrow_mut().insert(value)
    }

    pub(crate) fn get(&self, key: ValueKey) -> Option<Rc<dyn Any>> {
        self.slots.borrow_mut().find(key).map(|value| Rc::clone(value))
    }

    /// Removes a value that nobody uses at the moment.
    pub(crate) fn remove(&self, key: ValueKey) -> Option<Rc<dyn Any>> {
        let mut slots = self.slots.borrow_mut();
        slots.find(key).filter(|value| Rc::strong_count(value) == 1)?;
        slots.remove(key)
    }

    /// Removes everything; a key of before names nothing that is added later.
    pub(crate) fn clear(&self) -> Vec<Rc<dyn Any>> {
        let mut slots = self.slots.borrow_mut();
        let keys: Vec<ValueKey> = slots.values().map(|(key, _)| key).collect();
        keys.into_iter().filter_map(|key| slots.remove(key)).collect()
    }

    /// Frees memory after a peak.
    pub(crate) fn tidy(&self) {
        self.slots.borrow_mut().shrink();
    }

    /// Memory of the slots.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.borrow().bytes()
    }
}
