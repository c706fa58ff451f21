//! The servers of one address on several cores: which of them have room, and which gets the next connection.

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

/// How the cores that serve one address share its connections
/// ([`ServerBuilder::balance`](crate::ServerBuilder::balance)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Balance {
    /// The kernel picks the core by a hash of the peer's address (`SO_REUSEPORT`); the cores share nothing. Fair on
    /// average: of a few dozen connections, one core may get nearly twice its share.
    Hash,
    /// One core accepts, and hands each connection to the core with the fewest. For few or long-lived connections. If
    /// that core's server closes, the next core accepts; while a task keeps that core busy, new connections wait. No
    /// more are accepted than all servers together may handle.
    LeastConnections,
}

/// The servers of one address, one per core.
#[derive(Debug)]
pub(super) struct Group {
    /// The group's first loop, and the address that the servers asked for.
    pub(super) asked: (Handle, SocketAddr),
    pub(super) balance: Balance,
    /// The bound address, with the port chosen for port 0.
    pub(super) addr: SocketAddr,
    /// The socket, if one core accepts for all.
    pub(super) socket: Option<OwnedFd>,
    /// The members; the first one accepts, or will.
    pub(super) seats: Mutex<Vec<Seat>>,
    /// Where the next search for the least loaded begins, so that equals take turns.
    pub(super) turn: AtomicUsize,
    /// Accepted connections that no server has taken yet.
    pub(super) waiting: AtomicUsize,
    /// Armed accepts: each may bring a connection.
    pub(super) armed: AtomicUsize,
    /// The accepting core found no room and must be told when there is some.
    pub(super) full: AtomicBool,
}

/// A member of the group.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) listener: ListenerKey,
    pub(super) facts: Arc<Facts>,
    /// Makes its listener accept from now on.
    pub(super) accept: fn(ListenerKey),
}

pub(super) static GROUPS: Mutex<Vec<Arc<Group>>> = Mutex::new(Vec::new());

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Group {
    /// Whether there is room for one more connection, after the queued ones and those that the armed accepts may bring.
    fn has_room(&self) -> bool {
        let armed = self.armed.load(Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst).saturating_add(armed) >= QUEUE_MAX {
            return false;
        }
        let seats = lock(&self.seats);
        let room = seats.iter().fold(0_usize, |room, seat| room.saturating_add(seat.facts.room()));
        room > armed
    }

    /// There may be room now: tells the accepting core, if it found none.
    pub(super) fn tell_of_room(&self) {
        if self.full.load(Ordering::SeqCst) && self.has_room() && self.full.swap(false, Ordering::SeqCst) {
            let accepting = lock(&self.seats).first().map(|seat| (seat.accept, seat.listener));
            if let Some((accept, listener)) = accepting {
                accept(listener);
            }
        }
    }
}

/// A server's membership in its group.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    pub(super) group: Arc<Group>,
    pub(super) facts: Arc<Facts>,
}

impl Membership {
    /// Whether one core accepts for all.
    pub(crate) fn hands_over(&self) -> bool {
        self.group.balance == Balance::LeastConnections
    }

    /// Counts a connection that was accepted and not taken yet.
    pub(crate) fn waits(&self) -> Waiting {
        self.group.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(Arc::clone(&self.group))
    }

    /// Whether one more accept may be armed. If not, the accepting core is told when there is room.
    pub(crate) fn has_room(&self) -> bool {
        if self.group.has_room() {
            return true;
        }
        self.group.full.store(true, Ordering::SeqCst);
        // Check again: room that appeared before the store was reported to nobody.
        self.group.has_room()
    }

    pub(crate) fn accept_armed(&self) {
        self.group.armed.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn accept_ended(&self) {
        self.group.armed.fetch_sub(1, Ordering::SeqCst);
    }

    /// An accept of a server that has left completed.
    pub(crate) fn accept_gone(&self) {
        self.group.tell_of_room();
    }

    /// The server that gets the next connection: the one with the fewest, of those with room.
    pub(crate) fn least_loaded(&self) -> Option<ListenerKey> {
        let seats = lock(&self.group.seats);
        let first = self.group.turn.fetch_add(1, Ordering::Relaxed) % seats.len().max(1);
        let in_turn = seats[first..].iter().chain(&seats[..first]);
        // All are full if a server has closed since the accept was armed.
        let full = |seat: &Seat| seat.facts.room() == 0;
        let seat = in_turn.min_by_key(|seat| (full(seat), seat.facts.load.load(Ordering::SeqCst)))?;
        seat.facts.load.fetch_add(1, Ordering::SeqCst);
        Some(seat.listener)
    }

    /// A place of this server was freed.
    pub(crate) fn place_freed(&self) {
        if self.hands_over() {
            self.facts.load.fetch_sub(1, Ordering::SeqCst);
            self.group.tell_of_room();
        }
    }

    /// The server closes. Returns whether others keep using the socket, and which one must start to accept.
    pub(crate) fn leave(&self, listener: ListenerKey) -> (bool, Option<ListenerKey>) {
        // Lock order: as in `join`.
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

/// Counts a connection until a server takes it.
#[derive(Debug)]
pub(crate) struct Waiting(Arc<Group>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::SeqCst) <= QUEUE_MAX / 2 {
            self.0.tell_of_room();
        }
    }
}
