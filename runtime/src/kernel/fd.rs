//! A descriptor that is shared by operations in flight, and closed when the last of them drops it.

use std::{
    cell::Cell,
    fmt,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    rc::Rc,
};

use crate::kernel::ring::{
    epoll::place::{Kind, Place},
    sim,
};

/// Shared owner of a descriptor (or of a simulated one). Cloning uses no atomics: an `Fd` never leaves its loop. On
/// epoll an operation fails with `EXDEV` if the same `Fd` was used on another loop of the thread that is still alive.
///
/// ```
/// use corio_runtime::fd::Fd;
/// let null = std::fs::File::open("/dev/null").unwrap();
/// let fd = Fd::from(std::os::fd::OwnedFd::from(null));
/// assert!(fd.as_fd().is_some());
/// ```
#[derive(Clone)]
pub struct Fd(Rc<Inner>);

pub(crate) enum Inner {
    Os(Descriptor),
    /// Boxed, to keep real descriptors small.
    Sim(Box<sim::Socket>),
}

// Every connection has one.
const _: () = assert!(size_of::<Inner>() <= 24);

/// A real descriptor, with the state that an epoll kernel keeps about it.
pub(crate) struct Descriptor {
    pub(crate) place: Place,
    pub(crate) kind: Cell<Kind>,
    /// Whether `O_NONBLOCK` is set, which accept and connect need on epoll.
    pub(crate) nonblocking: Cell<bool>,
    fd: OwnedFd,
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Fd {
    pub(crate) fn simulated(socket: sim::Socket) -> Fd {
        Fd(Rc::new(Inner::Sim(Box::new(socket))))
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    /// The real descriptor; `None` for a simulated one.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match &*self.0 {
            Inner::Os(fd) => Some(fd.as_fd()),
            Inner::Sim(_) => None,
        }
    }

    /// The descriptor itself, if this is its only owner.
    pub fn try_into_owned(self) -> Result<OwnedFd, Fd> {
        match Rc::try_unwrap(self.0) {
            Ok(Inner::Os(Descriptor { place, fd, .. })) => {
                place.leave(fd.as_fd());
                Ok(fd)
            }
            Ok(sim) => Err(Fd(Rc::new(sim))),
            Err(shared) => Err(Fd(shared)),
        }
    }
}

impl From<OwnedFd> for Fd {
    fn from(fd: OwnedFd) -> Fd {
        let (place, kind, nonblocking) = (Place::default(), Cell::default(), Cell::default());
        Fd(Rc::new(Inner::Os(Descriptor { place, kind, nonblocking, fd })))
    }
}

impl fmt::Debug for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Inner::Os(descriptor) => descriptor.fd.fmt(f),
            Inner::Sim(socket) => socket.fmt(f),
        }
    }
}
