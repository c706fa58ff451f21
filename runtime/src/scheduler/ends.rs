//! What must end before something else may: the cleanups in a future that was dropped, and the tasks cancelled with it.
//!
//! Whoever ends a future (a timeout, `catch_cancel`, a group, a cancelled task) opens an entry, makes it the current
//! one while the future is dropped, and goes on once nothing holds the entry.
//!
//! ```text
//!   open ──▶ held by each cleanup and task ──▶ over: wakes its waiter, releases the entries further out
//!    └── abandon: the waiter was dropped, and the entry that is current then takes over
//! ```
//! An abandoned entry is freed once it is over.

use std::{
    cell::{Cell, RefCell},
    task::{Context, Waker},
};

use crate::scheduler::slab::{Held, HeldKey, Slab};

/// Names an entry. A stale key names one that is over.
pub(crate) type EndsKey = HeldKey;

/// See the head of the file.
pub(crate) struct Ends {
    entries: RefCell<Slab<Held<Entry>>>,
    current: Cell<Current>,
    /// A future is being dropped because it was ended, and not by its owner's own choice.
    ending: Cell<bool>,
    wake: fn(Waker),
}

/// Which entry is held by what ends now.
#[derive(Clone, Copy)]
pub(crate) enum Current {
    None,
    /// One that is opened when it is held first: most futures leave nothing behind.
    New,
    Entry(EndsKey),
}

struct Entry {
    holds: u32,
    /// Its waiter was dropped.
    abandoned: bool,
    waiter: Option<Waker>,
    /// Entries that it holds until it is over.
    outer: Vec<EndsKey>,
}

impl Ends {
    /// `wake` calls a waker that may be foreign code.
    pub(crate) fn new(wake: fn(Waker), far_too_large: fn()) -> Ends {
        let entries = RefCell::new(Slab::new(far_too_large));
        Ends { entries, current: Cell::new(Current::None), ending: Cell::new(false), wake }
    }

    /// An entry that nothing holds. Its owner must `close` or `abandon` it.
    pub(crate) fn open(&self) -> EndsKey {
        let entry = Entry { holds: 0, abandoned: false, waiter: None, outer: Vec::new() };
        self.entries.borrow_mut().insert(entry)
    }

    /// The current entry.
    pub(crate) fn current(&self) -> Option<EndsKey> {
        match self.current.get() {
            Current::None => None,
            Current::Entry(key) => Some(key),
            Current::New => {
                let key = self.open();
                self.current.set(Current::Entry(key));
                Some(key)
            }
        }
    }

    /// Makes an entry the current one. Returns the former, to be put back.
    #[inline(always)]
    pub(crate) fn enter(&self, key: EndsKey) -> Current {
        self.current.replace(Current::Entry(key))
    }

    /// Puts back what `enter` returned.
    #[inline(always)]
    pub(crate) fn back(&self, outer: Current) {
        self.current.set(outer);
    }

    /// Nothing is current until `back`.
    pub(crate) fn leave(&self) -> Current {
        self.current.replace(Current::None)
    }

    /// Whether a future is being dropped by who ended it.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.get()
    }

    /// Calls `f`, which drops a future; `ended` if it did not come to its end. Returns the entry of what must end
    /// before its owner goes on; `None` if there is nothing.
    pub(crate) fn collect(&self, ended: bool, f: impl FnOnce()) -> Option<EndsKey> {
        let outer = self.current.replace(Current::New);
        let ending = self.ending.replace(ended || self.ending.get());
        let mut collecting = Collecting { ends: self, outer, ending, unwinds: true };
        f();
        collecting.unwinds = false;
        let Current::Entry(key) = self.current.get() else { return None };
        if self.is_over(key) {
            self.close(key);
            return None;
        }
        Some(key)
    }

    pub(crate) fn hold(&self, key: EndsKey) {
        if let Some(entry) = self.entries.borrow_mut().find(key) {
            entry.holds += 1;
        }
    }

    /// Gives back one `hold`.
    pub(crate) fn release(&self, key: EndsKey) {
        let over = {
            let mut entries = self.entries.borrow_mut();
            let Some(entry) = entries.find(key) else { return };
            entry.holds -= 1;
            if entry.holds > 0 {
                return;
            }
            let over = (entry.waiter.take(), std::mem::take(&mut entry.outer));
            if entry.abandoned {
                entries.remove(key);
            }
            over
        };
        let (waiter, outer) = over;
        if let Some(waiter) = waiter {
            (self.wake)(waiter);
        }
        for key in outer {
            self.release(key);
        }
    }

    pub(crate) fn is_over(&self, key: EndsKey) -> bool {
        self.entries.borrow_mut().find(key).is_none_or(|entry| entry.holds == 0)
    }

    /// Whether nothing holds it; if something does, the last release wakes `cx`.
    pub(crate) fn poll_over(&self, key: EndsKey, cx: &Context<'_>) -> bool {
        // Cloned before the borrow, and the old one dropped after it: both are foreign code.
        let waker = cx.waker().clone();
        let _old = match self.entries.borrow_mut().find(key) {
            Some(entry) if entry.holds > 0 => entry.waiter.replace(waker),
            Some(_) | None => return true,
        };
        false
    }

    /// `outer` waits for it, too.
    pub(crate) fn also(&self, key: EndsKey, outer: Option<EndsKey>) {
        let Some(outer) = outer.filter(|outer| *outer != key) else { return };
        let mut entries = self.entries.borrow_mut();
        let Some(entry) = entries.find(key).filter(|entry| entry.holds > 0) else { return };
        entry.outer.push(outer);
        // If it is gone, its release does nothing.
        if let Some(outer) = entries.find(outer) {
            outer.holds += 1;
        }
    }

    /// Frees an entry that is over.
    pub(crate) fn close(&self, key: EndsKey) {
        self.entries.borrow_mut().remove(key);
    }

    /// Its waiter is dropped: the current entry waits instead.
    pub(crate) fn abandon(&self, key: EndsKey) {
        if !self.is_over(key) {
            self.also(key, self.current());
        }
        self.disown(key);
    }

    /// Nobody else will wait for it. It is freed once it is over.
    pub(crate) fn disown(&self, key: EndsKey) {
        let _waiter = {
            let mut entries = self.entries.borrow_mut();
            let Some(entry) = entries.find(key) else { return };
            if entry.holds == 0 {
                entries.remove(key).and_then(|entry| entry.waiter)
            } else {
                entry.abandoned = true;
                entry.waiter.take()
            }
        };
    }

    /// Removes everything, for a closing loop to drop.
    pub(crate) fn clear(&self) -> Vec<Waker> {
        let entries = self.entries.borrow_mut().take_all();
        entries.into_values().filter_map(|entry| entry.waiter).collect()
    }

    /// Memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.borrow().bytes()
    }

    /// Frees memory after a peak.
    pub(crate) fn tidy(&self) {
        self.entries.borrow_mut().shrink();
    }
}

/// Puts back what was current before; after a panic nobody waits for the new entry.
struct Collecting<'a> {
    ends: &'a Ends,
    outer: Current,
    ending: bool,
    unwinds: bool,
}

impl Drop for Collecting<'_> {
    fn drop(&mut self) {
        self.ends.ending.set(self.ending);
        if let (Current::Entry(key), true) = (self.ends.current.replace(self.outer), self.unwinds) {
            self.ends.abandon(key);
        }
    }
}
