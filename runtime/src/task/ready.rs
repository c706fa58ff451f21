//! The ready queue: FIFO, and a turn runs what was in it when the turn began.

use std::{cell::RefCell, mem};

/// What can run: a task or a callback, by its slot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    Task(u32),
    Call(u32),
}

/// Two lists, which change places from turn to turn: cheaper than a ring where a turn takes all there is.
#[derive(Default)]
pub(crate) struct ReadyQueue(RefCell<Lists>);

#[derive(Default)]
struct Lists {
    /// For the next turn.
    next: Vec<Ready>,
    /// This turn's, of which `done` have been taken. A turn that a panic cut short leaves the rest to the next.
    turn: Vec<Ready>,
    done: usize,
}

impl ReadyQueue {
    #[inline(always)]
    pub(crate) fn push(&self, ready: Ready) {
        self.0.borrow_mut().next.push(ready);
    }

    pub(crate) fn len(&self) -> usize {
        let lists = self.0.borrow();
        lists.next.len() + lists.turn.len() - lists.done
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A turn begins: how much it will run.
    pub(crate) fn begin_turn(&self) -> usize {
        let lists = &mut *self.0.borrow_mut();
        if lists.done == lists.turn.len() {
            lists.turn.clear();
            lists.done = 0;
            mem::swap(&mut lists.turn, &mut lists.next);
        }
        lists.turn.len() - lists.done
    }

    /// The next of this turn.
    #[inline(always)]
    pub(crate) fn take(&self) -> Option<Ready> {
        let lists = &mut *self.0.borrow_mut();
        let ready = *lists.turn.get(lists.done)?;
        lists.done += 1;
        Some(ready)
    }

    pub(crate) fn clear(&self) {
        self.0.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(queue: &ReadyQueue) -> Option<u32> {
        queue.take().map(|ready| match ready {
            Ready::Task(slot) | Ready::Call(slot) => slot,
        })
    }

    #[test]
    fn what_becomes_ready_in_a_turn_runs_in_the_next_one_in_order() {
        let queue = ReadyQueue::default();
        (0..3).for_each(|slot| queue.push(Ready::Task(slot)));
        assert_eq!(queue.begin_turn(), 3);
        assert_eq!(take(&queue), Some(0));
        queue.push(Ready::Call(3));
        assert_eq!((queue.len(), queue.is_empty()), (3, false));
        assert_eq!([take(&queue), take(&queue), take(&queue)], [Some(1), Some(2), None]);
        assert_eq!((queue.begin_turn(), take(&queue), take(&queue)), (1, Some(3), None));
        assert_eq!((queue.begin_turn(), queue.is_empty()), (0, true));
    }

    #[test]
    fn a_turn_that_was_cut_short_loses_nothing() {
        let queue = ReadyQueue::default();
        (0..3).for_each(|slot| queue.push(Ready::Task(slot)));
        queue.begin_turn();
        assert_eq!(take(&queue), Some(0));
        queue.push(Ready::Task(3));
        assert_eq!((queue.begin_turn(), queue.len()), (2, 3));
        assert_eq!([take(&queue), take(&queue), take(&queue)], [Some(1), Some(2), None]);
        assert_eq!((queue.begin_turn(), take(&queue)), (1, Some(3)));
    }
}
