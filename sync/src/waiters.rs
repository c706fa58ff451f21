//! Waiting tasks, first come, first served: the mechanism that all primitives of this crate share.
//!
//! ```text
//!            poll                 grant                 poll
//!   (none) ────────▶ waiting ──────────────▶ granted ────────▶ (none), ready
//!                       └── drop ──▶ (none)     └── drop ──▶ (none), and `pass_on` runs
//! ```
//! A waiter is a slot in a list linked by slot numbers. Its future owns the slot until it is ready or dropped, so slots
//! need no generation. Nothing is borrowed while a waker is cloned, woken or dropped.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::Future,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    task::{Context, Poll, Waker},
};

/// See the head of the file.
pub(crate) struct Waiters {
    list: RefCell<List>,
    waiting: Cell<usize>,
    granted: Cell<usize>,
}

impl Waiters {
    pub(crate) const fn new() -> Waiters {
        let list = List { slots: Vec::new(), used: 0, free: NONE, first: NONE, last: NONE };
        Waiters { list: RefCell::new(list), waiting: Cell::new(0), granted: Cell::new(0) }
    }

    /// Number of waiters without a grant.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.get()
    }

    /// Number of waiters that were granted and have not run since.
    pub(crate) fn granted(&self) -> usize {
        self.granted.get()
    }

    /// Whether there are no waiters, granted or not.
    pub(crate) fn idle(&self) -> bool {
        self.waiting() + self.granted() == 0
    }

    /// Grants the waiter that has waited longest, and wakes it. `false` if there is none.
    #[inline]
    pub(crate) fn grant(&self) -> bool {
        self.waiting() > 0 && self.grant_first()
    }

    fn grant_first(&self) -> bool {
        let first = self.list.borrow_mut().grant_first();
        let Some(waker) = first else { return false };
        self.waiting.set(self.waiting() - 1);
        self.granted.set(self.granted() + 1);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Grants all current waiters. If a waker panics, the panic continues after all were granted.
    pub(crate) fn grant_all(&self) {
        let mut panicked = None;
        for _ in 0..self.waiting() {
            let granted = panic::catch_unwind(AssertUnwindSafe(|| self.grant()));
            panicked = panicked.or(granted.err());
        }
        if let Some(payload) = panicked {
            panic::resume_unwind(payload);
        }
    }

    /// Waits for a grant. `pass_on` runs if the future is dropped after the grant and before it is ready.
    pub(crate) fn wait<F: Fn()>(&self, pass_on: F) -> Wait<'_, F> {
        Wait { waiters: self, slot: NONE, pass_on }
    }

    /// Polls the waiter in `slot`; adds one if there is none.
    fn poll(&self, slot: &mut u32, cx: &mut Context<'_>) -> Poll<()> {
        if *slot != NONE && self.take_grant(*slot) {
            *slot = NONE;
            return Poll::Ready(());
        }
        if *slot == NONE {
            let waker = cx.waker().clone();
            *slot = self.list.borrow_mut().push(waker);
            self.waiting.set(self.waiting() + 1);
        } else if !self.list.borrow().is_for(*slot, cx.waker()) {
            let waker = cx.waker().clone();
            let old = self.list.borrow_mut().slots[*slot as usize].waker.replace(waker);
            drop(old);
        }
        Poll::Pending
    }

    fn take_grant(&self, slot: u32) -> bool {
        let mut list = self.list.borrow_mut();
        let granted = list.slots[slot as usize].granted;
        if granted {
            list.free(slot);
            self.granted.set(self.granted() - 1);
        }
        granted
    }

    /// Removes the waiter. Whether it was granted.
    fn leave(&self, slot: u32) -> bool {
        if self.take_grant(slot) {
            return true;
        }
        let waker = self.list.borrow_mut().remove(slot);
        self.waiting.set(self.waiting() - 1);
        drop(waker);
        false
    }
}

impl fmt::Debug for Waiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.waiting() + self.granted())
    }
}

/// The future of [`Waiters::wait`].
#[must_use = "futures do nothing unless awaited"]
pub(crate) struct Wait<'a, F: Fn()> {
    waiters: &'a Waiters,
    slot: u32,
    pass_on: F,
}

impl<F: Fn() + Unpin> Future for Wait<'_, F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let wait = self.get_mut();
        wait.waiters.poll(&mut wait.slot, cx)
    }
}

impl<F: Fn()> Drop for Wait<'_, F> {
    fn drop(&mut self) {
        if self.slot != NONE && self.waiters.leave(self.slot) {
            (self.pass_on)();
        }
    }
}

const NONE: u32 = u32::MAX;
/// Slots that a list always keeps: 64 KiB.
const KEPT: usize = (64 << 10) / size_of::<Slot>();

struct List {
    slots: Vec<Slot>,
    used: usize,
    free: u32,
    first: u32,
    last: u32,
}

/// A waiter. A granted one is no longer linked; a free slot uses only `next`.
struct Slot {
    waker: Option<Waker>,
    granted: bool,
    previous: u32,
    next: u32,
}

impl List {
    fn push(&mut self, waker: Waker) -> u32 {
        self.used += 1;
        let new = Slot { waker: Some(waker), granted: false, previous: self.last, next: NONE };
        let slot = if self.free == NONE {
            let slot = self.slots.len() as u32;
            assert!(slot < NONE, "2^32 waiters on one primitive");
            self.slots.push(new);
            slot
        } else {
            let slot = self.free;
            self.free = self.slots[slot as usize].next;
            self.slots[slot as usize] = new;
            slot
        };
        match self.last {
            NONE => self.first = slot,
            last => self.slots[last as usize].next = slot,
        }
        self.last = slot;
        slot
    }

    /// Unlinks a waiter, and returns its waker.
    fn unlink(&mut self, slot: u32) -> Option<Waker> {
        let place = &mut self.slots[slot as usize];
        let (previous, next, waker) = (place.previous, place.next, place.waker.take());
        match previous {
            NONE => self.first = next,
            previous => self.slots[previous as usize].next = next,
        }
        match next {
            NONE => self.last = previous,
            next => self.slots[next as usize].previous = previous,
        }
        waker
    }

    /// `None` if there is no waiter.
    fn grant_first(&mut self) -> Option<Option<Waker>> {
        let slot = self.first;
        if slot == NONE {
            return None;
        }
        let waker = self.unlink(slot);
        self.slots[slot as usize].granted = true;
        Some(waker)
    }

    fn remove(&mut self, slot: u32) -> Option<Waker> {
        let waker = self.unlink(slot);
        self.free(slot);
        waker
    }

    fn free(&mut self, slot: u32) {
        self.slots[slot as usize].next = self.free;
        self.free = slot;
        self.used -= 1;
        if self.used == 0 && self.slots.len() > KEPT {
            // The list is empty, so it frees the memory of a peak.
            (self.slots, self.free) = (Vec::new(), NONE);
        }
    }

    fn is_for(&self, slot: u32, waker: &Waker) -> bool {
        self.slots[slot as usize].waker.as_ref().is_some_and(|w| w.will_wake(waker))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[test]
    fn a_peak_of_waiters_leaves_no_memory() {
        let waiters = Waiters::new();
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            let mut many: Vec<_> = (0..10 * KEPT).map(|_| Box::pin(waiters.wait(|| ()))).collect();
            assert!(many.iter_mut().all(|wait| wait.as_mut().poll(&mut cx).is_pending()));
            // Half of them are granted, half dropped.
            (0..5 * KEPT).for_each(|_| assert!(waiters.grant()));
            assert!(many[..5 * KEPT].iter_mut().all(|wait| wait.as_mut().poll(&mut cx).is_ready()));
            assert!(waiters.list.borrow().slots.capacity() >= 10 * KEPT);
            drop(many);
            assert!(waiters.idle() && waiters.list.borrow().slots.capacity() == 0);
        }
        let mut one = pin!(waiters.wait(|| ()));
        assert!(one.as_mut().poll(&mut cx).is_pending());
        assert!(waiters.grant() && one.as_mut().poll(&mut cx).is_ready());
    }
}
