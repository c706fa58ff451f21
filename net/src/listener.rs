//! Listeners: each owns one multishot accept, which fills a bounded queue of connections.
//!
//! ```text
//!            arm                queue full, or closed           below half: arm again
//!   Idle ─────────▶ Armed ───cancel───▶ Stopping ──last CQE──▶ Idle
//!    ▲                │ EMFILE, ENFILE, ENOBUFS, ENOMEM
//!    └── timer, or ───┴──▶ BackingOff (5 ms, doubling to 1 s)
//!        a freed fd
//! ```
//! A future that accepts only waits for the queue, so dropping one loses no connection.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::Future,
    io,
    net::{Shutdown, SocketAddr},
    os::fd::OwnedFd,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use corio_runtime::{
    ExceptionContext, Handle, TimerHandle, budget, call_exception_handler, call_later,
    fd::Fd,
    handle,
    op::{self, Done, OpKey},
    service::{LoopLocal, Service},
    time::now,
    wake,
};

use crate::{
    balance::{Membership, Waiting},
    ops::Accept,
};

/// Connections that wait in the queue of a listener before it pauses.
pub(crate) const QUEUE_MAX: usize = 128;
const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
const LOG_EVERY: Duration = Duration::from_secs(1);

static LISTENERS: LoopLocal<Listeners> = LoopLocal::new(Listeners::new);

/// Names a listener of one loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenerKey {
    home: Handle,
    slot: u32,
    generation: u32,
}

#[derive(Debug)]
enum Accepting {
    Idle,
    Armed(OpKey),
    Stopping,
    BackingOff(TimerHandle),
}

#[derive(Debug)]
struct Listener {
    fd: Option<Fd>,
    accepting: Accepting,
    queue: VecDeque<Queued>,
    waiters: Vec<(u64, Waker)>,
    backoff: Duration,
    last_log: Option<Instant>,
    /// An error that ended the listener.
    failed: Option<i32>,
    /// Connections that live.
    active: usize,
    /// Who waits for the end of the listener and its connections.
    end_waiters: Vec<(u64, Waker)>,
    in_flight: bool,
    /// Of several cores: who shares the connections.
    shared: Option<Membership>,
    /// Whether it accepts, and does not only get what another core accepts.
    accepts: bool,
    /// The handle is gone.
    dropped: bool,
}

/// A connection that nobody has taken.
#[derive(Debug)]
struct Queued {
    fd: Fd,
    /// Of several cores: counted for all of them.
    waits: Option<Waiting>,
}

enum Place {
    Free { next: u32 },
    Taken(Box<Listener>),
}

struct Listeners {
    home: Handle,
    places: RefCell<Vec<(u32, Place)>>,
    free: Cell<u32>,
    next_waiter: Cell<u64>,
    /// Listeners that back off: a freed descriptor ends that.
    backing_off: Cell<usize>,
}

const NONE: u32 = u32::MAX;

impl Service for Listeners {
    fn close(&self) {
        let places = std::mem::take(&mut *self.places.borrow_mut());
        self.free.set(NONE);
        // A server that outlives its loop.
        for (slot, (generation, place)) in places.iter().enumerate() {
            if let Place::Taken(listener) = place
                && listener.fd.is_some()
            {
                let key = ListenerKey { home: self.home, slot: slot as u32, generation: *generation };
                listener.leave(key);
            }
        }
        drop(places);
    }
}

impl Listeners {
    fn new() -> Listeners {
        Listeners {
            home: handle(),
            places: RefCell::new(Vec::new()),
            free: Cell::new(NONE),
            next_waiter: Cell::new(0),
            backing_off: Cell::new(0),
        }
    }

    fn insert(&self, fd: Fd, accepts: bool) -> ListenerKey {
        let listener = Place::Taken(Box::new(Listener {
            fd: Some(fd),
            accepting: Accepting::Idle,
            queue: VecDeque::new(),
            waiters: Vec::new(),
            backoff: BACKOFF_MIN,
            last_log: None,
            failed: None,
            active: 0,
            end_waiters: Vec::new(),
            in_flight: false,
            shared: None,
            accepts,
            dropped: false,
        }));
        let mut places = self.places.borrow_mut();
        let slot = self.free.get();
        if slot == NONE {
            places.push((0, listener));
            return ListenerKey { home: self.home, slot: places.len() as u32 - 1, generation: 0 };
        }
        let (generation, place) = &mut places[slot as usize];
        if let Place::Free { next } = place {
            self.free.set(*next);
        }
        *place = listener;
        ListenerKey { home: self.home, slot, generation: *generation }
    }

    fn with<R>(&self, key: ListenerKey, f: impl FnOnce(&mut Listener) -> R) -> Option<R> {
        if self.home != key.home {
            return None;
        }
        match self.places.borrow_mut().get_mut(key.slot as usize) {
            Some((generation, Place::Taken(listener))) if *generation == key.generation => Some(f(listener)),
            _ => None,
        }
    }

    /// Frees the slot of a listener that nobody and nothing refers to.
    fn retire(&self, key: ListenerKey) {
        let unused =
            self.with(key, |l| l.dropped && l.fd.is_none() && !l.in_flight && l.active == 0).unwrap_or(false);
        if unused {
            let mut places = self.places.borrow_mut();
            let (generation, place) = &mut places[key.slot as usize];
            *generation = generation.wrapping_add(1);
            let old = std::mem::replace(place, Place::Free { next: self.free.replace(key.slot) });
            drop(places);
            drop(old);
        }
    }
}

impl Listener {
    fn arm(&mut self, key: ListenerKey) {
        let Some(fd) = &self.fd else { return };
        let idle = self.accepts && matches!(self.accepting, Accepting::Idle);
        if idle && self.queue.len() < QUEUE_MAX / 2 && !self.others_full(QUEUE_MAX / 2) {
            let op = Accept { fd: fd.clone(), listener: key };
            self.in_flight = true;
            self.accepting = Accepting::Armed(op::start_multishot(op));
        }
    }

    /// Whether `max` connections wait on all cores that this one accepts for.
    fn others_full(&self, max: usize) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.hands_over() && shared.is_full(max))
    }

    fn pause(&mut self) {
        if let Accepting::Armed(op) = self.accepting {
            self.accepting = Accepting::Stopping;
            op::cancel(op);
        }
    }

    fn arrived(&mut self, done: Done, key: ListenerKey) {
        if let Ok(fd) = done.into_fd() {
            self.backoff = BACKOFF_MIN;
            if let Some(shared) = self.shared.as_ref().filter(|shared| shared.hands_over()) {
                share(shared, fd, shared.waits(), key, &mut self.queue);
            } else if self.fd.is_some() {
                // One that arrives while the listener closes is closed with it.
                self.queue.push_back(Queued { fd, waits: None });
            }
        }
        if self.queue.len() >= QUEUE_MAX || self.others_full(QUEUE_MAX) {
            self.pause();
        }
    }

    /// The multishot has ended; the report for the log, if one is due.
    fn ended(&mut self, done: Done, key: ListenerKey) -> Option<ExceptionContext> {
        self.in_flight = false;
        self.accepting = Accepting::Idle;
        let errno = done.errno();
        self.arrived(done, key);
        match errno {
            Some(errno::EMFILE | errno::ENFILE | errno::ENOBUFS | errno::ENOMEM) => {
                return self.back_off(key, errno?);
            }
            // The listener itself is at fault: whoever accepts is told.
            Some(errno::EBADF | errno::EINVAL | errno::ENOTSOCK | errno::EOPNOTSUPP) => self.failed = errno,
            // Also one connection's own troubles: the next may be fine.
            _ => self.arm(key),
        }
        None
    }

    /// Gives its place among several cores up; whether another one goes on with the socket.
    fn leave(&self, key: ListenerKey) -> bool {
        let Some(shared) = &self.shared else { return false };
        let (others, next) = shared.leave(key);
        // One that has not begun to accept may close as well: it tells the one after it.
        if let Some(next) = next {
            next.accept_from_now_on();
        }
        others
    }

    /// Closes what nobody has taken, or leaves it to another core.
    fn clear_queue(&mut self, key: ListenerKey) {
        let queue = std::mem::take(&mut self.queue);
        if let Some(shared) = self.shared.as_ref().filter(|shared| shared.hands_over()) {
            for Queued { fd, waits } in queue {
                let waits = waits.unwrap_or_else(|| shared.waits());
                share(shared, fd, waits, key, &mut self.queue);
            }
        }
    }

    fn back_off(&mut self, key: ListenerKey, errno: i32) -> Option<ExceptionContext> {
        self.fd.as_ref()?;
        let timer = call_later(self.backoff, move || resume(key));
        self.accepting = Accepting::BackingOff(timer);
        LISTENERS.with(|listeners| listeners.backing_off.set(listeners.backing_off.get() + 1));
        let paused = self.backoff;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        let due = self.last_log.is_none_or(|last| now().saturating_duration_since(last) >= LOG_EVERY);
        due.then(|| {
            self.last_log = Some(now());
            let text =
                format!("accept() is out of resources; the listener pauses for {} ms", paused.as_millis());
            ExceptionContext::new(text).with_error(io::Error::from_raw_os_error(errno))
        })
    }

    fn end_back_off(&mut self, listeners: &Listeners) {
        if let Accepting::BackingOff(timer) = &self.accepting {
            timer.cancel();
            self.accepting = Accepting::Idle;
            listeners.backing_off.set(listeners.backing_off.get() - 1);
        }
    }
}

/// Gives a connection to the core that has the fewest: to `queue`, if that is this one.
fn share(shared: &Membership, fd: Fd, waits: Waiting, own: ListenerKey, queue: &mut VecDeque<Queued>) {
    match shared.least_loaded() {
        Some(key) if key == own => queue.push_back(Queued { fd, waits: Some(waits) }),
        Some(key) => {
            if let Ok(fd) = fd.try_into_owned() {
                // In a turn of its own, also on this loop. One that has ended meanwhile closes it.
                let shared = shared.clone();
                let _ = key.home.call_soon_threadsafe(move || key.take_over(fd, waits, &shared));
            }
        }
        // All of them close.
        None => drop(fd),
    }
}

/// The error numbers that accepting tells apart.
mod errno {
    pub(super) const EBADF: i32 = 9;
    pub(super) const ENOMEM: i32 = 12;
    pub(super) const EINVAL: i32 = 22;
    pub(super) const ENFILE: i32 = 23;
    pub(super) const EMFILE: i32 = 24;
    pub(super) const ENOTSOCK: i32 = 88;
    pub(super) const EOPNOTSUPP: i32 = 95;
    pub(super) const ENOBUFS: i32 = 105;
}

/// The back-off is over.
fn resume(key: ListenerKey) {
    LISTENERS.with(|listeners| {
        listeners.with(key, |listener| {
            listener.end_back_off(listeners);
            listener.arm(key);
        });
    });
}

/// A descriptor was freed on this loop: listeners that ran out of them try again.
pub(crate) fn descriptor_freed() {
    LISTENERS.try_with(|listeners| {
        if listeners.backing_off.get() == 0 {
            return;
        }
        let count = listeners.places.borrow().len();
        for slot in 0..count {
            let generation = listeners.places.borrow()[slot].0;
            let key = ListenerKey { home: listeners.home, slot: slot as u32, generation };
            listeners.with(key, |listener| {
                if matches!(listener.accepting, Accepting::BackingOff(_)) {
                    listener.end_back_off(listeners);
                    listener.arm(key);
                }
            });
        }
    });
}

impl ListenerKey {
    /// A new listener on `fd`, armed at once.
    pub(crate) fn new(fd: Fd) -> ListenerKey {
        LISTENERS.with(|listeners| {
            let key = listeners.insert(fd, true);
            listeners.with(key, |listener| listener.arm(key));
            key
        })
    }

    /// A listener that gets the connections that another core accepts on the same socket.
    pub(crate) fn fed(fd: Fd) -> ListenerKey {
        LISTENERS.with(|listeners| listeners.insert(fd, false))
    }

    /// From now on the connections are shared.
    pub(crate) fn share(self, shared: Membership) {
        let _ = self.with(|listener| listener.shared = Some(shared));
    }

    /// Another core has accepted a connection for this one.
    fn take_over(self, fd: OwnedFd, waits: Waiting, shared: &Membership) {
        let mut arrived = Some((Fd::from(fd), waits));
        self.update(|listener| {
            if listener.fd.is_some()
                && let Some((fd, waits)) = arrived.take()
            {
                listener.queue.push_back(Queued { fd, waits: Some(waits) });
            }
        });
        // Closed meanwhile: it is another one's, and never this one's again.
        if let Some((fd, waits)) = arrived {
            share(shared, fd, waits, self, &mut VecDeque::new());
        }
    }

    /// The core that accepted does so no more, or has paused.
    pub(crate) fn accept_from_now_on(self) {
        let _ = self.home.call_soon_threadsafe(move || {
            let _ = self.with(|listener| {
                listener.accepts = true;
                listener.arm(self);
            });
        });
    }

    /// The accept brought a connection, with more to come.
    pub(crate) fn accepted(self, done: Done) {
        self.update(|listener| listener.arrived(done, self));
    }

    /// The accept has ended.
    pub(crate) fn accept_ended(self, done: Done) {
        let report = self.update(|listener| listener.ended(done, self)).flatten();
        if let Some(context) = report {
            call_exception_handler(&context);
        }
        LISTENERS.with(|listeners| listeners.retire(self));
    }

    pub(crate) fn home(self) -> Handle {
        self.home
    }

    /// Runs `f`, then wakes who accepts.
    fn update<R>(self, f: impl FnOnce(&mut Listener) -> R) -> Option<R> {
        let (value, waiters) = LISTENERS.with(|listeners| {
            listeners.with(self, |listener| {
                let value = f(listener);
                let news = !listener.queue.is_empty() || listener.failed.is_some() || listener.fd.is_none();
                (value, if news { std::mem::take(&mut listener.waiters) } else { Vec::new() })
            })
        })?;
        waiters.into_iter().for_each(|(_, waker)| wake(waker));
        Some(value)
    }

    fn with<R>(self, f: impl FnOnce(&mut Listener) -> R) -> io::Result<R> {
        let found = LISTENERS.try_with(|listeners| listeners.with(self, f)).flatten();
        found.ok_or_else(|| {
            if self.home.is_current() {
                io::Error::new(io::ErrorKind::NotConnected, "the listener is closed")
            } else {
                io::Error::other("the listener is attached to a different loop")
            }
        })
    }

    /// Waits for the next connection.
    pub(crate) fn accept(self) -> NextConnection {
        NextConnection { key: self, waiter: None }
    }

    pub(crate) fn local_addr(self) -> io::Result<SocketAddr> {
        self.with(|listener| listener.fd.as_ref().map(Fd::local_addr))?.unwrap_or_else(|| Err(closed()))
    }

    pub(crate) fn is_open(self) -> bool {
        self.with(|listener| listener.fd.is_some()).unwrap_or(false)
    }

    /// Refuses new connections from now on, synchronously; those in the queue are closed.
    pub(crate) fn close(self) {
        self.home.run_at_home(move || {
            let waiters = LISTENERS.try_with(|listeners| {
                listeners.with(self, |listener| {
                    let fd = listener.fd.take()?;
                    listener.end_back_off(listeners);
                    if !listener.leave(self) {
                        // The accept in flight holds the socket open; shut down, it refuses.
                        let _ = fd.shutdown(Shutdown::Both);
                    }
                    listener.pause();
                    listener.clear_queue(self);
                    let mut waiters = std::mem::take(&mut listener.waiters);
                    waiters.append(&mut listener.end_waiters);
                    Some(waiters)
                })
            });
            waiters.flatten().flatten().into_iter().flatten().for_each(|(_, waker)| wake(waker));
            LISTENERS.try_with(|listeners| listeners.retire(self));
        });
    }

    /// Closes; the slot goes once its last connection has.
    pub(crate) fn release(self) {
        self.close();
        self.home.run_at_home(move || {
            LISTENERS.try_with(|listeners| {
                listeners.with(self, |listener| listener.dropped = true);
                listeners.retire(self);
            });
        });
    }

    pub(crate) fn connection_came(self) {
        let _ = self.with(|listener| listener.active += 1);
    }

    pub(crate) fn connection_gone(self) {
        let waiters = self.with(|listener| {
            listener.active = listener.active.saturating_sub(1);
            if let Some(shared) = &listener.shared {
                shared.connection_gone();
            }
            std::mem::take(&mut listener.end_waiters)
        });
        waiters.into_iter().flatten().for_each(|(_, waker)| wake(waker));
        LISTENERS.try_with(|listeners| listeners.retire(self));
        descriptor_freed();
    }

    /// Connections that live.
    pub(crate) fn active(self) -> usize {
        self.with(|listener| listener.active).unwrap_or(0)
    }

    /// Waits until `done` of (open, connections alive).
    pub(crate) async fn wait_until(self, done: impl Fn(bool, usize) -> bool) {
        let mut waiter = EndWaiter { key: self, waiter: None };
        std::future::poll_fn(|cx| waiter.poll(cx, &done)).await;
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the listener is closed")
}

fn next_waiter() -> u64 {
    LISTENERS.with(|listeners| listeners.next_waiter.replace(listeners.next_waiter.get() + 1))
}

/// Keeps `waker` under `id` in a list of waiters. What it replaces takes its place: to be dropped while nothing is
/// borrowed, as its destructor is foreign code.
fn remember(waiters: &mut Vec<(u64, Waker)>, id: u64, waker: &mut Option<Waker>) {
    match (waiters.iter_mut().find(|(known, _)| *known == id), &mut *waker) {
        (Some((_, known)), Some(waker)) => std::mem::swap(known, waker),
        _ => waiters.extend(waker.take().map(|waker| (id, waker))),
    }
}

/// Takes whom `id` names out of a list of waiters.
fn forget(waiters: &mut Vec<(u64, Waker)>, id: u64) -> Option<Waker> {
    let place = waiters.iter().position(|(known, _)| *known == id)?;
    Some(waiters.remove(place).1)
}

/// Takes a connection from the queue, or waits for one. Dropped, it takes nothing.
#[derive(Debug)]
pub(crate) struct NextConnection {
    key: ListenerKey,
    waiter: Option<u64>,
}

impl Future for NextConnection {
    type Output = io::Result<Fd>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Fd>> {
        if budget::is_used_up(cx) {
            return Poll::Pending;
        }
        let key = self.key;
        let id = match self.waiter {
            Some(id) => id,
            None if key.home.is_current() => *self.waiter.insert(next_waiter()),
            None => 0,
        };
        let mut waker = Some(cx.waker().clone());
        let polled = key.with(|listener| {
            if let Some(queued) = listener.queue.pop_front() {
                budget::spend(1);
                listener.arm(key);
                return Poll::Ready(Ok(queued));
            }
            if listener.fd.is_none() {
                return Poll::Ready(Err(closed()));
            }
            if let Some(errno) = listener.failed {
                return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
            }
            remember(&mut listener.waiters, id, &mut waker);
            Poll::Pending
        });
        polled.unwrap_or_else(|e| Poll::Ready(Err(e))).map_ok(|queued| queued.fd)
    }
}

impl Drop for NextConnection {
    fn drop(&mut self) {
        let Some(id) = self.waiter else { return };
        let key = self.key;
        key.home.run_at_home(move || {
            drop(key.with(|listener| forget(&mut listener.waiters, id)));
        });
    }
}

struct EndWaiter {
    key: ListenerKey,
    waiter: Option<u64>,
}

impl EndWaiter {
    fn poll(&mut self, cx: &mut Context<'_>, done: &impl Fn(bool, usize) -> bool) -> Poll<()> {
        if !self.key.home.is_current() {
            return Poll::Ready(());
        }
        let id = *self.waiter.get_or_insert_with(next_waiter);
        let mut waker = Some(cx.waker().clone());
        let waiting = self.key.with(|listener| {
            let waiting = !done(listener.fd.is_some(), listener.active);
            if waiting {
                remember(&mut listener.end_waiters, id, &mut waker);
            }
            waiting
        });
        if waiting.unwrap_or(false) { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for EndWaiter {
    fn drop(&mut self) {
        let Some(id) = self.waiter else { return };
        let key = self.key;
        key.home.run_at_home(move || {
            drop(key.with(|listener| forget(&mut listener.end_waiters, id)));
        });
    }
}
