//! The in-flight table: owns every operation while the kernel uses it.
//!
//! `insert` takes an entry. It is freed only by `deliver`, on the operation's final CQE, or by `take_back`, if the
//! kernel has consumed none. In between, the operation is reached only by the kernels that make plain calls
//! (`describe`), and by `item`, which shares a multishot for its item. The boxes may move, their contents do not. A
//! table that is dropped with operations in flight leaks their memory. Keys carry a generation, so a late CQE or cancel
//! of an earlier operation in the same slot matches nothing. Silent sends have no slot: they are a queue, with its own
//! proof (`silent.rs`).

use std::{
    any::Any,
    mem,
    panic::{self, AssertUnwindSafe},
    rc::Rc,
    task::Waker,
};

use crate::{
    kernel::{
        fd::Fd,
        key::Key,
        operation::{Done, Multishot, Operation},
        payload::Payload,
        scratch::Scratch,
        silent::{Sending, SilentSends},
        sqe::Sqe,
    },
    scheduler::{
        slab::{NONE, Place, Slab},
        task_error::discard,
    },
};

/// The receiver of data: a number from `receive.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReceiverId(pub(crate) u32);

/// An operation in the table. Each kind of boxed operation has its own trait, so that the box of a handle goes to the
/// kernel and back without another allocation.
pub(crate) enum InFlight {
    /// A send of a handle: one buffer.
    Send { payload: Box<dyn Payload>, fd: Fd, token: u32 },
    /// A multishot receive of a handle.
    Receive { to: ReceiverId, fd: Fd, token: u32, cap: u32 },
    /// An operation of a handle with one result.
    Resident(Box<dyn Resident>),
    /// An operation of a handle with many results. Shared with the delivery of an item, so that the item's code may
    /// start and cancel operations.
    Shots(Rc<dyn Shots>),
    /// An operation of a future, which claims the result.
    Claimed(Box<dyn Claimed>),
    /// An operation whose future was dropped.
    Abandoned(Box<dyn Claimed>),
}

impl InFlight {
    /// The SQE, which borrows from the operation.
    pub(crate) fn describe(&mut self) -> Sqe<'_> {
        match self {
            InFlight::Send { payload, fd, .. } => Sqe::send(fd, payload.bytes()),
            InFlight::Receive { fd, cap, .. } => Sqe::recv_multi(fd, *cap),
            InFlight::Resident(op) => op.describe(),
            InFlight::Shots(op) => op.describe(),
            InFlight::Claimed(op) | InFlight::Abandoned(op) => op.describe(),
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
    fn finish(&self, done: Done);
}

impl<M: Multishot> Shots for M {
    fn describe(&self) -> Sqe<'_> {
        self.prepare()
    }

    fn deliver(&self, done: Done) {
        self.item(done);
    }

    fn finish(&self, done: Done) {
        self.end(done);
    }
}

pub(crate) trait Claimed: 'static {
    fn describe(&mut self) -> Sqe<'_>;
    /// Runs no code of the operation: its future does that when it claims.
    fn finish(self: Box<Self>, done: Done) -> Box<dyn Ended>;
    fn abandon(self: Box<Self>, done: Done);
    /// Returns the operation, if the kernel has consumed nothing of it.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
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

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// A result that is kept for its future.
pub(crate) trait Ended: 'static {
    fn into_any(self: Box<Self>) -> Box<dyn Any>;

    /// The future was dropped.
    fn abandon(self: Box<Self>);
}

/// The operation and result that a future claims.
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
    /// The kernel uses the operation.
    InFlight(InFlight),
    /// Ended; the result is kept for its future.
    Ended(Box<dyn Ended>),
}

/// At most one cache line.
struct Entry {
    state: State,
    /// The waker of a waiting future: taken with the result, or when the future is dropped.
    waker: Option<Waker>,
    /// Memory of the encoding for the kernel (iovecs, msghdr); lives as long as the operation.
    scratch: Option<Box<Scratch>>,
    generation: u32,
    makes_fd: bool,
}

const _: () = assert!(size_of::<Entry>() <= 64);

impl Entry {
    fn free(_: u32, generation: u32) -> Entry {
        let state = State::Free { next: NONE };
        Entry { state, waker: None, scratch: None, generation, makes_fd: false }
    }
}

impl Place for Entry {
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

/// See the head of the file.
pub(crate) struct Table {
    entries: Slab<Entry>,
    in_flight: usize,
    pub(crate) silent: SilentSends,
}

impl Table {
    /// `far_too_large` is called when the table grows far too large.
    pub(crate) fn new(far_too_large: fn()) -> Table {
        Table { entries: Slab::new(far_too_large), in_flight: 0, silent: SilentSends::default() }
    }

    /// The number of operations in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight + self.silent.len()
    }

    pub(crate) fn insert(&mut self, op: InFlight, scratch: Option<Box<Scratch>>, makes_fd: bool) -> Key {
        self.in_flight += 1;
        let (slot, entry) = self.entries.take(Entry::free);
        // The old state has nothing to drop, which the compiler cannot know.
        mem::forget(mem::replace(&mut entry.state, State::InFlight(op)));
        (entry.scratch, entry.makes_fd) = (scratch, makes_fd);
        Key::new(slot, entry.generation)
    }

    #[inline(always)]
    fn entry(&mut self, key: Key) -> Option<&mut Entry> {
        self.entries.get_mut(key.slot()).filter(|e| e.generation == key.generation())
    }

    pub(crate) fn is_in_flight(&mut self, key: Key) -> bool {
        if key.silent().is_some() {
            return self.silent.contains(key);
        }
        self.entry(key).is_some_and(|e| matches!(e.state, State::InFlight(_)))
    }

    /// Whether a success of this operation carries a new descriptor.
    pub(crate) fn makes_fd(&self, key: Key) -> bool {
        self.entries.get(key.slot()).is_some_and(|e| e.generation == key.generation() && e.makes_fd)
    }

    /// The SQE of an operation in flight, for a kernel that executes it by plain calls. `None` if the key names none.
    ///
    /// # Errors
    /// `EFAULT` if the operation panics while it describes itself, which it did not do at its submission.
    pub(crate) fn describe(&mut self, key: Key) -> Result<Option<Sqe<'_>>, i32> {
        let table = AssertUnwindSafe(self);
        let described = panic::catch_unwind(move || {
            let whole = table;
            whole.0.sqe(key)
        });
        described.map_err(|payload| {
            discard(payload);
            libc::EFAULT
        })
    }

    fn sqe(&mut self, key: Key) -> Option<Sqe<'_>> {
        if key.silent().is_some() {
            return self.silent.sqe(key);
        }
        match &mut self.entry(key)?.state {
            State::InFlight(op) => Some(op.describe()),
            _ => None,
        }
    }

    /// A handle's receive in flight: its receiver, token, descriptor and cap.
    #[inline(always)]
    pub(crate) fn receive(&self, key: Key) -> Option<(ReceiverId, u32, &Fd, u32)> {
        match self.entries.get(key.slot())? {
            Entry {
                state: State::InFlight(InFlight::Receive { to, fd, token, cap }), generation, ..
            } if *generation == key.generation() => Some((*to, *token, fd, *cap)),
            _ => None,
        }
    }

    /// The receiver and token of a completion, if it belongs to a handle's receive.
    #[inline(always)]
    pub(crate) fn receiver(&self, key: Key) -> Option<(ReceiverId, u32)> {
        match self.entries.get(key.slot())? {
            Entry { state: State::InFlight(InFlight::Receive { to, token, .. }), generation, .. }
                if *generation == key.generation() =>
            {
                Some((*to, *token))
            }
            _ => None,
        }
    }

    /// The operation that a completion with F_MORE belongs to.
    pub(crate) fn item(&mut self, key: Key) -> Option<Rc<dyn Shots>> {
        match &self.entry(key)?.state {
            State::InFlight(InFlight::Shots(op)) => Some(Rc::clone(op)),
            _ => None,
        }
    }

    /// The final completion of an operation arrived: it leaves the table, or its result is kept for its future.
    pub(crate) fn deliver(&mut self, key: Key) -> Delivery {
        if key.silent().is_some() {
            return self.silent.report(key).map_or(Delivery::Stray, Delivery::Sent);
        }
        let Some(entry) = self.entry(key) else { return Delivery::Stray };
        let State::InFlight(op) = &entry.state else { return Delivery::Stray };
        let claimed = matches!(op, InFlight::Claimed(_));
        entry.scratch = None;
        let state = if claimed {
            mem::replace(&mut entry.state, State::Free { next: NONE })
        } else {
            self.free_slot(key)
        };
        self.in_flight -= 1;
        match state {
            State::InFlight(InFlight::Send { payload, fd, token }) => {
                Delivery::Sent(Sending { payload, fd, token })
            }
            State::InFlight(InFlight::Receive { to, fd, token, .. }) => Delivery::Received { to, fd, token },
            State::InFlight(InFlight::Resident(op)) => Delivery::Last(op),
            State::InFlight(InFlight::Shots(op)) => Delivery::End(op),
            State::InFlight(InFlight::Abandoned(op)) => Delivery::Abandoned(op),
            State::InFlight(InFlight::Claimed(op)) => Delivery::Claimed(op),
            State::Ended(_) | State::Free { .. } => Delivery::Stray,
        }
    }

    /// Keeps the result of a `Delivery::Claimed` for its future. Returns the waker to wake.
    pub(crate) fn keep(&mut self, key: Key, ended: Box<dyn Ended>) -> Option<Waker> {
        let entry = self.entry(key)?;
        entry.state = State::Ended(ended);
        entry.waker.take()
    }

    /// Polls for a future: returns the result, or else keeps `waker`. Also returns the waker that it replaces, to be
    /// dropped outside.
    pub(crate) fn claim(&mut self, key: Key, waker: &Waker) -> (Option<Box<dyn Ended>>, Option<Waker>) {
        let Some(entry) = self.entry(key) else { return (None, None) };
        if matches!(entry.state, State::Ended(_)) {
            let State::Ended(result) = self.free_slot(key) else { return (None, None) };
            return (Some(result), None);
        }
        let known = entry.waker.as_ref().is_some_and(|w| w.will_wake(waker));
        (None, if known { None } else { entry.waker.replace(waker.clone()) })
    }

    /// The future was dropped.
    pub(crate) fn abandon(&mut self, key: Key) -> Left {
        let Some(entry) = self.entry(key) else { return Left::default() };
        let waker = entry.waker.take();
        match mem::replace(&mut entry.state, State::Free { next: NONE }) {
            State::InFlight(InFlight::Claimed(op)) => {
                entry.state = State::InFlight(InFlight::Abandoned(op));
                Left { cancel: true, result: None, _waker: waker }
            }
            State::Ended(result) => {
                self.free_slot(key);
                Left { cancel: false, result: Some(result), _waker: waker }
            }
            other => {
                entry.state = other;
                Left { cancel: false, result: None, _waker: waker }
            }
        }
    }

    #[inline(always)]
    fn free_slot(&mut self, key: Key) -> State {
        let state = self.entries.give_back(key.slot(), |entry, next| {
            entry.generation = entry.generation.wrapping_add(1);
            Some(mem::replace(&mut entry.state, State::Free { next }))
        });
        state.unwrap_or(State::Free { next: NONE })
    }

    /// Frees the memory of a peak.
    pub(crate) fn tidy(&mut self) {
        self.entries.shrink();
        self.silent.tidy();
    }

    /// Memory of the entries, without the memory that they own.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.bytes() + self.silent.bytes()
    }

    /// Frees all operations: the kernel has consumed none, and never will.
    pub(crate) fn take_back(&mut self) {
        self.in_flight = 0;
        self.entries.take_all();
        self.silent.take_back();
    }

    /// The keys of all operations in flight.
    pub(crate) fn keys(&self) -> Vec<Key> {
        let live = |(slot, e): (u32, &Entry)| {
            matches!(e.state, State::InFlight(_)).then_some(Key::new(slot, e.generation))
        };
        self.entries.iter().filter_map(live).chain(self.silent.keys()).collect()
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if self.in_flight() > 0 {
            mem::forget(self.entries.take_all());
            mem::forget(mem::take(&mut self.silent));
        }
    }
}

/// The action of a completion, to be executed while the table is not borrowed.
pub(crate) enum Delivery {
    Sent(Sending),
    Received {
        to: ReceiverId,
        fd: Fd,
        token: u32,
    },
    /// The final result of many.
    End(Rc<dyn Shots>),
    /// The single result of a handle's operation.
    Last(Box<dyn Resident>),
    /// To be finished; the result is kept for its future.
    Claimed(Box<dyn Claimed>),
    Abandoned(Box<dyn Claimed>),
    /// The key names no operation in flight.
    Stray,
}

/// The rest of an operation whose future was dropped: to be dropped while the table is not borrowed.
#[derive(Default)]
pub(crate) struct Left {
    /// The kernel still has the operation: it needs a cancel.
    pub(crate) cancel: bool,
    pub(crate) result: Option<Box<dyn Ended>>,
    _waker: Option<Waker>,
}
