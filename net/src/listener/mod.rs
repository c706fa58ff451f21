//! Listeners: each has the kernel accept, and keeps what has come in a bounded queue until somebody takes it.
//!
//! | file | holds |
//! |---|---|
//! | `accepting` | which accepts are armed, and when there is a pause |
//! | `facts` | what any thread may know of a listener |
//! | `key` | names of listeners |
//! | `waiters` | lists of those who wait |
//! | `waiting` | the futures of those who wait for a connection, or for the end |
//!
//! A future that accepts only waits for the queue, so dropping one loses no connection. A server takes what was
//! accepted also after its close: whoever was accepted has its handler.

mod accepting;
mod facts;
mod key;
mod waiters;
mod waiting;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    net::{Shutdown, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
    task::Waker,
};

use accepting::{Accepting, Fault};
use corio_runtime::{
    ExceptionContext, Handle, call_exception_handler, call_later,
    fd::Fd,
    handle,
    op::{Done, Operation, Sqe},
    service::{LoopLocal, Service},
    wake,
};
pub(crate) use facts::{Facts, QUEUE_MAX};
pub(crate) use key::{ListenerKey, LocalListener};
pub(crate) use waiters::Progress;
use waiters::Waiters;

use crate::{
    balance::{Membership, Waiting},
    ops::Accept,
    streams::Addrs,
};

static LISTENERS: LoopLocal<Listeners> = LoopLocal::new(Listeners::new);

#[derive(Debug)]
struct Listener {
    fd: Option<Fd>,
    accepting: Accepting,
    queue: VecDeque<Accepted>,
    waiters: Waiters,
    /// An error that ended the accepting.
    failed: Option<i32>,
    facts: Arc<Facts>,
    /// Connections of a server that live or whose handler runs: each has a place.
    places: usize,
    handlers: usize,
    /// Who waits for the end of the listener and its connections.
    end_waiters: Waiters,
    /// Of several cores: who shares the connections.
    shared: Option<Membership>,
    /// Whether it accepts, and does not only get what another core accepts.
    accepts: bool,
    /// Whether a server's task takes what comes, also after the close.
    served: bool,
    /// The handle is gone.
    dropped: bool,
}

/// A connection that nobody has taken.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) fd: Fd,
    /// As it was when the connection was accepted.
    pub(crate) peer: Option<SocketAddr>,
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
    /// Listeners that pause for want of descriptors: a freed one ends that.
    starved: Cell<usize>,
}

const NONE: u32 = u32::MAX;

impl Service for Listeners {
    fn close(&self) {
        let mut places = std::mem::take(&mut *self.places.borrow_mut());
        self.free.set(NONE);
        // Those that outlive their loop end as if they were dropped.
        for (slot, (generation, place)) in places.iter_mut().enumerate() {
            let Place::Taken(listener) = place else { continue };
            let key = ListenerKey { home: self.home, slot: slot as u32, generation: *generation };
            if listener.fd.is_some() {
                listener.facts.close();
                listener.leave(key);
            }
            listener.clear_queue(key);
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
            starved: Cell::new(0),
        }
    }

    fn insert(&self, listener: Listener) -> ListenerKey {
        let listener = Place::Taken(Box::new(listener));
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
        let unused = self.with(key, |l| l.dropped && !l.served && l.has_ended() && l.places == 0);
        if unused == Some(true) {
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
    fn new(fd: Fd, facts: Arc<Facts>, accepts: bool) -> Listener {
        Listener {
            fd: Some(fd),
            accepting: Accepting::new(),
            queue: VecDeque::new(),
            waiters: Waiters::default(),
            failed: None,
            facts,
            places: 0,
            handlers: 0,
            end_waiters: Waiters::default(),
            shared: None,
            accepts,
            served: false,
            dropped: false,
        }
    }

    /// The group of several cores of which one accepts for all.
    fn group(&self) -> Option<&Membership> {
        self.shared.as_ref().filter(|shared| shared.hands_over())
    }

    /// Arms as many accepts as there is room for; the first one is `spare`, if there is one.
    fn arm(&mut self, key: ListenerKey, mut spare: Option<Box<Accept>>) {
        while self.accepts && self.failed.is_none() && self.accepting.may_arm() && self.has_room() {
            let Some(fd) = &self.fd else { return };
            self.accepting.arm(fd, key, spare.take());
            if let Some(group) = self.group() {
                group.accept_armed();
            }
        }
    }

    /// Whether one more connection has room, beside those that the accepts in flight may bring.
    fn has_room(&self) -> bool {
        if let Some(group) = self.group() {
            return group.has_room();
        }
        let expected = self.queue.len() + self.accepting.in_flight();
        expected < QUEUE_MAX.min(self.facts.max.saturating_sub(self.places))
    }

    /// The connection that is to be taken next, if one may be.
    fn next(&mut self, key: ListenerKey) -> Option<Accepted> {
        if self.places >= self.facts.max {
            return None;
        }
        let accepted = self.queue.pop_front()?;
        // At once, or an accept would be armed for it.
        self.places += usize::from(self.served);
        self.arm(key, None);
        Some(accepted)
    }

    fn arrived(&mut self, fd: Fd, peer: Option<SocketAddr>, key: ListenerKey) {
        self.accepting.succeeded();
        match self.group().cloned() {
            Some(group) => {
                let accepted = Accepted { fd, peer, waits: Some(group.waits()) };
                if let Some(left) = share(&group, accepted, key, &mut self.queue) {
                    self.keep(left);
                }
            }
            None => self.keep(Accepted { fd, peer, waits: None }),
        }
    }

    /// Keeps a connection until it is taken; if nobody will, it is reset.
    fn keep(&mut self, accepted: Accepted) {
        if self.fd.is_some() || self.served {
            self.queue.push_back(accepted);
        } else {
            accepted.refuse();
        }
    }

    /// An accept has ended; the report, if one is due.
    fn accept_ended(
        &mut self,
        accept: Box<Accept>,
        done: Done,
        key: ListenerKey,
    ) -> Option<ExceptionContext> {
        self.accepting.ended(accept.number);
        let report = match (done.errno(), done.into_fd()) {
            (None, Ok(fd)) => {
                self.arrived(fd, accept.peer.get(), key);
                None
            }
            (errno, _) => errno.and_then(|errno| self.accept_failed(errno, key)),
        };
        if let Some(group) = self.group() {
            group.accept_ended();
        }
        if self.fd.is_some() {
            self.arm(key, Some(accept));
        } else if let Some(group) = self.group() {
            // Who accepts now may have found that it had no room beside this one.
            group.accept_gone();
        }
        report
    }

    fn accept_failed(&mut self, errno: i32, key: ListenerKey) -> Option<ExceptionContext> {
        // Closed, it may end in any way.
        self.fd.as_ref()?;
        match self.accepting.failed(errno) {
            Fault::Connection => None,
            // Whoever accepts is told.
            Fault::Socket => {
                self.failed = Some(errno);
                None
            }
            Fault::Resources => self.pause(key, errno, true),
            Fault::Other => self.pause(key, errno, false),
        }
    }

    fn pause(&mut self, key: ListenerKey, errno: i32, for_resources: bool) -> Option<ExceptionContext> {
        if self.accepting.is_paused() {
            return None;
        }
        let pause = self.accepting.backoff();
        let due = self.accepting.pause(call_later(pause, move || resume(key)), for_resources);
        LISTENERS
            .with(|listeners| listeners.starved.set(listeners.starved.get() + usize::from(for_resources)));
        due.then(|| {
            let what = if for_resources { "is out of resources" } else { "fails" };
            let (addr, pause) = (self.facts.addr(), pause.as_millis());
            let text = format!("accept() {what} on {addr}; the listener pauses for {pause} ms");
            ExceptionContext::new(text).with_error(io::Error::from_raw_os_error(errno))
        })
    }

    fn resume(&mut self, listeners: &Listeners) {
        let starved = self.accepting.is_paused_for_resources();
        if self.accepting.resume() {
            listeners.starved.set(listeners.starved.get() - usize::from(starved));
        }
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

    /// Leaves what nobody has taken to another core, or resets it; how many it reset.
    fn clear_queue(&mut self, key: ListenerKey) -> usize {
        let mut reset = 0;
        for accepted in std::mem::take(&mut self.queue) {
            let left = match self.group().cloned() {
                Some(group) => share(&group, accepted, key, &mut self.queue),
                None => Some(accepted),
            };
            reset += left.map(Accepted::refuse).into_iter().count();
        }
        reset
    }

    /// Closed, with nothing more to come or to be taken.
    fn has_ended(&self) -> bool {
        self.fd.is_none() && self.queue.is_empty() && self.accepting.in_flight() == 0
    }

    fn progress(&self) -> Progress {
        Progress {
            open: self.fd.is_some(),
            accepts: self.accepting.in_flight(),
            queued: self.queue.len(),
            connections: self.facts.connections(),
            handlers: self.handlers,
        }
    }
}

impl Accepted {
    /// The addresses of a connection that came to this listener.
    pub(crate) fn addrs(&self, facts: &Facts) -> Addrs {
        // One that listens on a single address needs not ask for it.
        let any = facts.addr().ip().is_unspecified();
        let local = if any { self.fd.local_addr().ok() } else { Some(facts.addr()) };
        Addrs::new(self.peer, local)
    }

    /// Resets it: its peer learns that nobody has seen its request.
    fn refuse(self) {
        let _ = self.fd.reset_on_close();
    }
}

/// Gives a connection to the core that has the fewest: to `queue`, if that is this one. Gives it back if all close.
fn share(
    group: &Membership,
    accepted: Accepted,
    own: ListenerKey,
    queue: &mut VecDeque<Accepted>,
) -> Option<Accepted> {
    match group.least_loaded() {
        Some(key) if key == own => queue.push_back(accepted),
        Some(key) => {
            let Accepted { fd, peer, waits } = accepted;
            if let Ok(fd) = fd.try_into_owned() {
                // In a turn of its own, also on this loop. One that has ended meanwhile closes it.
                let group = group.clone();
                let _ = key.home.call_soon_threadsafe(move || key.take_over(fd, peer, waits, &group));
            }
        }
        None => return Some(accepted),
    }
    None
}

/// The pause is over.
fn resume(key: ListenerKey) {
    LISTENERS.with(|listeners| {
        listeners.with(key, |listener| {
            listener.resume(listeners);
            listener.arm(key, None);
        });
    });
}

/// A descriptor was freed on this loop: listeners that ran out of them try again.
pub(crate) fn descriptor_freed() {
    LISTENERS.try_with(|listeners| {
        if listeners.starved.get() == 0 {
            return;
        }
        let count = listeners.places.borrow().len();
        for slot in 0..count {
            let generation = listeners.places.borrow()[slot].0;
            let key = ListenerKey { home: listeners.home, slot: slot as u32, generation };
            listeners.with(key, |listener| {
                if listener.accepting.is_paused_for_resources() {
                    listener.resume(listeners);
                    listener.arm(key, None);
                }
            });
        }
    });
}

impl ListenerKey {
    /// A new listener on `fd` for at most `max` connections at once. It accepts from `begin` on; or, with `accepts`
    /// off, gets the connections that another core accepts on the same socket.
    pub(crate) fn new(fd: Fd, max: usize, accepts: bool) -> io::Result<(ListenerKey, Arc<Facts>)> {
        let facts = Arc::new(Facts::new(fd.local_addr()?, max));
        let listener = Listener::new(fd, Arc::clone(&facts), accepts);
        Ok((LISTENERS.with(|listeners| listeners.insert(listener)), facts))
    }

    /// From now on the connections are shared.
    pub(crate) fn share(self, shared: Membership) {
        let _ = self.with(|listener| listener.shared = Some(shared));
    }

    /// Begins to accept.
    pub(crate) fn begin(self) {
        let _ = self.with(|listener| listener.arm(self, None));
    }

    /// Another core has accepted a connection for this one.
    fn take_over(self, fd: OwnedFd, peer: Option<SocketAddr>, waits: Option<Waiting>, group: &Membership) {
        let mut arrived = Some(Accepted { fd: fd.into(), peer, waits });
        self.update(|listener| {
            if listener.fd.is_some() {
                listener.queue.extend(arrived.take());
            }
        });
        // Closed meanwhile: it is another one's, and never this one's again, unless there is no other.
        let left = arrived.and_then(|accepted| share(group, accepted, self, &mut VecDeque::new()));
        if let Some(left) = left {
            self.update(|listener| listener.keep(left));
        }
    }

    /// The core that accepted does so no more, or had no room.
    pub(crate) fn accept_from_now_on(self) {
        let _ = self.home.call_soon_threadsafe(move || {
            let _ = self.with(|listener| {
                listener.accepts = true;
                listener.arm(self, None);
            });
        });
    }

    fn accept_ended(self, accept: Box<Accept>, done: Done) {
        let mut done = Some(done);
        let report = self.update(|listener| listener.accept_ended(accept, done.take()?, self)).flatten();
        // Its listener went with the loop: nobody takes what came.
        if let Some(Ok(fd)) = done.map(Done::into_fd) {
            let _ = fd.reset_on_close();
        }
        if let Some(context) = report {
            call_exception_handler(&context);
        }
        LISTENERS.with(|listeners| listeners.retire(self));
    }

    /// Runs `f`, then wakes whom it concerns.
    fn update<R>(self, f: impl FnOnce(&mut Listener) -> R) -> Option<R> {
        let (value, waiters, end_waiters) = LISTENERS.with(|listeners| {
            listeners.with(self, |listener| {
                let value = f(listener);
                let news = !listener.queue.is_empty() || listener.failed.is_some() || listener.fd.is_none();
                let waiters = if news { listener.waiters.take() } else { Vec::new() };
                let ends = if listener.fd.is_none() { listener.end_waiters.take() } else { Vec::new() };
                (value, waiters, ends)
            })
        })?;
        wake_all(waiters);
        wake_all(end_waiters);
        Some(value)
    }

    fn with<R>(self, f: impl FnOnce(&mut Listener) -> R) -> io::Result<R> {
        let found = LISTENERS.try_with(|listeners| listeners.with(self, f)).flatten();
        found.ok_or_else(|| {
            if self.home.is_current() {
                facts::closed()
            } else {
                io::Error::other("the listener is attached to a different loop")
            }
        })
    }

    /// Refuses new connections from now on, synchronously. Those in the queue are a server's to handle; without one
    /// they are reset.
    pub(crate) fn close(self) {
        self.home.run_at_home(move || {
            let closed = LISTENERS.try_with(|listeners| {
                listeners.with(self, |listener| {
                    let fd = listener.fd.take()?;
                    listener.facts.close();
                    listener.resume(listeners);
                    if !listener.leave(self) {
                        // The accepts in flight hold the socket open; shut down, it refuses.
                        let _ = fd.shutdown(Shutdown::Both);
                    }
                    listener.accepting.cancel();
                    if !listener.served {
                        listener.clear_queue(self);
                    }
                    Some((listener.waiters.take(), listener.end_waiters.take()))
                })
            });
            if let Some((waiters, end_waiters)) = closed.flatten().flatten() {
                wake_all(waiters);
                wake_all(end_waiters);
            }
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

    /// A server's task takes what comes.
    pub(crate) fn serve(self) {
        let _ = self.with(|listener| listener.served = true);
    }

    /// The server's task has ended. Whether that leaves the listener open, which it then is no more; and how many
    /// connections it resets, as nobody will take them.
    pub(crate) fn serve_no_more(self) -> (bool, usize) {
        let was_open = self.progress().is_some_and(|progress| progress.open);
        self.close();
        let reset = self.update(|listener| {
            listener.served = false;
            listener.clear_queue(self)
        });
        LISTENERS.try_with(|listeners| listeners.retire(self));
        (was_open, reset.unwrap_or(0))
    }

    /// Resets what was accepted and has no handler yet; how many connections that is.
    pub(crate) fn cut_queue(self) -> usize {
        self.update(|listener| std::mem::take(&mut listener.queue).into_iter().map(Accepted::refuse).count())
            .unwrap_or(0)
    }

    /// A connection that was taken begins, and its handler: they share its place.
    pub(crate) fn connection_came(self) {
        let _ = self.with(|listener| {
            listener.handlers += 1;
            listener.facts.connection_came();
        });
    }

    /// A connection has ended; with its handler still running its place is taken.
    pub(crate) fn connection_gone(self, handled: bool) {
        self.gone(!handled, |listener| listener.facts.connection_gone());
        descriptor_freed();
    }

    /// A handler has ended; with its connection still alive its place is taken.
    pub(crate) fn handler_gone(self, connected: bool) {
        self.gone(!connected, |listener| listener.handlers = listener.handlers.saturating_sub(1));
    }

    fn gone(self, place: bool, count: impl FnOnce(&mut Listener)) {
        let ends = self.update(|listener| {
            count(listener);
            if place {
                listener.places = listener.places.saturating_sub(1);
                if let Some(shared) = &listener.shared {
                    shared.place_freed();
                }
                listener.arm(self, None);
            }
            listener.end_waiters.take()
        });
        wake_all(ends.unwrap_or_default());
        LISTENERS.try_with(|listeners| listeners.retire(self));
    }

    /// Places that are taken.
    pub(crate) fn places(self) -> usize {
        self.with(|listener| listener.places).unwrap_or(0)
    }

    pub(crate) fn progress(self) -> Option<Progress> {
        self.with(|listener| listener.progress()).ok()
    }
}

impl Operation for Accept {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        self.entry()
    }

    fn complete(self: Box<Self>, done: Done) {
        self.listener.accept_ended(self, done);
    }
}

fn wake_all(waiters: Vec<(u64, Waker)>) {
    waiters.into_iter().for_each(|(_, waker)| wake(waker));
}
