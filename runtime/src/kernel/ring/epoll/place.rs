//! The link from a descriptor to its source in an epoll kernel.

use std::{
    cell::{Cell, RefCell},
    os::fd::{BorrowedFd, OwnedFd},
    rc::{Rc, Weak},
};

use rustix::event::epoll;

/// The kind of a descriptor, which decides the system calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Not yet known.
    #[default]
    Unknown,
    /// A TCP socket: a receive that fills only a part of its buffer has emptied it.
    Tcp,
    /// Any other socket.
    Socket,
    /// Not a socket. It is made nonblocking for reads and writes.
    Other,
}

/// The descriptor's source, if an epoll kernel has one.
#[derive(Default)]
pub(crate) struct Place {
    source: Cell<Option<SourceOf>>,
}

/// A source in the kernel at `home`. Dropping it frees the source.
struct SourceOf {
    slot: u32,
    home: Rc<Home>,
}

impl Drop for SourceOf {
    fn drop(&mut self) {
        self.home.freed.borrow_mut().push(self.slot);
    }
}

/// The part of a kernel that its descriptors refer to.
pub(super) struct Home {
    /// Dead once the kernel is dropped.
    pub(super) epoll: Weak<OwnedFd>,
    /// Slots of sources whose descriptors are closed.
    pub(super) freed: RefCell<Vec<u32>>,
}

impl Place {
    /// The slot of the source that the kernel at `home` has for the descriptor.
    #[inline(always)]
    pub(super) fn slot(&self, home: &Rc<Home>) -> Option<u32> {
        let source = self.source.take();
        let slot = source.as_ref().filter(|source| Rc::ptr_eq(&source.home, home)).map(|source| source.slot);
        self.source.set(source);
        slot
    }

    /// Whether another live kernel has a source for the descriptor.
    pub(super) fn is_elsewhere(&self, home: &Rc<Home>) -> bool {
        let source = self.source.take();
        let elsewhere =
            source.as_ref().is_some_and(|of| !Rc::ptr_eq(&of.home, home) && of.home.epoll.strong_count() > 0);
        self.source.set(source);
        elsewhere
    }

    pub(super) fn enter(&self, slot: u32, home: &Rc<Home>) {
        self.source.set(Some(SourceOf { slot, home: Rc::clone(home) }));
    }

    /// Removes the source and the registration: the descriptor leaves the loop.
    pub(crate) fn leave(&self, fd: BorrowedFd<'_>) {
        if let Some(source) = self.source.take() {
            // Fails if it is not registered, which is fine.
            let _ = source.home.epoll.upgrade().map(|epoll| epoll::delete(&*epoll, fd));
        }
    }
}
