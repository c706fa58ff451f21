//! The sources: a source is the readiness state of a descriptor that an operation has waited for, with the queue of the
//! operations that wait there.

use std::{cell::RefCell, collections::VecDeque, mem, os::fd::OwnedFd, rc::Rc};

use rustix::event::epoll::{self, EventData, EventFlags};

use super::place::{Home, Kind};
use crate::{
    kernel::{
        fd::{Descriptor, Fd, Inner},
        key::Key,
        ring::perform::Progress,
    },
    scheduler::slab::{self, NONE, Slab},
};

/// The events of a registration. Each source registers once for all of them, so that an edge is noted even if no
/// operation waits.
const IN: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::PRI).union(EventFlags::ET);

/// What an operation waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// For readability: the operations are executed one after the other.
    In,
    /// For writability: the operations are executed one after the other.
    Out,
    /// For any event: the operation polls the descriptor itself, and takes no data.
    Event,
}

/// An operation that waits.
pub(super) struct Waiting {
    pub(super) key: Key,
    pub(super) way: Way,
    pub(super) progress: Progress,
}

/// The readiness that a descriptor is registered for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Interest {
    Nothing,
    In,
    InAndOut,
    /// epoll refuses the descriptor (a regular file, /dev/null): it is always ready.
    AlwaysReady,
}

/// See the head of the file.
pub(super) struct Source {
    generation: u32,
    used: bool,
    interest: Interest,
    /// A call may succeed. Cleared by rule 2 at the head of `mod.rs`.
    pub(super) readable: bool,
    /// As `readable`, but true at first, before any edge.
    pub(super) writable: bool,
    /// An event has arrived that the `Way::Event` operations have not looked at.
    pub(super) changed: bool,
    /// A hang-up, an error or urgent data was seen. What follows it has no edge of its own, so a receive that fills
    /// only a part of its buffer may have left something behind.
    pub(super) odd: bool,
    /// In `Epoll::ready`, in `Epoll::later`, or being visited.
    pub(super) listed: bool,
    next_free: u32,
    /// The operation at the front: nearly always the only one.
    first: Option<Waiting>,
    more: VecDeque<Waiting>,
    /// The same terminal, opened again with `O_NONBLOCK`.
    pub(super) reopened: Option<Box<OwnedFd>>,
}

impl slab::Place for Source {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn is_free(&self) -> bool {
        !self.used
    }

    fn next_free(&self) -> u32 {
        self.next_free
    }

    fn set_next_free(&mut self, next: u32) {
        self.next_free = next;
    }
}

impl Source {
    fn new(generation: u32) -> Source {
        Source {
            generation,
            used: false,
            interest: Interest::Nothing,
            readable: false,
            writable: true,
            changed: false,
            odd: false,
            listed: false,
            next_free: NONE,
            first: None,
            more: VecDeque::new(),
            reopened: None,
        }
    }

    pub(super) fn is_always_ready(&self) -> bool {
        self.interest == Interest::AlwaysReady
    }

    fn push(&mut self, waiting: Waiting) {
        match self.first {
            None => self.first = Some(waiting),
            Some(_) => self.more.push_back(waiting),
        }
    }

    fn put_back(&mut self, waiting: Waiting) {
        if let Some(second) = self.first.replace(waiting) {
            self.more.push_front(second);
        }
    }

    /// The first operation that waits this way.
    #[inline(always)]
    pub(super) fn next(&mut self, way: Way) -> Option<&mut Waiting> {
        match &mut self.first {
            Some(first) if first.way == way => self.first.as_mut(),
            None => None,
            Some(_) => self.more.iter_mut().find(|waiting| waiting.way == way),
        }
    }

    pub(super) fn waits(&self, way: Way) -> bool {
        self.waiting().any(|waiting| waiting.way == way)
    }

    fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.first.iter().chain(&self.more)
    }

    fn take_next(&mut self, way: Way) -> Option<Waiting> {
        self.take_where(|waiting| waiting.way == way)
    }

    fn take(&mut self, key: Key) -> Option<Waiting> {
        self.take_where(|waiting| waiting.key == key)
    }

    fn take_where(&mut self, wanted: impl Fn(&Waiting) -> bool) -> Option<Waiting> {
        if self.first.as_ref().is_some_and(&wanted) {
            return mem::replace(&mut self.first, self.more.pop_front());
        }
        let place = self.more.iter().position(wanted)?;
        self.more.remove(place)
    }

    /// Whether no operation waits.
    pub(super) fn is_idle(&self) -> bool {
        self.first.is_none()
    }

    /// Whether an operation other than a read can continue.
    #[inline(always)]
    pub(super) fn is_other_due(&self) -> bool {
        !self.more.is_empty()
            && self.waiting().any(|waiting| match waiting.way {
                Way::In => false,
                Way::Out => self.writable,
                Way::Event => self.changed,
            })
    }

    /// Takes all operations that wait for any event.
    pub(super) fn take_event_waiters(&mut self) -> Vec<Waiting> {
        std::iter::from_fn(|| self.take_next(Way::Event)).collect()
    }

    /// Whether an operation can continue.
    #[inline(always)]
    pub(super) fn is_due(&self) -> bool {
        let due = |waiting: &Waiting| match waiting.way {
            Way::In => self.readable,
            Way::Out => self.writable,
            Way::Event => self.changed,
        };
        match &self.first {
            Some(first) => due(first) || (!self.more.is_empty() && self.more.iter().any(due)),
            None => false,
        }
    }

    /// Raises the flags of an event (rule 1 at the head of `mod.rs`).
    #[inline(always)]
    pub(super) fn note(&mut self, events: EventFlags) {
        // The usual case.
        if events == EventFlags::IN {
            (self.changed, self.readable) = (true, true);
            return;
        }
        let ends = EventFlags::HUP | EventFlags::ERR;
        let odd = ends | EventFlags::RDHUP | EventFlags::PRI;
        self.changed = true;
        self.odd |= events.intersects(odd);
        self.readable |= events.intersects(odd | EventFlags::IN);
        self.writable |= events.intersects(ends | EventFlags::OUT);
    }
}

/// The sources of one epoll kernel.
pub(super) struct Sources {
    slab: Slab<Source>,
    /// Operations that wait for writability.
    pub(super) blocked: usize,
    pub(super) epoll: Rc<OwnedFd>,
    pub(super) home: Rc<Home>,
    /// Calls of `epoll_ctl`.
    pub(super) calls: u64,
}

impl Sources {
    /// `far_too_large` is called when the table grows far too large.
    pub(super) fn new(epoll: OwnedFd, far_too_large: fn()) -> Sources {
        let epoll = Rc::new(epoll);
        let home = Rc::new(Home { epoll: Rc::downgrade(&epoll), freed: RefCell::default() });
        Sources { slab: Slab::new(far_too_large), blocked: 0, epoll, home, calls: 0 }
    }

    #[inline(always)]
    pub(super) fn get(&mut self, slot: u32) -> Option<&mut Source> {
        self.slab.get_mut(slot as usize).filter(|source| source.used)
    }

    /// The source that an event names.
    #[inline(always)]
    pub(super) fn named(&mut self, data: u64) -> Option<(u32, &mut Source)> {
        let (slot, generation) = (data as u32, (data >> 32) as u32);
        // A free slot has the generation of its next source, so a stale event does not match.
        let source = self.slab.get_mut(slot as usize)?;
        (source.generation == generation).then_some((slot, source))
    }

    /// The source of a descriptor, if it has one.
    #[inline(always)]
    pub(super) fn known(&self, fd: &Fd) -> Option<u32> {
        let Inner::Os(descriptor) = fd.inner() else { return None };
        descriptor.place.slot(&self.home)
    }

    /// The source of a descriptor; adds one if there is none.
    ///
    /// # Errors
    /// `EXDEV` if another kernel has a source for the descriptor, `EOPNOTSUPP` for a simulated descriptor.
    pub(super) fn of(&mut self, fd: &Fd) -> Result<u32, i32> {
        let Inner::Os(descriptor) = fd.inner() else { return Err(libc::EOPNOTSUPP) };
        match descriptor.place.slot(&self.home) {
            Some(slot) => Ok(slot),
            None => self.add(descriptor),
        }
    }

    #[inline(never)]
    fn add(&mut self, descriptor: &Descriptor) -> Result<u32, i32> {
        if descriptor.place.is_elsewhere(&self.home) {
            return Err(libc::EXDEV);
        }
        let (slot, source) = self.slab.take(|_, generation| Source::new(generation));
        source.used = true;
        // An earlier kernel may have reopened a terminal: that descriptor is gone, so the kind is asked for again.
        if descriptor.kind.get() == Kind::Other {
            descriptor.kind.set(Kind::Unknown);
        }
        descriptor.place.enter(slot, &self.home);
        Ok(slot)
    }

    /// Whether an operation waits this way at a descriptor.
    #[cold]
    pub(super) fn waits(&mut self, fd: &Fd, way: Way) -> bool {
        let slot = self.known(fd);
        slot.and_then(|slot| self.get(slot)).is_some_and(|source| source.waits(way))
    }

    pub(super) fn push(&mut self, slot: u32, waiting: Waiting) {
        self.blocked += usize::from(waiting.way == Way::Out);
        if let Some(source) = self.get(slot) {
            source.push(waiting);
        }
    }

    /// Puts a taken operation back to the front of the queue.
    pub(super) fn put_back(&mut self, slot: u32, waiting: Waiting) {
        self.blocked += usize::from(waiting.way == Way::Out);
        if let Some(source) = self.get(slot) {
            source.put_back(waiting);
        }
    }

    /// Takes the first operation that waits this way.
    pub(super) fn take_next(&mut self, slot: u32, way: Way) -> Option<Waiting> {
        let taken = self.get(slot)?.take_next(way);
        self.note_taken(taken)
    }

    pub(super) fn take(&mut self, slot: u32, key: Key) -> Option<Waiting> {
        let taken = self.get(slot)?.take(key);
        self.note_taken(taken)
    }

    fn note_taken(&mut self, taken: Option<Waiting>) -> Option<Waiting> {
        self.blocked -= usize::from(taken.as_ref().is_some_and(|waiting| waiting.way == Way::Out));
        taken
    }

    /// Registers the descriptor of a source for readability, and if `out` is set, for writability. Does nothing if it
    /// is already registered so.
    pub(super) fn register(&mut self, slot: u32, fd: &Fd, out: bool) -> Result<(), i32> {
        let (Inner::Os(fd), Some(source)) = (fd.inner(), self.slab.get_mut(slot as usize)) else {
            return Ok(());
        };
        let wanted = if out { Interest::InAndOut } else { Interest::In };
        let (add, enough) = match source.interest {
            Interest::Nothing => (true, false),
            Interest::In => (false, !out),
            Interest::InAndOut | Interest::AlwaysReady => (false, true),
        };
        if enough {
            return Ok(());
        }
        let flags = if out { IN | EventFlags::OUT } else { IN };
        let data = EventData::new_u64(u64::from(source.generation) << 32 | u64::from(slot));
        self.calls += 1;
        let mut made = if add { epoll::add(&*self.epoll, fd, data, flags) } else { Err(EXIST) };
        // Also for a descriptor that left this kernel and returned: a duplicate may still hold the registration.
        if made == Err(EXIST) {
            self.calls += u64::from(add);
            made = epoll::modify(&*self.epoll, fd, data, flags);
        }
        source.interest = match made {
            Ok(()) => wanted,
            Err(rustix::io::Errno::PERM) => Interest::AlwaysReady,
            // The limit `max_user_watches` is reached: reported like a lack of memory.
            Err(rustix::io::Errno::NOSPC) => return Err(libc::ENOMEM),
            Err(e) => return Err(e.raw_os_error()),
        };
        Ok(())
    }

    /// Removes the registration of an idle listener: another process or core may listen on the same socket, and its
    /// connections must not wake this loop.
    pub(super) fn unregister(&mut self, slot: u32, fd: &Fd) {
        let (Inner::Os(fd), Some(source)) = (fd.inner(), self.slab.get_mut(slot as usize)) else { return };
        if matches!(source.interest, Interest::In | Interest::InAndOut) {
            self.calls += 1;
            let _ = epoll::delete(&*self.epoll, fd);
            (source.interest, source.readable) = (Interest::Nothing, false);
        }
    }

    /// Frees the sources of closed descriptors. Returns the operations that still wait there: none, unless an operation
    /// now describes a different descriptor than when it began.
    #[inline(always)]
    pub(super) fn free_closed(&mut self) -> Vec<Waiting> {
        if self.home.freed.borrow().is_empty() { Vec::new() } else { self.free_some() }
    }

    #[inline(never)]
    fn free_some(&mut self) -> Vec<Waiting> {
        let mut left = Vec::new();
        let mut closed = self.home.freed.take();
        for slot in closed.drain(..) {
            let freed = self.slab.give_back(slot as usize, |source, next| {
                let fresh = Source { next_free: next, ..Source::new(source.generation.wrapping_add(1)) };
                Some(mem::replace(source, fresh))
            });
            left.extend(freed.into_iter().flat_map(|source| source.first.into_iter().chain(source.more)));
        }
        // Keeps the buffer for reuse, but not the memory of a peak.
        closed.shrink_to(64);
        self.home.freed.replace(closed);
        self.blocked -= left.iter().filter(|waiting| waiting.way == Way::Out).count();
        left
    }

    /// Takes an operation out of whichever source it waits at.
    #[cold]
    pub(super) fn take_anywhere(&mut self, key: Key) -> Option<Waiting> {
        let taken = self.slab.iter_mut().find_map(|(_, source)| source.take(key));
        self.note_taken(taken)
    }

    /// Frees the memory of a peak.
    pub(super) fn tidy(&mut self) {
        self.slab.shrink();
    }

    /// Memory of the table, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.slab.bytes()
    }

    /// The operations that wait for an edge, each with its source's slot.
    pub(super) fn waiting_for_edges(&self) -> Vec<(u32, Way, Key)> {
        let used = self.slab.iter().filter(|(_, source)| source.used && !source.is_due());
        let waiting = used.flat_map(|(slot, source)| source.waiting().map(move |waiting| (slot, waiting)));
        let edges = waiting.filter(|(_, waiting)| waiting.way != Way::Event);
        edges.map(|(slot, waiting)| (slot, waiting.way, waiting.key)).collect()
    }
}

const EXIST: rustix::io::Errno = rustix::io::Errno::EXIST;
