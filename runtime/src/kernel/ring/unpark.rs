//! How another thread ends the sleep of a loop.

use std::{
    os::fd::{AsFd, OwnedFd},
    thread::Thread,
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::{kernel::ring::refusal::Refusal, scheduler::inbox::Notify};

/// How a sleeping loop is woken.
pub(crate) enum Unpark {
    EventFd(EventFd),
    /// Of a loop that another one drives: its own sleep, and the host's. The kernel would pass the one on to the other,
    /// but milliseconds later.
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

    /// An eventfd, and a share of it for the loop's read.
    pub(crate) fn eventfd() -> Result<(Unpark, OwnedFd), Refusal> {
        let made = EventFd::from_flags(EfdFlags::EFD_CLOEXEC);
        let fd = made.map_err(|e| Refusal::of("eventfd2")(e.into()))?;
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
            // Fails only if the counter is full, and then the loop is awake.
            Unpark::EventFd(fd) => drop(fd.write(1)),
            Unpark::Embedded(fd, host) => {
                let _ = fd.write(1);
                let _ = nix::unistd::write(host, &1u64.to_ne_bytes());
            }
            Unpark::Thread(thread) => thread.unpark(),
        }
    }
}
