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

use crate::listener::{ListenerKey, QUEUE_MAX};

/// How the connections to one address are shared by the cores that serve it, each with a server of its own
/// ([`ServerBuilder::balance`](crate::ServerBuilder::balance)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Balance {
    /// The kernel decides by a hash of the peer's address (`SO_REUSEPORT`): nothing passes between the cores. Fair on
    /// average; of a few dozen connections one core may get nearly twice its share.
    Hash,
    /// One core accepts, and hands each connection to the core that has the fewest: for long-lived connections, or few.
    /// If that core's server closes, the next one accepts; while a task keeps it busy, new connections wait.
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
    /// Whether so many wait that the one that accepts has paused.
    paused: AtomicBool,
}

/// A server of the group.
#[derive(Debug)]
struct Seat {
    listener: ListenerKey,
    /// Connections that it has, or is about to get.
    load: Arc<AtomicUsize>,
}

static GROUPS: Mutex<Vec<Arc<Group>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A listener on `asked`, beside those of the other cores; `listen` makes a socket.
pub(crate) fn join(
    asked: SocketAddr,
    balance: Balance,
    listen: impl Fn(SocketAddr) -> io::Result<Fd>,
) -> io::Result<ListenerKey> {
    // All cores that were started together; a loop of its own is alone.
    let first = current_core().map_or_else(handle, |core| core.handle(0));
    let mut groups = lock(&GROUPS);
    let known = groups.iter().find(|group| group.asked == (first, asked)).cloned();
    let (group, listener) = match known {
        Some(group) => {
            let listener = group.listener(balance, listen)?;
            (group, listener)
        }
        None => {
            let (group, listener) = Group::found((first, asked), balance, listen)?;
            groups.push(Arc::clone(&group));
            (group, listener)
        }
    };
    let load = Arc::new(AtomicUsize::new(0));
    lock(&group.seats).push(Seat { listener, load: Arc::clone(&load) });
    listener.share(Membership { group, load });
    Ok(listener)
}

impl Group {
    /// The first server's group, and its listener.
    fn found(
        asked: (Handle, SocketAddr),
        balance: Balance,
        listen: impl Fn(SocketAddr) -> io::Result<Fd>,
    ) -> io::Result<(Arc<Group>, ListenerKey)> {
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
            paused: AtomicBool::new(false),
        };
        Ok((Arc::new(group), ListenerKey::new(fd)))
    }

    /// A listener for one more server.
    fn listener(
        &self,
        balance: Balance,
        listen: impl Fn(SocketAddr) -> io::Result<Fd>,
    ) -> io::Result<ListenerKey> {
        if balance != self.balance {
            let text = format!("{} is shared by {:?} already, not by {balance:?}", self.addr, self.balance);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        match &self.socket {
            Some(socket) => Ok(ListenerKey::fed(socket.try_clone()?.into())),
            None => listen(self.addr).map(ListenerKey::new),
        }
    }
}

/// A server's part in its group.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    group: Arc<Group>,
    load: Arc<AtomicUsize>,
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

    /// Whether `max` connections wait: then the one that accepts pauses, and is told when to go on.
    pub(crate) fn is_full(&self, max: usize) -> bool {
        let full = || self.group.waiting.load(Ordering::SeqCst) >= max;
        if !full() {
            return false;
        }
        self.group.paused.store(true, Ordering::SeqCst);
        // Those that were taken meanwhile told nobody.
        full()
    }

    /// The server with the fewest connections, which gets one more.
    pub(crate) fn least_loaded(&self) -> Option<ListenerKey> {
        let seats = lock(&self.group.seats);
        let first = self.group.turn.fetch_add(1, Ordering::Relaxed) % seats.len().max(1);
        let in_turn = seats[first..].iter().chain(&seats[..first]);
        let seat = in_turn.min_by_key(|seat| seat.load.load(Ordering::Relaxed))?;
        seat.load.fetch_add(1, Ordering::Relaxed);
        Some(seat.listener)
    }

    /// A connection of this server is gone, or never was.
    pub(crate) fn connection_gone(&self) {
        if self.hands_over() {
            self.load.fetch_sub(1, Ordering::Relaxed);
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
        let left = self.0.waiting.fetch_sub(1, Ordering::SeqCst) - 1;
        if left < QUEUE_MAX / 2 && self.0.paused.swap(false, Ordering::SeqCst) {
            let accepting = lock(&self.0.seats).first().map(|seat| seat.listener);
            accepting.into_iter().for_each(ListenerKey::accept_from_now_on);
        }
    }
}
