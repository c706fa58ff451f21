//! Listeners: each keeps accepts armed, and queues the connections, within a bound, until they are taken.
//!
//! | file | holds |
//! |---|---|
//! | `accepting` | which accepts are armed; backoff after errors |
//! | `facts` | what any thread may read of a listener |
//! | `key` | names of listeners |
//! | `life` | start, places of connections, close |
//! | `waiters` | lists of waiting tasks |
//! | `waiting` | the futures that wait for a connection, or for the end |
//!
//! An accepting future only waits for the queue, so dropping it loses no connection. A server takes accepted
//! connections also after its close: each of them gets its handler.

mod accepting;
mod facts;
mod key;
mod life;
mod waiters;
mod waiting;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::Arc,
    task::{Poll, Waker},
};

use accepting::{Accepting, Fault};
use corio_runtime::{
    ExceptionContext, Handle, budget, call_exception_handler, call_later,
    fd::Fd,
    handle,
    op::{Done, Operation, Sqe},
    service::{LoopLocal, Service, tidy_later},
    slab::{Held, Slab},
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
    /// The error that ended the accepting.
    failed: Option<i32>,
    facts: Arc<Facts>,
    /// Places taken. A connection of a server and its handler share one place, until both have ended.
    places: usize,
    handlers: usize,
    /// Tasks that wait for the end of the listener and its connections.
    end_waiters: Waiters,
    /// With several cores: the group that shares the connections.
    shared: Option<Membership>,
    /// Whether it accepts; otherwise it only gets connections that another core accepts.
    accepts: bool,
    /// The socket is bound and does not listen yet: the backlog that it will listen with.
    idle: Option<u32>,
    /// Whether a server's task takes the connections, also after the close.
    served: bool,
    /// The handle was dropped.
    dropped: bool,
}

/// An accepted connection that nobody has taken yet.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) fd: Fd,
    /// The peer's address, as of the accept.
    pub(crate) peer: Option<SocketAddr>,
    /// With several cores: counts it in `Group::waiting`.
    waits: Option<Waiting>,
}

struct Listeners {
    home: Handle,
    slots: RefCell<Slab<Held<Box<Listener>>>>,
    next_waiter: Cell<u64>,
    /// Listeners that pause for lack of descriptors: a freed one ends the pause.
    starved: Cell<usize>,
}

impl Service for Listeners {
    fn tidy(&self) -> bool {
        self.slots.borrow_mut().shrink();
        false
    }

    fn bytes(&self) -> usize {
        let slots = self.slots.borrow();
        let bytes = |l: &Listener| size_of::<Listener>() + l.queue.capacity() * size_of::<Accepted>();
        slots.bytes() + slots.values().map(|(_, listener)| bytes(listener)).sum::<usize>()
    }

    fn close(&self) {
        let mut slots = self.slots.borrow_mut().take_all();
        // A listener that outlives its loop ends as if dropped.
        for (key, listener) in slots.values_mut() {
            let key = ListenerKey::of(self.home, key);
            if listener.fd.is_some() {
                listener.facts.close();
                listener.leave(key);
            }
            listener.clear_queue(key);
        }
        drop(slots);
    }
}

impl Listeners {
    fn new() -> Listeners {
        Listeners {
            home: handle(),
            slots: RefCell::new(Slab::new(tidy_later)),
            next_waiter: Cell::new(0),
            starved: Cell::new(0),
        }
    }

    fn insert(&self, listener: Listener) -> ListenerKey {
        ListenerKey::of(self.home, self.slots.borrow_mut().insert(Box::new(listener)))
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
            idle: None,
            served: false,
            dropped: false,
        }
    }

    /// The group in which one core accepts for all, if it is in one.
    fn group(&self) -> Option<&Membership> {
        self.shared.as_ref().filter(|shared| shared.hands_over())
    }

    /// Arms as many accepts as there is room for. The first one reuses `spare`.
    fn arm(&mut self, key: ListenerKey, mut spare: Option<Box<Accept>>) {
        let begun = self.accepts && self.idle.is_none();
        while begun && self.failed.is_none() && self.accepting.may_arm() && self.has_room() {
            let Some(fd) = &self.fd else { return };
            self.accepting.arm(fd, key, spare.take());
            if let Some(group) = self.group() {
                group.accept_armed();
            }
        }
    }

    /// Listens, if the socket does not yet, and accepts.
    fn begin(&mut self, key: ListenerKey) -> io::Result<()> {
        let fd = self.fd.as_ref().ok_or_else(facts::closed)?;
        if let Some(backlog) = self.idle {
            fd.listen(backlog)?;
            self.idle = None;
            self.facts.set_idle(false);
        }
        self.arm(key, None);
        Ok(())
    }

    /// Whether there is room for one more connection, after those that the armed accepts may bring.
    fn has_room(&self) -> bool {
        if let Some(group) = self.group() {
            return group.has_room();
        }
        let expected = self.queue.len() + self.accepting.in_flight();
        expected < QUEUE_MAX.min(self.facts.max.saturating_sub(self.places))
    }

    /// The next connection to take, or the reason why none will come.
    fn poll_next(&mut self, key: ListenerKey) -> Poll<io::Result<Accepted>> {
        if let Some(accepted) = self.next(key) {
            budget::spend(1);
            return Poll::Ready(Ok(accepted));
        }
        if self.has_ended() {
            return Poll::Ready(Err(facts::closed()));
        }
        match self.failed {
            Some(errno) if self.queue.is_empty() => Poll::Ready(Err(io::Error::from_raw_os_error(errno))),
            _ => Poll::Pending,
        }
    }

    /// The next connection to take, if the limit allows one.
    fn next(&mut self, key: ListenerKey) -> Option<Accepted> {
        if self.places >= self.facts.max {
            return None;
        }
        let accepted = self.queue.pop_front()?;
        // Counted before `arm`, which would else arm an accept for this place.
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

    /// Queues a connection; resets it if nobody will take it.
    fn keep(&mut self, accepted: Accepted) {
        if self.fd.is_some() || self.served {
            self.queue.push_back(accepted);
        } else {
            accepted.refuse();
        }
    }

    /// An accept has completed. Returns a report, if one is due.
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
            // The core that accepts now may have counted this accept and found no room.
            group.accept_gone();
        }
        report
    }

    fn accept_failed(&mut self, errno: i32, key: ListenerKey) -> Option<ExceptionContext> {
        // After the close any error is fine.
        self.fd.as_ref()?;
        match self.accepting.failed(errno) {
            Fault::Connection => None,
            // `poll_next` reports it.
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
        let due = self.accepting.pause(call_later(pause, move || key.resume()), for_resources);
        LISTENERS.with(|listeners| listeners.starved.update(|n| n + usize::from(for_resources)));
        due.then(|| {
            let what = if for_resources { "is out of resources" } else { "fails" };
            let (addr, pause) = (self.facts.addr(), pause.as_millis());
            let text = format!("accept() {what} on {addr}; the listener pauses for {pause} ms");
            ExceptionContext::new(text).with_error(io::Error::from_raw_os_error(errno))
        })
    }

    fn resume(&mut self) {
        let starved = self.accepting.is_paused_for_resources();
        if self.accepting.resume() {
            LISTENERS.with(|listeners| listeners.starved.update(|n| n - usize::from(starved)));
        }
    }

    /// Leaves the group of servers. Whether others keep using the socket.
    fn leave(&self, key: ListenerKey) -> bool {
        let Some(shared) = &self.shared else { return false };
        let (others, next) = shared.leave(key);
        // If `next` closes before it accepts, it passes this on.
        if let Some(next) = next {
            next.accept_from_now_on();
        }
        others
    }

    /// Hands the queue over to other cores, or resets the connections; returns how many were reset.
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

    /// Whether it is closed, with no accept in flight and an empty queue.
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
    /// The addresses of a connection that this listener accepted.
    pub(crate) fn addrs(&self, facts: &Facts) -> Addrs {
        // A listener on a single address need not ask the kernel.
        let any = facts.addr().ip().is_unspecified();
        let local = if any { self.fd.local_addr().ok() } else { Some(facts.addr()) };
        Addrs::new(self.peer, local)
    }

    /// Resets the connection, so that the peer knows that no request was read.
    fn refuse(self) {
        let _ = self.fd.reset_on_close();
    }
}

/// Gives a connection to the core with the fewest: to `queue`, if that is this core. Returns it if all servers close.
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
                // In a later turn, also on this loop. If that loop has ended, the connection is closed.
                let group = group.clone();
                let _ = key.home.call_soon_threadsafe(move || key.take_over(fd, peer, waits, &group));
            }
        }
        None => return Some(accepted),
    }
    None
}

impl ListenerKey {
    /// Takes a connection that another core accepted.
    fn take_over(self, fd: OwnedFd, peer: Option<SocketAddr>, waits: Option<Waiting>, group: &Membership) {
        let mut arrived = Some(Accepted { fd: fd.into(), peer, waits });
        self.update(|listener| {
            if listener.fd.is_some() {
                listener.queue.extend(arrived.take());
            }
        });
        // This listener has closed meanwhile: another one gets the connection, or if there is none, this one keeps it.
        let left = arrived.and_then(|accepted| share(group, accepted, self, &mut VecDeque::new()));
        if let Some(left) = left {
            self.update(|listener| listener.keep(left));
        }
    }

    /// Starts to accept here: the core that accepted has closed, or had no room.
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
        // The listener ended with its loop: nobody takes the connection.
        if let Some(Ok(fd)) = done.map(Done::into_fd) {
            let _ = fd.reset_on_close();
        }
        if let Some(context) = report {
            call_exception_handler(&context);
        }
        self.retire();
    }

    /// The pause has ended.
    fn resume(self) {
        let _ = self.with(|listener| {
            listener.resume();
            listener.arm(self, None);
        });
    }

    /// Frees the slot of a listener that nothing refers to any more.
    fn retire(self) {
        let unused = self.with(|l| l.dropped && !l.served && l.has_ended() && l.places == 0);
        if let Ok(true) = unused {
            let old = LISTENERS.with(|listeners| listeners.slots.borrow_mut().remove(self.local));
            drop(old);
        }
    }

    /// Runs `f`, then wakes the tasks that its changes concern.
    fn update<R>(self, f: impl FnOnce(&mut Listener) -> R) -> Option<R> {
        let updated = self.with(|listener| {
            let value = f(listener);
            let news = !listener.queue.is_empty() || listener.failed.is_some() || listener.fd.is_none();
            let waiters = if news { listener.waiters.take() } else { Vec::new() };
            let ends = if listener.fd.is_none() { listener.end_waiters.take() } else { Vec::new() };
            (value, waiters, ends)
        });
        let (value, waiters, end_waiters) = updated.ok()?;
        wake_all(waiters);
        wake_all(end_waiters);
        Some(value)
    }

    fn with<R>(self, f: impl FnOnce(&mut Listener) -> R) -> io::Result<R> {
        let found = LISTENERS.try_with(|listeners| {
            if listeners.home != self.home {
                return None;
            }
            Some(f(listeners.slots.borrow_mut().find(self.local)?))
        });
        found.flatten().ok_or_else(|| {
            if self.home.is_current() {
                facts::closed()
            } else {
                io::Error::other("the listener is attached to a different loop")
            }
        })
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
