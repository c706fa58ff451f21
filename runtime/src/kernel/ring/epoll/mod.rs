//! The epoll kernel of the ring, for systems that refuse io_uring: it executes the operations by nonblocking system
//! calls, and sleeps in `epoll_wait`.
//!
//! Like the simulator, it asks the in-flight table to describe an operation at the time of the call. The description
//! borrows the real buffers, so this kernel stores no pointers. `enter` begins the queued operations in order, and
//! sleeps; `next` executes operations that can continue, one at a time. So one receive buffer, which stays in the
//! cache, serves all connections. Only a silent send is executed when it is submitted.
//!
//! ```text
//!   submit ──▶ queue ──enter: begin──▶ waits at its source ──next: its flag is up──▶ done ──next──▶ delivered
//!                            └── can end at once ──────────────────────────────────────▲
//! ```
//!
//! # No edge is lost
//! A descriptor is registered once, edge-triggered, when an operation first has to wait for it. Its source keeps two
//! flags, readable and writable.
//! 1. Every event that may mean readiness raises the flag, whether or not an operation waits (`Source::note`).
//! 2. A flag is cleared only in three cases. A call found nothing (EAGAIN; `found_nothing`, `end_receive`): the next
//!    readiness is then an edge. Or a TCP receive filled only a part of its buffer, and no hang-up, error or urgent
//!    data was seen (`advance`, `is_short`): behind those, data or the end of the stream can lie without an edge of
//!    its own. Or the registration is removed (`unregister`): the next one reports what is there.
//! 3. An operation waits only while its flag is down. An operation that is queued while the flag is up is tried by the
//!    next `next`.
//! 4. `readable` starts down: the registration reports what is already there. `writable` starts up: a send is tried
//!    first, and the descriptor is registered for writability only after a send finds no room. That registration, too,
//!    reports the current readiness.
//! 5. A source with work left when its visit ends (`VISIT`) is visited again before the next sleep.
//!
//! The tests check this before each sleep, for 64 operations that wait to read or write (`audit.rs`). An event names
//! its source by slot and generation, so an event of a closed descriptor that lives on in a duplicate matches no
//! source.

mod audit;
mod begin;
mod pauses;
pub(crate) mod place;
mod sleep;
mod sources;
mod syscalls;
mod visit;

use std::{
    collections::VecDeque,
    env, io,
    os::fd::{AsFd, OwnedFd},
};

use pauses::Pauses;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use sources::{Sources, Way};
use syscalls::Syscalls;

use crate::{
    kernel::{
        fd::Fd,
        inflight::{InFlight, ReceiverId, Table},
        key::Key,
        operation::Done,
        payload::Payload,
        pool::{Filled, Pool},
        ring::{
            outcome::Outcome,
            refusal::Refusal,
            terms::{Abilities, Next, RingCounters, Sizes, Wait},
            unpark::Unpark,
        },
    },
    scheduler::{clock::Clock, slab::smaller},
};

/// The most results of one source in a visit, before other sources get their turn.
const VISIT: u32 = 16;
/// The most events that one `epoll_wait` returns.
const EVENTS: usize = 256;
/// The event data of the eventfd by which other threads wake the loop.
const WAKE: u64 = u64::MAX;

/// An entry of the submission queue.
enum Queued {
    Begin(Key),
    Cancel(Key),
}

/// The result of one step of a visit.
enum Advanced {
    /// A receive delivered data, and stays armed: the receiver, the token and the data.
    Data(ReceiverId, u32, Filled),
    /// The caller continues: an operation made progress, or there was nothing to do.
    Continue,
    /// The next step is not a receive of the wanted receiver.
    NotWanted,
}

/// See the head of the file.
pub(crate) struct Epoll {
    sys: Syscalls,
    queue: VecDeque<Queued>,
    /// Whether the queue has anything but receives of handles.
    queued_others: bool,
    /// Sources with operations that can continue.
    ready: VecDeque<u32>,
    /// The source being visited, and how many results it may still give.
    visited: Option<(u32, u32)>,
    /// Sources that reached the limit of their visit.
    later: VecDeque<u32>,
    pauses: Pauses,
    /// Completions that are not yet delivered.
    done: VecDeque<(Key, Done)>,
    /// The result of the completion that `next` returned last.
    last: Option<Done>,
    events: Vec<Event>,
    /// The index of the first unprocessed event.
    next_event: usize,
    /// Silent sends so far.
    silent: u64,
    /// Whether to audit before each sleep.
    audits: bool,
    /// Where the next audit starts.
    audited: usize,
    pool: Pool,
    counters: RingCounters,
}

impl Epoll {
    /// `far_too_large` is called when a table grows far too large.
    pub(crate) fn new(sizes: Sizes, pool: Pool, clock: Clock, far_too_large: fn()) -> Result<Epoll, Refusal> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(refused("epoll_create1"))?;
        let sources = Sources::new(epoll, far_too_large);
        Ok(Epoll {
            sys: Syscalls::new(sources, clock, pool.clone(), sizes),
            queue: VecDeque::new(),
            queued_others: false,
            ready: VecDeque::new(),
            visited: None,
            later: VecDeque::new(),
            pauses: Pauses::default(),
            done: VecDeque::new(),
            last: None,
            events: Vec::with_capacity(EVENTS),
            next_event: 0,
            silent: 0,
            audits: cfg!(debug_assertions) && env::var_os("CORIO_AUDIT").is_some(),
            audited: 0,
            pool,
            counters: RingCounters::default(),
        })
    }

    pub(crate) fn submit(&mut self, table: &mut Table, op: InFlight) -> Key {
        self.queued_others |= !matches!(op, InFlight::Receive { .. });
        let key = table.insert(op, None, false);
        self.counters.sqes += 1;
        self.queue.push_back(Queued::Begin(key));
        key
    }

    /// Sends immediately. There is a completion only if not everything was sent.
    #[inline(always)]
    pub(crate) fn send_silently<P: Payload>(
        &mut self,
        table: &mut Table,
        payload: Box<P>,
        fd: &Fd,
        token: u32,
    ) -> Key {
        // Earlier submissions go first. They cannot be begun here: they describe themselves, which is allowed only
        // while nothing of the loop is borrowed.
        if self.queued_others {
            return self.queue_silent(table, payload, fd, token);
        }
        let bytes = payload.bytes();
        let sent = if self.is_sending(fd) { Outcome::Blocked } else { self.sys.send_one(fd, bytes) };
        let result = match sent {
            Outcome::Ready(count) if count == bytes.len() => None,
            Outcome::Ready(count) => Some(count as i32),
            Outcome::Blocked => Some(-libc::EAGAIN),
            Outcome::Failed(errno) => Some(-errno),
        };
        let key = self.push_silent(table, payload, fd, token);
        if let Some(result) = result {
            self.end(key, Done::new(result));
        }
        key
    }

    #[inline(never)]
    fn queue_silent(&mut self, table: &mut Table, payload: Box<dyn Payload>, fd: &Fd, token: u32) -> Key {
        let key = self.push_silent(table, payload, fd, token);
        self.queue.push_back(Queued::Begin(key));
        key
    }

    #[inline(always)]
    fn push_silent(&mut self, table: &mut Table, payload: Box<dyn Payload>, fd: &Fd, token: u32) -> Key {
        let key = table.silent.push(payload, fd, token, self.silent);
        self.silent += 1;
        self.counters.sqes += 1;
        key
    }

    /// Whether an earlier send to `fd` waits.
    #[inline(always)]
    fn is_sending(&mut self, fd: &Fd) -> bool {
        self.sys.sources.blocked > 0 && self.sys.sources.waits(fd, Way::Out)
    }

    pub(crate) fn cancel(&mut self, key: Key) {
        self.counters.cancels += 1;
        self.queued_others = true;
        self.queue.push_back(Queued::Cancel(key));
    }

    pub(crate) fn wants_enter(&self) -> bool {
        !self.queue.is_empty()
            || self.has_more()
            // A full batch may have left events behind.
            || self.events.len() == EVENTS
    }

    /// Whether `next` may have a completion without a new event.
    fn has_more(&self) -> bool {
        !self.done.is_empty()
            || !self.ready.is_empty()
            || !self.later.is_empty()
            || self.visited.is_some()
            || self.next_event < self.events.len()
    }

    /// Begins the queued operations, and sleeps as `wait` says, unless an operation can already continue.
    pub(crate) fn enter(&mut self, table: &mut Table, wait: Wait) -> io::Result<()> {
        self.counters.enters += 1;
        for left in self.sys.sources.free_closed() {
            self.end(left.key, left.progress.cancelled());
        }
        self.ready.append(&mut self.later);
        self.begin_queued(table);
        let wait = if self.has_more() { Wait::No } else { self.pauses.limit(wait) };
        let wait = if wait != Wait::No && self.audits { self.audit(table, wait)? } else { wait };
        self.sleep(wait)?;
        if self.pauses.unwatched().is_some() {
            self.end_pauses();
        }
        Ok(())
    }

    /// Adds a source to `ready` if one of its operations can continue.
    #[inline(always)]
    fn list(&mut self, slot: u32) {
        if let Some(source) = self.sys.sources.get(slot)
            && !source.listed
            && source.is_due()
        {
            source.listed = true;
            self.ready.push_back(slot);
        }
    }

    /// Clears the flag after a call found nothing (EAGAIN): the next readiness is an edge.
    fn found_nothing(&mut self, slot: u32, way: Way) {
        if let Some(source) = self.sys.sources.get(slot) {
            match way {
                Way::In => source.readable = false,
                Way::Out => source.writable = false,
                Way::Event => {}
            }
        }
    }

    /// Queues the final completion of an operation.
    fn end(&mut self, key: Key, done: Done) {
        self.counters.enobufs += u64::from(done.errno() == Some(libc::ENOBUFS));
        self.done.push_back((key, done));
    }

    /// Queues a completion of a multishot operation that stays armed.
    fn end_one(&mut self, key: Key, mut done: Done) {
        done.more = true;
        self.done.push_back((key, done));
    }

    /// Ends the pauses that are due.
    #[cold]
    #[inline(never)]
    fn end_pauses(&mut self) {
        for key in self.pauses.take_ended(self.sys.clock.now_ns()) {
            self.end(key, Done::new(-libc::ETIME));
        }
    }

    /// The end of the first pause, if the host of an embedded loop has to time it, because no timerfd makes the epoll
    /// descriptor readable then.
    pub(crate) fn next_pause(&self) -> Option<u64> {
        self.pauses.unwatched()
    }

    /// To be called after an `enter`. By then every silent send has reported, if it ever will.
    pub(crate) fn arrived(&mut self, table: &mut Table) {
        table.silent.settle(self.silent);
    }

    /// Executes operations until there is a completion. Not inlined: it would slow the io_uring path of the caller.
    #[inline(never)]
    pub(crate) fn next(&mut self, table: &mut Table) -> Next {
        loop {
            if let Some((key, done)) = self.done.pop_front() {
                self.counters.cqes += 1;
                self.last = Some(done);
                return Next::Other(key);
            }
            let Some(slot) = self.visit() else {
                if self.done.is_empty() {
                    return Next::None;
                }
                continue;
            };
            if let Advanced::Data(to, token, filled) = self.advance(table, slot, None) {
                return Next::Data(to, token, filled);
            }
        }
    }

    /// Like `next`, but only for data of `to`; leaves everything else to `next`.
    #[inline(always)]
    pub(crate) fn next_data(&mut self, table: &mut Table, to: ReceiverId) -> Option<(u32, Filled)> {
        while self.done.is_empty() {
            let slot = self.visit()?;
            match self.advance(table, slot, Some(to)) {
                Advanced::Data(_, token, filled) => return Some((token, filled)),
                Advanced::Continue => {}
                Advanced::NotWanted => return None,
            }
        }
        None
    }

    pub(crate) fn done(&mut self) -> Done {
        self.last.take().expect("a completion is asked for once, after `next`")
    }

    /// Frees the memory of a peak.
    pub(crate) fn tidy(&mut self) {
        self.sys.sources.tidy();
        let queue = &mut self.queue;
        if let Some(to) = smaller(queue.capacity(), queue.len(), size_of::<Queued>()) {
            queue.shrink_to(to);
        }
        for slots in [&mut self.ready, &mut self.later] {
            if let Some(to) = smaller(slots.capacity(), slots.len(), size_of::<u32>()) {
                slots.shrink_to(to);
            }
        }
        let done = &mut self.done;
        if let Some(to) = smaller(done.capacity(), done.len(), size_of::<(Key, Done)>()) {
            done.shrink_to(to);
        }
    }

    /// The memory of the sources.
    pub(crate) fn bytes(&self) -> usize {
        self.sys.sources.bytes()
    }

    /// A duplicate of the epoll descriptor: it becomes readable for the host on every event of the loop.
    pub(crate) fn embed(&self) -> io::Result<OwnedFd> {
        self.sys.sources.epoll.try_clone()
    }

    /// An eventfd for wake-ups. It is never read: each write is an edge.
    pub(crate) fn unpark(&mut self) -> Result<Unpark, Refusal> {
        let fd = Unpark::make_eventfd()?;
        let data = EventData::new_u64(WAKE);
        let epoll = &*self.sys.sources.epoll;
        epoll::add(epoll, fd.as_fd(), data, EventFlags::IN | EventFlags::ET).map_err(refused("epoll_ctl"))?;
        // After what can fail: without the timerfd the sleeps have a timeout instead.
        self.pauses.make_timer(epoll);
        Ok(Unpark::EventFd(fd))
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn counters(&mut self) -> &mut RingCounters {
        self.counters.calls = self.sys.count + self.sys.sources.calls;
        &mut self.counters
    }

    pub(crate) fn abilities(&self) -> Abilities {
        self.sys.abilities
    }

    pub(crate) fn set_abilities(&mut self, abilities: Abilities) {
        self.sys.abilities = abilities;
    }
}

fn refused(call: &'static str) -> impl Fn(rustix::io::Errno) -> Refusal {
    move |errno| Refusal::of(call)(errno.into())
}
