//! What any thread may know of a listener.

use std::{
    io,
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// Connections that wait in the queue of a listener, at most.
pub(crate) const QUEUE_MAX: usize = 128;

/// Shared by the handles of a listener, on whatever thread they are, and its loop.
#[derive(Debug)]
pub(crate) struct Facts {
    addr: SocketAddr,
    /// Connections that may be handled at once.
    pub(crate) max: usize,
    open: AtomicBool,
    /// Connections that live. Only the listener's loop changes it.
    connections: AtomicUsize,
    /// Where one core accepts for all: connections that this server has, or is about to get.
    pub(crate) load: AtomicUsize,
}

impl Facts {
    pub(super) fn new(addr: SocketAddr, max: usize) -> Facts {
        Facts {
            addr,
            max,
            open: AtomicBool::new(true),
            connections: AtomicUsize::new(0),
            load: AtomicUsize::new(0),
        }
    }

    /// The address that it listens on, or listened on.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// # Errors
    /// Once it is closed.
    pub(crate) fn open_addr(&self) -> io::Result<SocketAddr> {
        if self.is_open() { Ok(self.addr) } else { Err(closed()) }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
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

    /// How many connections more it may get.
    pub(crate) fn room(&self) -> usize {
        self.max.saturating_sub(self.load.load(Ordering::SeqCst))
    }
}

pub(super) fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the listener is closed")
}
