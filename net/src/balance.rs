//! One address on several cores: who gets which connection.

use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use corio_runtime::{Handle, current_core, fd::Fd, handle};

use crate::listener::{Facts, ListenerKey, QUEUE_MAX};

/// How the connections to one address are shared by the cores that serve it, each with a server of its own
/// ([`ServerBuilder::balance`](crate::ServerBuilder::balance)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Balance {
    /// The kernel decides by a hash of the peer's address (`SO_REUSEPORT`): nothing passes between the cores. Fair on
    /// average; of a few dozen connections one core may get nearly twice its share.
    Hash,
    /// One core accepts, and hands each connection to the core that has the fewest: for long-lived connections, or few.
    /// If that core's server closes, the next one accepts; while a task keeps it busy, new connections wait. No more
    /// are accepted than the servers may handle together.
    LeastConnections,
}

/// The servers of one address, one per core.
#[derive(Debug)]
struct Group {
    /// What they asked for, on which cores.
    asked: (Handle, SocketAddr),
    balance: Balance,
    /// What they got: the port that was found for port 0.
    addr: SocketAddr,
    /// The socket that one of them accepts on.
    socket: Option<OwnedFd>,
    /// The first one accepts, or is told to.
    seats: Mutex<Vec<Seat>>,
    /// Where the next look for the least begins, so that equals take turns.
    turn: AtomicUsize,
    /// Connections that were accepted, and that no server has taken.
    waiting: AtomicUsize,
    /// Accepts that are armed: each may bring a connection.
    armed: AtomicUsize,
    /// Whether the one that accepts found no room: it is to be told of some.
    full: AtomicBool,
}

/// A server of the group.
#[derive(Debug)]
struct Seat {
    listener: ListenerKey,
    facts: Arc<Facts>,
}

static GROUPS: Mutex<Vec<Arc<Group>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A listener on `asked` for at most `max` connections at once, beside those of the other cores; `listen` makes a
/// socket.
pub(crate) fn join(
    asked: SocketAddr,
    balance: Balance,
    max: usize,
    listen: impl Fn(SocketAddr) -> io::Result<Fd>,
) -> io::Result<(ListenerKey, Arc<Facts>)> {
    // All cores that were started together; a loop of its own is alone.
    let first = current_core().map_or_else(handle, |core| core.handle(0));
    let mut groups = lock(&GROUPS);
    let known = groups.iter().find(|group| group.asked == (first, asked)).cloned();
    let (group, (listener, facts)) = match known {
        Some(group) => {
            let made = group.listener(balance, max, listen)?;
            (group, made)
        }
        None => {
            let (group, made) = Group::found((first, asked), balance, max, listen)?;
            groups.push(Arc::clone(&group));
            (group, made)
        }
    };
    lock(&group.seats).push(Seat { listener, facts: Arc::clone(&facts) });
    group.tell_of_room();
    listener.share(Membership { group, facts: Arc::clone(&facts) });
    Ok((listener, facts))
}

type Made = (ListenerKey, Arc<Facts>);

impl Group {
    /// The first server's group, and its listener.
    fn found(
        asked: (Handle, SocketAddr),
        balance: Balance,
        max: usize,
        listen: impl Fn(SocketAddr) -> io::Result<Fd>,
    ) -> io::Result<(Arc<Group>, Made)> {
        let fd = listen(asked.1)?;
        let socket = match balance {
            Balance::Hash => None,
            Balance::LeastConnections => Some(fd.borrow_os()?.try_clone_to_owned()?),
        };
        let group = Group {
            asked,
            balance,
            addr: fd.local_addr()?,
            socket,
            seats: Mutex::default(),
            turn: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            armed: AtomicUsize::new(0),
            full: AtomicBool::new(false),
        };
        Ok((Arc::new(group), ListenerKey::new(fd, max, true)?))
    }

    /// A listener for one more server.
    fn listener(
        &self,
        balance: Balance,
        max: usize,
        listen: impl Fn(SocketAddr) -> io::Result<Fd>,
    ) -> io::Result<Made> {
        if balance != self.balance {
            let text = format!("{} is shared by {:?} already, not by {balance:?}", self.addr, self.balance);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        match &self.socket {
            Some(socket) => ListenerKey::new(socket.try_clone()?.into(), max, false),
            None => ListenerKey::new(listen(self.addr)?, max, true),
        }
    }

    /// Whether one more connection has room, beside those that wait and that the accepts in flight may bring.
    fn has_room(&self) -> bool {
        let armed = self.armed.load(Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst).saturating_add(armed) >= QUEUE_MAX {
            return false;
        }
        let seats = lock(&self.seats);
        let room = seats.iter().fold(0_usize, |room, seat| room.saturating_add(seat.facts.room()));
        room > armed
    }

    /// Some room may have come about: the one that accepts is told, if it found none.
    fn tell_of_room(&self) {
        if self.full.load(Ordering::SeqCst) && self.has_room() && self.full.swap(false, Ordering::SeqCst) {
            let accepting = lock(&self.seats).first().map(|seat| seat.listener);
            accepting.into_iter().for_each(ListenerKey::accept_from_now_on);
        }
    }
}

/// A server's part in its group.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    group: Arc<Group>,
    facts: Arc<Facts>,
}

impl Membership {
    /// Whether one server accepts for all.
    pub(crate) fn hands_over(&self) -> bool {
        self.group.balance == Balance::LeastConnections
    }

    /// A connection was accepted.
    pub(crate) fn waits(&self) -> Waiting {
        self.group.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(Arc::clone(&self.group))
    }

    /// Whether one more accept may be armed; if not, the one that accepts is told when it may.
    pub(crate) fn has_room(&self) -> bool {
        if self.group.has_room() {
            return true;
        }
        self.group.full.store(true, Ordering::SeqCst);
        // Room that came about meanwhile was told to nobody.
        self.group.has_room()
    }

    pub(crate) fn accept_armed(&self) {
        self.group.armed.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn accept_ended(&self) {
        self.group.armed.fetch_sub(1, Ordering::SeqCst);
    }

    /// The server with the fewest connections of those that may have more, which gets this one.
    pub(crate) fn least_loaded(&self) -> Option<ListenerKey> {
        let seats = lock(&self.group.seats);
        let first = self.group.turn.fetch_add(1, Ordering::Relaxed) % seats.len().max(1);
        let in_turn = seats[first..].iter().chain(&seats[..first]);
        // None has room if one of them has closed since the accept was armed.
        let full = |seat: &Seat| seat.facts.room() == 0;
        let seat = in_turn.min_by_key(|seat| (full(seat), seat.facts.load.load(Ordering::SeqCst)))?;
        seat.facts.load.fetch_add(1, Ordering::SeqCst);
        Some(seat.listener)
    }

    /// A place of this server is free.
    pub(crate) fn place_freed(&self) {
        if self.hands_over() {
            self.facts.load.fetch_sub(1, Ordering::SeqCst);
            self.group.tell_of_room();
        }
    }

    /// The server closes. Whether others go on with its socket, and which one has to accept from now on.
    pub(crate) fn leave(&self, listener: ListenerKey) -> (bool, Option<ListenerKey>) {
        // In the order of `join`.
        let mut groups = lock(&GROUPS);
        let mut seats = lock(&self.group.seats);
        let accepted = seats.first().is_some_and(|seat| seat.listener == listener);
        seats.retain(|seat| seat.listener != listener);
        let first = seats.first().map(|seat| seat.listener);
        if first.is_none() {
            groups.retain(|group| !Arc::ptr_eq(group, &self.group));
        }
        let others = first.is_some() && self.hands_over();
        (others, first.filter(|_| others && accepted))
    }
}

/// Goes with a connection until a server takes it.
#[derive(Debug)]
pub(crate) struct Waiting(Arc<Group>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::SeqCst) <= QUEUE_MAX / 2 {
            self.0.tell_of_room();
        }
    }
}
