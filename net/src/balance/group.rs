//! The servers of one address on several cores: which have room, and which gets the next connection.

use std::{
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use corio_runtime::Handle;

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
pub(super) struct Group {
    /// What they asked for, on which cores.
    pub(super) asked: (Handle, SocketAddr),
    pub(super) balance: Balance,
    /// What they got: the port that was found for port 0.
    pub(super) addr: SocketAddr,
    /// The socket that one of them accepts on.
    pub(super) socket: Option<OwnedFd>,
    /// The first one accepts, or is told to.
    pub(super) seats: Mutex<Vec<Seat>>,
    /// Where the next look for the least begins, so that equals take turns.
    pub(super) turn: AtomicUsize,
    /// Connections that were accepted, and that no server has taken.
    pub(super) waiting: AtomicUsize,
    /// Accepts that are armed: each may bring a connection.
    pub(super) armed: AtomicUsize,
    /// Whether the one that accepts found no room: it is to be told of some.
    pub(super) full: AtomicBool,
}

/// A server of the group.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) listener: ListenerKey,
    pub(super) facts: Arc<Facts>,
    /// Has its listener accept from now on.
    pub(super) accept: fn(ListenerKey),
}

pub(super) static GROUPS: Mutex<Vec<Arc<Group>>> = Mutex::new(Vec::new());

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Group {
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
    pub(super) fn tell_of_room(&self) {
        if self.full.load(Ordering::SeqCst) && self.has_room() && self.full.swap(false, Ordering::SeqCst) {
            let accepting = lock(&self.seats).first().map(|seat| (seat.accept, seat.listener));
            if let Some((accept, listener)) = accepting {
                accept(listener);
            }
        }
    }
}

/// A server's part in its group.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    pub(super) group: Arc<Group>,
    pub(super) facts: Arc<Facts>,
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

    /// An accept of a server that has left has ended.
    pub(crate) fn accept_gone(&self) {
        self.group.tell_of_room();
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
