//! A descriptor that operations in flight share: it is closed when the last of them lets go.

use std::{
    fmt,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
};

use crate::kernel::ring::sim;

/// Shared owner of a descriptor (or of a simulated one). Cloning is free of atomics: it never leaves its loop.
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
    Os(OwnedFd),
    /// In a box: it is larger than what every real connection should have room for.
    Sim(Box<sim::Socket>),
}

impl Fd {
    pub(crate) fn simulated(socket: sim::Socket) -> Fd {
        Fd(Rc::new(Inner::Sim(Box::new(socket))))
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    /// The kernel's descriptor; `None` for a simulated one.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match &*self.0 {
            Inner::Os(fd) => Some(fd.as_fd()),
            Inner::Sim(_) => None,
        }
    }

    /// The descriptor itself, if this is its only owner.
    pub fn try_into_owned(self) -> Result<OwnedFd, Fd> {
        match Rc::try_unwrap(self.0) {
            Ok(Inner::Os(fd)) => Ok(fd),
            Ok(sim) => Err(Fd(Rc::new(sim))),
            Err(shared) => Err(Fd(shared)),
        }
    }
}

impl From<OwnedFd> for Fd {
    fn from(fd: OwnedFd) -> Fd {
        Fd(Rc::new(Inner::Os(fd)))
    }
}

impl fmt::Debug for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Inner::Os(fd) => fd.fmt(f),
            Inner::Sim(socket) => socket.fmt(f),
        }
    }
}
