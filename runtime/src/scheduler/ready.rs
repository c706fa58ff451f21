//! The ready queue, first in, first out. A turn runs the entries that were queued when it began.

use std::{
    cell::{Cell, RefCell, RefMut},
    mem,
};

use crate::scheduler::slab::shrink_list;

/// A task or callback that is ready to run, by its slot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    Task(u32),
    Call(u32),
}

/// Two lists that are swapped each turn, as a turn takes all entries: cheaper than a ring buffer.
#[derive(Default)]
pub(crate) struct ReadyQueue {
    /// For the next turn.
    next: RefCell<Vec<Ready>>,
    /// The rest of a turn that a panic cut short; otherwise empty, and kept for its capacity.
    rest: Cell<Vec<Ready>>,
    /// Entries that the turn has not run yet.
    left: Cell<usize>,
}

impl ReadyQueue {
    #[inline(always)]
    pub(crate) fn push(&self, ready: Ready) {
        self.next.borrow_mut().push(ready);
    }

    /// The list for the next turn.
    #[inline(always)]
    pub(crate) fn pushing(&self) -> RefMut<'_, Vec<Ready>> {
        self.next.borrow_mut()
    }

    /// Entries that the turn has not run yet.
    pub(crate) fn left(&self) -> usize {
        self.left.get()
    }

    pub(crate) fn len(&self) -> usize {
        self.next.borrow().len() + self.left.get()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Begins a turn.
    pub(crate) fn begin_turn(&self) -> Turn<'_> {
        let mut list = self.rest.take();
        if list.is_empty() {
            mem::swap(&mut list, &mut self.next.borrow_mut());
        }
        self.left.set(list.len());
        Turn { queue: self, list }
    }

    /// Frees memory after a peak.
    pub(crate) fn tidy(&self) {
        let mut rest = self.rest.take();
        shrink_list(&mut rest);
        self.rest.set(rest);
        shrink_list(&mut self.next.borrow_mut());
    }

    /// Memory of both lists, between turns; during a turn, without the list being run.
    pub(crate) fn bytes(&self) -> usize {
        let rest = self.rest.take();
        let entries = rest.capacity() + self.next.borrow().capacity();
        self.rest.set(rest);
        entries * size_of::<Ready>()
    }

    pub(crate) fn clear(&self) {
        self.next.take();
        self.rest.take();
        self.left.set(0);
    }
}

/// The entries of one turn.
pub(crate) struct Turn<'a> {
    queue: &'a ReadyQueue,
    list: Vec<Ready>,
}

impl Turn<'_> {
    /// All entries, run or not.
    pub(crate) fn list(&self) -> &[Ready] {
        &self.list
    }

    /// Number of entries, run or not.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }
}

impl Iterator for Turn<'_> {
    type Item = Ready;

    #[inline(always)]
    fn next(&mut self) -> Option<Ready> {
        let left = self.queue.left.get();
        let ready = *self.list.get(self.list.len().wrapping_sub(left))?;
        self.queue.left.set(left - 1);
        Some(ready)
    }
}

impl Drop for Turn<'_> {
    /// If a panic cut the turn short, the next turn runs the rest.
    fn drop(&mut self) {
        let mut list = mem::take(&mut self.list);
        list.drain(..list.len() - self.queue.left.get());
        self.queue.rest.set(list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(turn: &mut Turn<'_>) -> Vec<u32> {
        turn.map(|ready| match ready {
            Ready::Task(slot) | Ready::Call(slot) => slot,
        })
        .collect()
    }

    #[test]
    fn what_becomes_ready_in_a_turn_runs_in_the_next_one_in_order() {
        let queue = ReadyQueue::default();
        (0..3).for_each(|slot| queue.push(Ready::Task(slot)));
        let mut turn = queue.begin_turn();
        assert_eq!((turn.len(), turn.next() == Some(Ready::Task(0))), (3, true));
        queue.push(Ready::Call(3));
        assert_eq!((queue.len(), queue.is_empty()), (3, false));
        assert_eq!(numbers(&mut turn), [1, 2]);
        drop(turn);
        assert_eq!(numbers(&mut queue.begin_turn()), [3]);
        assert_eq!((queue.begin_turn().len(), queue.is_empty()), (0, true));
    }

    #[test]
    fn a_turn_that_was_cut_short_loses_nothing() {
        let queue = ReadyQueue::default();
        (0..3).for_each(|slot| queue.push(Ready::Task(slot)));
        assert!(queue.begin_turn().next() == Some(Ready::Task(0)));
        queue.push(Ready::Task(3));
        assert_eq!(queue.len(), 3);
        let mut rest = queue.begin_turn();
        assert_eq!((rest.len(), queue.len(), numbers(&mut rest)), (2, 3, vec![1, 2]));
        drop(rest);
        assert_eq!(numbers(&mut queue.begin_turn()), [3]);
        (4..6).for_each(|slot| queue.push(Ready::Task(slot)));
        let _cut_short = queue.begin_turn().next();
        queue.clear();
        assert_eq!((queue.len(), queue.begin_turn().len()), (0, 0));
    }
}
