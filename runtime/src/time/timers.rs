//! The timers of a loop: a heap of (deadline, sequence) with lazy deletion.
//!
//! A cancelled or moved timer leaves its heap entry behind; it is skipped when it comes up, and the heap is
//! rebuilt when most of it is dead. Equal deadlines fire in the order of creation. A timer costs no system
//! call: the nearest deadline is the time-out of the loop's one `io_uring_enter`.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    task::{Poll, Waker},
};

/// A deadline that never comes.
pub(crate) const NEVER: u64 = u64::MAX;
const NONE: u32 = u32::MAX;

/// Names one timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    slot: u32,
    generation: u32,
}

/// What happens at the deadline.
#[derive(Debug)]
pub(crate) enum Due {
    Wake(Waker),
    /// A callback of the loop becomes ready.
    Call(u32),
}

#[derive(Debug)]
enum State {
    Free { next: u32 },
    Armed(Due),
    Fired,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    /// Of the heap entry that counts.
    sequence: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Entry {
    deadline: u64,
    sequence: u64,
    slot: u32,
}

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<Entry>>,
    slots: Vec<Slot>,
    free: u32,
    armed: usize,
    next_sequence: u64,
}

impl Timers {
    pub(crate) fn new() -> Timers {
        Timers { heap: BinaryHeap::new(), slots: Vec::new(), free: NONE, armed: 0, next_sequence: 0 }
    }

    /// Timers that have not fired.
    pub(crate) fn armed(&self) -> usize {
        self.armed
    }

    pub(crate) fn insert(&mut self, deadline: u64, due: Due) -> TimerKey {
        let sequence = self.sequence();
        let state = State::Armed(due);
        self.armed += 1;
        let slot = if self.free == NONE {
            self.slots.push(Slot { generation: 0, sequence, state });
            self.slots.len() as u32 - 1
        } else {
            let index = self.free;
            let slot = &mut self.slots[index as usize];
            if let State::Free { next } = slot.state {
                self.free = next;
            }
            slot.sequence = sequence;
            slot.state = state;
            index
        };
        self.push(deadline, sequence, slot);
        TimerKey { slot, generation: self.slots[slot as usize].generation }
    }

    fn sequence(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence
    }

    fn push(&mut self, deadline: u64, sequence: u64, slot: u32) {
        if deadline != NEVER {
            self.heap.push(Reverse(Entry { deadline, sequence, slot }));
        }
    }

    fn get(&mut self, key: TimerKey) -> Option<&mut Slot> {
        self.slots.get_mut(key.slot as usize).filter(|s| s.generation == key.generation)
    }

    /// Whether the timer has fired; if not, `waker` is the one to wake. Gives back the waker that it replaces,
    /// to be dropped outside.
    pub(crate) fn poll(&mut self, key: TimerKey, waker: &Waker) -> (Poll<()>, Option<Waker>) {
        match self.get(key).map(|slot| &mut slot.state) {
            Some(State::Armed(Due::Wake(old))) => {
                let known = old.will_wake(waker);
                (Poll::Pending, (!known).then(|| std::mem::replace(old, waker.clone())))
            }
            Some(State::Armed(Due::Call(_))) => (Poll::Pending, None),
            Some(State::Fired | State::Free { .. }) | None => (Poll::Ready(()), None),
        }
    }

    /// Takes the timer away, fired or not. What it would have done is given back, to be dropped outside.
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<Due> {
        let next = self.free;
        let slot = self.get(key)?;
        slot.generation = slot.generation.wrapping_add(1);
        slot.sequence = 0;
        let state = std::mem::replace(&mut slot.state, State::Free { next });
        self.free = key.slot;
        let State::Armed(due) = state else { return None };
        self.armed -= 1;
        self.compact();
        Some(due)
    }

    /// Drops dead entries at the front for free, and all of them once they outnumber the living.
    fn compact(&mut self) {
        if self.armed == 0 {
            self.heap.clear();
        } else if self.heap.len() > 64 && self.heap.len() > 2 * self.armed {
            let Timers { heap, slots, .. } = self;
            heap.retain(|Reverse(e)| slots[e.slot as usize].sequence == e.sequence);
        }
    }

    /// The nearest deadline.
    pub(crate) fn next_deadline(&mut self) -> Option<u64> {
        loop {
            let Reverse(entry) = self.heap.peek()?;
            if self.slots[entry.slot as usize].sequence == entry.sequence {
                return Some(entry.deadline);
            }
            self.heap.pop();
        }
    }

    /// Moves what is due at `now` out, in the order of (deadline, creation).
    pub(crate) fn take_due(&mut self, now: u64, due: &mut Vec<Due>) {
        while let Some(deadline) = self.next_deadline()
            && deadline <= now
            && let Some(Reverse(entry)) = self.heap.pop()
        {
            let slot = &mut self.slots[entry.slot as usize];
            slot.sequence = 0;
            // A sleep frees its slot itself, once it has seen that it fired; a callback has nobody to do so.
            let fired = if matches!(slot.state, State::Armed(Due::Call(_))) {
                slot.generation = slot.generation.wrapping_add(1);
                State::Free { next: std::mem::replace(&mut self.free, entry.slot) }
            } else {
                State::Fired
            };
            if let State::Armed(action) = std::mem::replace(&mut slot.state, fired) {
                self.armed -= 1;
                due.push(action);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(due: &[Due]) -> Vec<u32> {
        due.iter().map(|d| if let Due::Call(n) = d { *n } else { panic!("a wake") }).collect()
    }

    #[test]
    fn loop_07_equal_deadlines_fire_in_creation_order() {
        let mut timers = Timers::new();
        for n in 0..20 {
            timers.insert(100, Due::Call(n));
        }
        timers.insert(50, Due::Call(99));
        let mut due = Vec::new();
        timers.take_due(100, &mut due);
        assert_eq!(calls(&due), [&[99], &(0..20).collect::<Vec<_>>()[..]].concat());
    }

    #[test]
    fn loop_10_cancelled_timers_do_not_pile_up() {
        let mut timers = Timers::new();
        let keep = timers.insert(1, Due::Call(0));
        for n in 0..100_000 {
            let key = timers.insert(1000 + u64::from(n), Due::Call(n));
            timers.remove(key);
        }
        assert!(timers.heap.len() < 200 && timers.slots.len() < 4);
        assert_eq!(timers.next_deadline(), Some(1));
        timers.remove(keep);
        assert_eq!(timers.next_deadline(), None);
    }

    #[test]
    fn h2_random_operations_agree_with_a_sorted_list() {
        let mut random = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = move || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let (mut timers, mut oracle, mut now) = (Timers::new(), Vec::new(), 0);
        for n in 0..20_000u32 {
            match next() % 4 {
                0 | 1 => {
                    let deadline = now + next() % 1000;
                    oracle.push((deadline, n, timers.insert(deadline, Due::Call(n))));
                }
                2 if !oracle.is_empty() => {
                    let (_, _, key) = oracle.swap_remove((next() as usize) % oracle.len());
                    assert!(timers.remove(key).is_some());
                }
                _ => {
                    now += next() % 100;
                    oracle.sort_by_key(|(deadline, n, _)| (*deadline, *n));
                    let split = oracle.partition_point(|(deadline, ..)| *deadline <= now);
                    let mut due = Vec::new();
                    timers.take_due(now, &mut due);
                    let expected: Vec<u32> = oracle
                        .drain(..split)
                        .map(|(_, n, key)| {
                            assert!(timers.remove(key).is_none(), "a fired timer has nothing left to do");
                            n
                        })
                        .collect();
                    assert_eq!(calls(&due), expected);
                }
            }
            assert_eq!(timers.armed(), oracle.len());
        }
    }
}
