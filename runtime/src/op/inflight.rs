//! The in-flight table: the kernel's share of every operation.
//!
//! An entry is taken by `insert` and freed only by `finish`, on the operation's final CQE. Between the two
//! nobody gets at the operation but `more`, which lends it out shared for a multishot's item. The boxes may
//! move, what is in them does not. Keys carry a generation, so a late CQE or cancel of an earlier operation
//! in the same slot finds nothing.

use std::{any::Any, task::Waker};

use super::{Done, Multishot, Operation, Sqe};
use crate::ring::Scratch;

/// Names one operation in flight: a slot of its loop's table and the slot's generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpKey {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl OpKey {
    pub(crate) fn to_user_data(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    pub(crate) fn from_user_data(data: u64) -> OpKey {
        OpKey { slot: data as u32, generation: (data >> 32) as u32 }
    }
}

/// An operation as the table holds it. Each kind is a trait of its own, so that an operation that its handle
/// boxed once goes to the kernel and comes back without another allocation.
pub(crate) enum InFlight {
    /// Of a handle, with one result.
    Resident(Box<dyn Resident>),
    /// Of a handle, with many results.
    Shots(Box<dyn Shots>),
    /// Of a future.
    Claimed(Box<dyn Claimed>),
}

impl InFlight {
    pub(crate) fn prepare(&mut self) -> Sqe<'_> {
        match self {
            InFlight::Resident(op) => op.describe(),
            InFlight::Shots(op) => op.describe(),
            InFlight::Claimed(op) => op.describe(),
        }
    }

    /// A completion that is not the last one. Only a multishot may look at itself here.
    pub(crate) fn more(&self, done: Done) {
        if let InFlight::Shots(op) = self {
            op.deliver(done);
        }
    }

    /// The final completion. `Some` is kept for the future that will claim it.
    pub(crate) fn finish(self, done: Done) -> Option<Box<dyn Ended>> {
        match self {
            InFlight::Resident(op) => op.finish(done),
            InFlight::Shots(op) => op.finish(done),
            InFlight::Claimed(op) => return Some(op.finish(done)),
        }
        None
    }

    /// The final completion, and the future is gone.
    pub(crate) fn abandon(self, done: Done) {
        match self {
            InFlight::Resident(op) => op.finish(done),
            InFlight::Shots(op) => op.finish(done),
            InFlight::Claimed(op) => op.abandon(done),
        }
    }
}

pub(crate) trait Resident: 'static {
    fn describe(&mut self) -> Sqe<'_>;
    fn finish(self: Box<Self>, done: Done);
}

impl<O: Operation<Output = ()>> Resident for O {
    fn describe(&mut self) -> Sqe<'_> {
        self.prepare()
    }

    fn finish(self: Box<Self>, done: Done) {
        self.complete(done);
    }
}

pub(crate) trait Shots: 'static {
    fn describe(&self) -> Sqe<'_>;
    fn deliver(&self, done: Done);
    fn finish(self: Box<Self>, done: Done);
}

impl<M: Multishot> Shots for M {
    fn describe(&self) -> Sqe<'_> {
        self.prepare()
    }

    fn deliver(&self, done: Done) {
        self.item(done);
    }

    fn finish(self: Box<Self>, done: Done) {
        self.end(done);
    }
}

pub(crate) trait Claimed: 'static {
    fn describe(&mut self) -> Sqe<'_>;
    fn finish(self: Box<Self>, done: Done) -> Box<dyn Ended>;
    fn abandon(self: Box<Self>, done: Done);
}

impl<O: Operation> Claimed for O {
    fn describe(&mut self) -> Sqe<'_> {
        self.prepare()
    }

    fn finish(self: Box<Self>, done: Done) -> Box<dyn Ended> {
        Box::new(Finished { op: self, done })
    }

    fn abandon(self: Box<Self>, done: Done) {
        self.abandoned(done);
    }
}

/// A result that waits for its future.
pub(crate) trait Ended: 'static {
    fn into_any(self: Box<Self>) -> Box<dyn Any>;

    /// The future is gone.
    fn abandon(self: Box<Self>);
}

/// What a future finds when it claims.
pub(crate) struct Finished<O> {
    pub(crate) op: Box<O>,
    pub(crate) done: Done,
}

impl<O: Operation> Ended for Finished<O> {
    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn abandon(self: Box<Self>) {
        self.op.abandoned(self.done);
    }
}

enum State {
    Free {
        next: u32,
    },
    /// The kernel's. `None` only while `more` lends the operation out.
    InFlight(Option<InFlight>),
    /// Ended, waiting for its future.
    Ended(Box<dyn Ended>),
}

struct Entry {
    state: State,
    waker: Option<Waker>,
    /// Memory of the kernel's own encoding (iovecs, msghdr); lives as long as the operation.
    scratch: Option<Box<Scratch>>,
    generation: u32,
    makes_fd: bool,
    owner: Owner,
}

/// Who gets the result.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The operation itself delivers it.
    Handle,
    /// An `Op` claims it.
    Future,
    /// The `Op` was dropped: nobody.
    Gone,
}

const NONE: u32 = u32::MAX;

/// See the head of the file.
pub(crate) struct Table {
    entries: Vec<Entry>,
    free: u32,
    in_flight: usize,
}

impl Table {
    pub(crate) fn new() -> Table {
        Table { entries: Vec::new(), free: NONE, in_flight: 0 }
    }

    /// How many operations the kernel owns.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(crate) fn insert(
        &mut self,
        op: InFlight,
        scratch: Option<Box<Scratch>>,
        makes_fd: bool,
        owner: Owner,
    ) -> OpKey {
        self.in_flight += 1;
        let state = State::InFlight(Some(op));
        if self.free == NONE {
            let slot = self.entries.len() as u32;
            assert!(slot < NONE, "2^32 operations in flight");
            let entry = Entry { state, waker: None, scratch, generation: 0, makes_fd, owner };
            self.entries.push(entry);
            return OpKey { slot, generation: 0 };
        }
        let slot = self.free;
        let entry = &mut self.entries[slot as usize];
        if let State::Free { next } = entry.state {
            self.free = next;
        }
        entry.state = state;
        entry.scratch = scratch;
        entry.makes_fd = makes_fd;
        entry.owner = owner;
        OpKey { slot, generation: entry.generation }
    }

    fn entry(&mut self, key: OpKey) -> Option<&mut Entry> {
        self.entries.get_mut(key.slot as usize).filter(|e| e.generation == key.generation)
    }

    pub(crate) fn is_in_flight(&self, key: OpKey) -> bool {
        self.entries
            .get(key.slot as usize)
            .is_some_and(|e| e.generation == key.generation && matches!(e.state, State::InFlight(_)))
    }

    /// Whether a success of this operation carries a new descriptor.
    pub(crate) fn makes_fd(&self, key: OpKey) -> bool {
        self.is_in_flight(key) && self.entries[key.slot as usize].makes_fd
    }

    /// Lends an operation in flight out for `InFlight::more`; `give_back` returns it.
    pub(crate) fn lend(&mut self, key: OpKey) -> Option<InFlight> {
        match &mut self.entry(key)?.state {
            State::InFlight(op) => op.take(),
            _ => None,
        }
    }

    pub(crate) fn give_back(&mut self, key: OpKey, op: InFlight) {
        if let Some(Entry { state: State::InFlight(place), .. }) = self.entry(key) {
            *place = Some(op);
        }
    }

    /// The simulator's look at the SQE of an operation that it owns.
    pub(crate) fn sqe(&mut self, key: OpKey) -> Option<Sqe<'_>> {
        match &mut self.entry(key)?.state {
            State::InFlight(Some(op)) => Some(op.prepare()),
            _ => None,
        }
    }

    /// The final CQE arrived: the operation leaves the table. `None` for a stale key.
    pub(crate) fn finish(&mut self, key: OpKey) -> Option<Ending> {
        let entry = self.entry(key)?;
        let State::InFlight(op) = &mut entry.state else { return None };
        let op = op.take()?;
        entry.scratch = None;
        let owner = entry.owner;
        self.in_flight -= 1;
        // A future's slot stays taken until the future claims or goes.
        if owner != Owner::Future {
            self.free_slot(key);
        }
        Some(Ending { op, owner })
    }

    /// Leaves the result of a finished operation for its future; gives back what nobody wants any more.
    pub(crate) fn end(
        &mut self,
        key: OpKey,
        result: Box<dyn Ended>,
    ) -> Result<Option<Waker>, Box<dyn Ended>> {
        match self.entry(key) {
            Some(entry) if entry.owner == Owner::Future => {
                entry.state = State::Ended(result);
                Ok(entry.waker.take())
            }
            Some(_) => {
                self.free_slot(key);
                Err(result)
            }
            None => Err(result),
        }
    }

    /// The future's look: the result if there is one, else `waker` is kept. Gives back the waker that it
    /// replaces, to be dropped outside.
    pub(crate) fn claim(&mut self, key: OpKey, waker: &Waker) -> (Option<Box<dyn Ended>>, Option<Waker>) {
        let Some(entry) = self.entry(key) else { return (None, None) };
        if matches!(entry.state, State::Ended(_)) {
            return (self.free_slot(key), None);
        }
        let known = entry.waker.as_ref().is_some_and(|w| w.will_wake(waker));
        (None, if known { None } else { entry.waker.replace(waker.clone()) })
    }

    /// The future is gone.
    pub(crate) fn abandon(&mut self, key: OpKey) -> Abandoned {
        let Some(entry) = self.entry(key) else { return Abandoned::default() };
        match entry.state {
            State::Ended(_) => Abandoned { result: self.free_slot(key), ..Abandoned::default() },
            State::InFlight(_) => {
                entry.owner = Owner::Gone;
                Abandoned { cancel: true, _waker: entry.waker.take(), result: None }
            }
            State::Free { .. } => Abandoned::default(),
        }
    }

    fn free_slot(&mut self, key: OpKey) -> Option<Box<dyn Ended>> {
        let next = self.free;
        let entry = &mut self.entries[key.slot as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.waker = None;
        self.free = key.slot;
        match std::mem::replace(&mut entry.state, State::Free { next }) {
            State::Ended(result) => Some(result),
            _ => None,
        }
    }

    /// The keys of everything in flight.
    pub(crate) fn keys(&self) -> Vec<OpKey> {
        let live = |(slot, e): (usize, &Entry)| {
            matches!(e.state, State::InFlight(_))
                .then_some(OpKey { slot: slot as u32, generation: e.generation })
        };
        self.entries.iter().enumerate().filter_map(live).collect()
    }
}

/// An operation that has just left the table.
pub(crate) struct Ending {
    pub(crate) op: InFlight,
    pub(crate) owner: Owner,
}

/// What an operation's future leaves behind: to be dropped while the table is not borrowed.
#[derive(Default)]
pub(crate) struct Abandoned {
    /// The kernel still has the operation: a cancel is due.
    pub(crate) cancel: bool,
    pub(crate) result: Option<Box<dyn Ended>>,
    _waker: Option<Waker>,
}
