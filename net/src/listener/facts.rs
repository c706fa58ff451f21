//! What any thread may read of a listener.

use std::{
    io,
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// Most connections in a listener's queue.
pub(crate) const QUEUE_MAX: usize = 128;

/// Shared by a listener's handles, on any thread, and its loop.
#[derive(Debug)]
pub(crate) struct Facts {
    addr: SocketAddr,
    /// Most connections handled at once.
    pub(crate) max: usize,
    open: AtomicBool,
    /// The socket is bound and does not listen yet.
    idle: AtomicBool,
    /// Open connections. Only the listener's loop writes it.
    connections: AtomicUsize,
    /// If one core accepts for all: connections that this server has, or is about to get.
    pub(crate) load: AtomicUsize,
}

impl Facts {
    pub(super) fn new(addr: SocketAddr, max: usize) -> Facts {
        Facts {
            addr,
            max,
            open: AtomicBool::new(true),
            idle: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            load: AtomicUsize::new(0),
        }
    }

    /// The address of the listener, also after its close.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// # Errors
    /// Once the listener is closed.
    pub(crate) fn open_addr(&self) -> io::Result<SocketAddr> {
        if self.is_open() { Ok(self.addr) } else { Err(closed()) }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Whether connections are accepted.
    pub(crate) fn is_serving(&self) -> bool {
        self.is_open() && !self.idle.load(Ordering::Acquire)
    }

    pub(super) fn set_idle(&self, idle: bool) {
        self.idle.store(idle, Ordering::Release);
    }

    pub(super) fn close(&self) {
        self.open.store(false, Ordering::Release);
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn connection_came(&self) {
        self.connections.store(self.connections() + 1, Ordering::Relaxed);
    }

    pub(super) fn connection_gone(&self) {
        self.connections.store(self.connections().saturating_sub(1), Ordering::Relaxed);
    }

    /// How many more connections it may get.
    pub(crate) fn room(&self) -> usize {
        self.max.saturating_sub(self.load.load(Ordering::SeqCst))
    }
}

pub(super) fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the listener is closed")
}
