//! The descriptor that the host of an embedded loop waits for.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::eventfd::EventFd;

/// A descriptor that is readable while the loop has something to do.
pub(crate) enum Embedded {
    /// An eventfd that io_uring signals at every completion: the ring's own descriptor does not wake a `poll`.
    EventFd(EventFd),
    /// The epoll descriptor itself. The eventfd of the other threads is registered there, too.
    Epoll(OwnedFd),
}

impl Embedded {
    /// Empties an eventfd before the loop checks for completions. Taking the events empties an epoll descriptor.
    pub(crate) fn empty(&self) {
        if let Embedded::EventFd(fd) = self {
            // The read fails if it is already empty, which is fine.
            let _ = fd.read();
        }
    }
}

impl AsFd for Embedded {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Embedded::EventFd(fd) => fd.as_fd(),
            Embedded::Epoll(fd) => fd.as_fd(),
        }
    }
}
