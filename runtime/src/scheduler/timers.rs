//! The timers of a loop: a heap of (deadline, sequence) with lazy deletion.
//!
//! Each slot has at most one valid entry in the heap. A cancelled timer leaves its entry there, and the slot's next
//! timer uses it if it is early enough: when the entry comes up, it is moved to the new deadline, or dropped if there
//! is none. So a timeout set and cleared for each message rarely touches the heap. If most entries of a large heap are
//! of cancelled timers, they are purged a moment later. Equal deadlines fire in the order of creation. A timer costs no
//! system call: the nearest deadline is the timeout of the turn's `enter`.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
    task::{Poll, Waker},
};

use crate::scheduler::slab::{NONE, Place, Slab, smaller};

/// A heap of up to this many entries keeps those of cancelled timers (as asyncio's).
const FEW: usize = 100;

/// A deadline that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

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
    /// Makes a callback of the loop ready.
    Call(u32),
}

#[derive(Debug)]
enum State {
    Free { next: u32 },
    Armed(Due),
    Fired,
}

/// When a timer fires: earlier deadlines first; of equal ones, the older timer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct When {
    deadline: u64,
    sequence: u64,
}

const NO_TIME: When = When { deadline: NEVER, sequence: 0 };

#[derive(Debug)]
struct Slot {
    generation: u32,
    /// `NO_TIME` if no timer is armed, or one that never fires.
    fires: When,
    /// The slot's valid heap entry, never later than `fires`; `NO_TIME` if there is none.
    queued: When,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Entry {
    when: When,
    slot: u32,
}

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<Entry>>,
    /// Invalid heap entries: a later timer of their slot had an earlier deadline, or the slot is gone.
    orphans: usize,
    slots: Slab<Slot>,
    armed: usize,
    next_sequence: u64,
    far_too_large: fn(),
}

impl Timers {
    /// `far_too_large` is called when the table is, or most of the heap is of cancelled timers: `tidy` then frees them.
    pub(crate) fn new(far_too_large: fn()) -> Timers {
        Timers {
            heap: BinaryHeap::new(),
            orphans: 0,
            slots: Slab::new(far_too_large),
            armed: 0,
            next_sequence: 0,
            far_too_large,
        }
    }

    /// Number of timers that have not fired.
    pub(crate) fn armed(&self) -> usize {
        self.armed
    }

    /// Inlined, so that `due` is written in its final place.
    #[inline(always)]
    pub(crate) fn insert(&mut self, deadline: u64, due: Due) -> TimerKey {
        self.next_sequence += 1;
        self.armed += 1;
        let (index, slot) = self.slots.take(Slot::free);
        slot.state = State::Armed(due);
        let key = TimerKey { slot: index, generation: slot.generation };
        if deadline == NEVER {
            return key;
        }
        slot.fires = When { deadline, sequence: self.next_sequence };
        // If the deadlines are equal, the queued entry is older.
        if slot.queued.deadline > deadline {
            self.enqueue(index);
        }
        key
    }

    fn enqueue(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        self.orphans += usize::from(slot.queued != NO_TIME);
        slot.queued = slot.fires;
        self.heap.push(Reverse(Entry { when: slot.fires, slot: index }));
        self.compact();
    }

    fn get(&mut self, key: TimerKey) -> Option<&mut Slot> {
        self.slots.get_mut(key.slot as usize).filter(|s| s.generation == key.generation)
    }

    /// Whether the timer has fired; if not, registers `waker`. Returns the waker that it replaces, to be dropped
    /// outside the borrow.
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

    /// Removes the timer, fired or not. Returns its action, to be dropped outside the borrow.
    #[inline(always)]
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<Due> {
        let Timers { slots, orphans, .. } = self;
        let end = slots.end();
        let state = slots.give_back(key.slot as usize, |slot, next| {
            if slot.generation != key.generation {
                return None;
            }
            slot.generation = slot.generation.wrapping_add(1);
            slot.fires = NO_TIME;
            if key.slot as usize >= end {
                // A stray's slot is dropped, while its heap entry stays.
                *orphans += usize::from(slot.queued != NO_TIME);
            }
            Some(std::mem::replace(&mut slot.state, State::Free { next }))
        });
        let State::Armed(due) = state? else { return None };
        self.armed -= 1;
        if self.is_mostly_cancelled() {
            (self.far_too_large)();
        }
        Some(due)
    }

    #[inline(always)]
    fn is_mostly_cancelled(&self) -> bool {
        self.heap.len() > FEW && self.heap.len() > 2 * self.armed
    }

    /// Frees memory after a peak.
    pub(crate) fn tidy(&mut self) {
        if self.slots.shrink() || self.is_mostly_cancelled() {
            self.purge();
        }
        let heap = &mut self.heap;
        if let Some(to) = smaller(heap.capacity(), heap.len(), size_of::<Entry>()) {
            heap.shrink_to(to);
        }
    }

    /// Memory of the slots and the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.bytes() + self.heap.capacity() * size_of::<Entry>()
    }

    /// Drops invalid entries once they are most of the heap.
    fn compact(&mut self) {
        if self.orphans > 64 && 2 * self.orphans > self.heap.len() {
            self.purge();
        }
    }

    /// Drops the entries that are invalid, or of cancelled timers.
    #[cold]
    #[inline(never)]
    fn purge(&mut self) {
        let Timers { heap, slots, .. } = self;
        heap.retain(|Reverse(entry)| {
            let Some(slot) = slots.get_mut(entry.slot as usize) else { return false };
            let valid = slot.queued == entry.when;
            if valid && slot.fires == NO_TIME {
                slot.queued = NO_TIME;
            }
            valid && slot.fires != NO_TIME
        });
        self.orphans = 0;
    }

    /// When the loop should check the timers: at the nearest deadline, or at a cancelled timer's earlier one, as
    /// finding out would cost more.
    pub(crate) fn look_at(&self) -> Option<u64> {
        let front = self.heap.peek().filter(|_| self.armed > 0)?;
        Some(front.0.when.deadline)
    }

    /// The nearest deadline.
    pub(crate) fn next_deadline(&mut self) -> Option<u64> {
        if self.armed == 0 {
            return None;
        }
        self.front(NEVER)
    }

    /// The nearest deadline, if not after `until`. Moves or drops invalid entries up to then.
    fn front(&mut self, until: u64) -> Option<u64> {
        loop {
            let mut top = self.heap.peek_mut()?;
            let Entry { when, slot: index } = top.0;
            if when.deadline > until {
                return None;
            }
            // A stray's slot may be gone.
            let Some(slot) = self.slots.get_mut(index as usize).filter(|slot| slot.queued == when) else {
                self.orphans -= 1;
                PeekMut::pop(top);
                continue;
            };
            if slot.fires == when {
                return Some(when.deadline);
            } else {
                slot.queued = slot.fires;
                if slot.fires == NO_TIME {
                    PeekMut::pop(top);
                } else {
                    *top = Reverse(Entry { when: slot.fires, slot: index });
                }
            }
        }
    }

    /// Moves out the actions due at `now`, in the order of (deadline, creation).
    pub(crate) fn take_due(&mut self, now: u64, due: &mut Vec<Due>) {
        while self.front(now).is_some()
            && let Some(Reverse(entry)) = self.heap.pop()
        {
            let slot = &mut self.slots[entry.slot as usize];
            (slot.fires, slot.queued) = (NO_TIME, NO_TIME);
            // A sleep frees its slot when it sees that it fired; a callback's slot is freed here.
            let state = if matches!(slot.state, State::Armed(Due::Call(_))) {
                self.slots.give_back(entry.slot as usize, |slot, next| {
                    slot.generation = slot.generation.wrapping_add(1);
                    Some(std::mem::replace(&mut slot.state, State::Free { next }))
                })
            } else {
                Some(std::mem::replace(&mut slot.state, State::Fired))
            };
            if let Some(State::Armed(action)) = state {
                self.armed -= 1;
                due.push(action);
            }
        }
    }
}

impl Slot {
    fn free(_: u32, generation: u32) -> Slot {
        Slot { generation, fires: NO_TIME, queued: NO_TIME, state: State::Free { next: NONE } }
    }
}

impl Place for Slot {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn is_free(&self) -> bool {
        matches!(self.state, State::Free { .. })
    }

    fn next_free(&self) -> u32 {
        if let State::Free { next } = self.state { next } else { NONE }
    }

    fn set_next_free(&mut self, next: u32) {
        self.state = State::Free { next };
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn calls(due: &[Due]) -> Vec<u32> {
        due.iter().map(|d| if let Due::Call(n) = d { *n } else { panic!("a wake") }).collect()
    }

    #[test]
    fn loop_07_equal_deadlines_fire_in_creation_order() {
        let mut timers = Timers::new(|| ());
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
        let mut timers = Timers::new(|| ());
        let keep = timers.insert(1, Due::Call(0));
        for n in 0..100_000 {
            let key = timers.insert(1000 + u64::from(n), Due::Call(n));
            timers.remove(key);
        }
        assert!(timers.heap.len() < 4 && timers.slots.end() < 4);
        assert_eq!(timers.next_deadline(), Some(1));
        timers.remove(keep);
        assert_eq!(timers.next_deadline(), None);
    }

    thread_local! {
        static REPORTS: Cell<u32> = const { Cell::new(0) };
    }

    fn report() {
        REPORTS.set(REPORTS.get() + 1);
    }

    #[test]
    fn loop_10_a_batch_of_timers_that_are_mostly_cancelled_is_purged() {
        let mut timers = Timers::new(report);
        let mut keys: Vec<_> = (0..1000).map(|n| timers.insert(1000 + u64::from(n), Due::Call(n))).collect();
        let kept = keys.split_off(700);
        keys.drain(500..).for_each(|key| assert!(timers.remove(key).is_some()));
        timers.tidy();
        assert_eq!((REPORTS.get(), timers.heap.len()), (0, 1000), "few are cancelled");
        keys.into_iter().for_each(|key| assert!(timers.remove(key).is_some()));
        assert!(REPORTS.get() > 0, "most are");
        timers.tidy();
        assert_eq!((timers.heap.len(), timers.armed(), timers.orphans), (300, 300, 0));
        // New timers in the purged slots fire among those that were kept.
        timers.insert(1, Due::Call(7000));
        timers.insert(1800, Due::Call(7001));
        let mut due = Vec::new();
        timers.take_due(2000, &mut due);
        let expected = [7000].into_iter().chain(700..801).chain([7001]).chain(801..1000);
        assert_eq!(calls(&due), expected.collect::<Vec<_>>());
        assert!(kept.into_iter().all(|key| timers.remove(key).is_none()));
    }

    #[test]
    fn loop_10_up_to_a_hundred_are_kept_for_the_next_ones() {
        let mut timers = Timers::new(|| panic!("reported"));
        let keys: Vec<_> = (0..100).map(|n| timers.insert(1000, Due::Call(n))).collect();
        keys.into_iter().for_each(|key| assert!(timers.remove(key).is_some()));
        timers.tidy();
        assert_eq!((timers.heap.len(), timers.armed()), (100, 0));
    }

    #[test]
    fn a_slot_used_for_far_and_near_deadlines_in_turn_does_not_fill_the_heap() {
        let mut timers = Timers::new(|| ());
        timers.insert(NEVER, Due::Call(0));
        for n in 0..100_000 {
            let far = timers.insert(1 << 40, Due::Call(n));
            timers.remove(far);
            let near = timers.insert(u64::from(n) + 10, Due::Call(n));
            assert_eq!(timers.next_deadline(), Some(u64::from(n) + 10));
            timers.remove(near);
            assert_eq!(timers.next_deadline(), None);
        }
        assert!(timers.heap.len() < 200 && timers.slots.end() < 4, "{}", timers.heap.len());
    }

    #[test]
    fn a_timer_in_a_used_slot_fires_at_its_own_time_and_in_its_own_order() {
        let mut timers = Timers::new(|| ());
        let early = timers.insert(10, Due::Call(0));
        timers.insert(100, Due::Call(1));
        timers.remove(early);
        // In the slot whose heap entry says 10.
        timers.insert(100, Due::Call(2));
        timers.insert(99, Due::Call(3));
        let mut due = Vec::new();
        timers.take_due(98, &mut due);
        assert!(due.is_empty());
        assert_eq!(timers.next_deadline(), Some(99));
        timers.take_due(100, &mut due);
        assert_eq!(calls(&due), [3, 1, 2]);
    }

    #[test]
    fn timers_that_are_gone_leave_no_memory_whether_they_fired_or_were_cancelled() {
        let mut timers = Timers::new(|| ());
        let last = |timers: &mut Timers| {
            let mut keys: Vec<_> =
                (0..100_000).map(|n| timers.insert(u64::from(n) + 10, Due::Call(n))).collect();
            // Long-lived, at the end of the table.
            let key = timers.insert(1 << 40, Due::Call(7));
            keys.drain(..50_000).for_each(|key| assert!(timers.remove(key).is_some()));
            key
        };
        for round in 0..3 {
            let key = last(&mut timers);
            let mut due = Vec::new();
            timers.take_due(1 << 30, &mut due);
            assert_eq!((calls(&due).len(), timers.armed()), (50_000, 1 + round));
            timers.tidy();
            assert!(timers.bytes() <= 2 * crate::slab::KEEP_BYTES, "{} bytes", timers.bytes());
            assert_eq!(timers.next_deadline(), Some(1 << 40));
            assert!(timers.get(key).is_some());
        }
        let mut due = Vec::new();
        timers.take_due(1 << 50, &mut due);
        assert_eq!((calls(&due), timers.armed()), (vec![7; 3], 0));
        assert_eq!((timers.heap.len(), timers.orphans), (0, 0));
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
        let (mut timers, mut oracle, mut now) = (Timers::new(|| ()), Vec::new(), 0);
        for n in 0..20_000u32 {
            if next() % 50 == 0 {
                timers.tidy();
            }
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
            let nearest = oracle.iter().map(|(deadline, ..)| *deadline).min();
            assert!(timers.look_at() <= nearest && timers.look_at().is_some() == nearest.is_some());
            let counted = timers.slots.iter().filter(|(_, slot)| slot.queued != NO_TIME).count();
            assert_eq!(timers.heap.len(), counted + timers.orphans);
        }
    }
}
