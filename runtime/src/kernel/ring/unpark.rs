//! Ends the sleep of a loop from another thread.

use std::{
    os::fd::{AsFd, OwnedFd},
    thread::Thread,
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::{kernel::ring::refusal::Refusal, scheduler::inbox::Notify};

/// The means to wake a sleeping loop.
pub(crate) enum Unpark {
    EventFd(EventFd),
    /// For an embedded loop: the loop's own eventfd, and the host's. The kernel would signal the host's, too, when the
    /// loop's is read, but milliseconds later.
    Embedded(EventFd, OwnedFd),
    Thread(Thread),
}

impl Unpark {
    pub(crate) fn embedded(self, host: OwnedFd) -> Unpark {
        match self {
            Unpark::EventFd(fd) => Unpark::Embedded(fd, host),
            other => other,
        }
    }

    pub(crate) fn make_eventfd() -> Result<EventFd, Refusal> {
        EventFd::from_flags(EfdFlags::EFD_CLOEXEC).map_err(|e| Refusal::of("eventfd2")(e.into()))
    }

    /// An eventfd, and a duplicate for the loop to read.
    pub(crate) fn eventfd() -> Result<(Unpark, OwnedFd), Refusal> {
        let fd = Unpark::make_eventfd()?;
        let read = fd.as_fd().try_clone_to_owned().map_err(Refusal::of("fcntl"))?;
        Ok((Unpark::EventFd(fd), read))
    }

    pub(crate) fn thread() -> Unpark {
        Unpark::Thread(std::thread::current())
    }
}

impl Notify for Unpark {
    fn notify(&self) {
        match self {
            // Never fails: the counter is full only after 2^64 writes.
            Unpark::EventFd(fd) => drop(fd.write(1)),
            Unpark::Embedded(fd, host) => {
                let _ = fd.write(1);
                let _ = nix::unistd::write(host, &1u64.to_ne_bytes());
            }
            Unpark::Thread(thread) => thread.unpark(),
        }
    }
}
