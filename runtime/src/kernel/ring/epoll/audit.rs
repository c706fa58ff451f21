//! Turns a lost edge into a panic instead of a hang. Active in debug builds if `CORIO_AUDIT` is set, as it is for the
//! tests. Before each sleep it polls the descriptors that operations wait for.

use std::{io, os::fd::AsFd, thread, time::Duration};

use rustix::event::{PollFd, PollFlags, Timespec, epoll::Event, poll};

use super::{EVENTS, Epoll, begin::fd_of, pauses::PAUSE, sources::Way};
use crate::kernel::{fd::Fd, inflight::Table, ring::terms::Wait};

/// The most waiting operations that are checked before one sleep; the next sleep continues with the following ones.
const LOOKS: usize = 64;
/// How often a ready descriptor without an event is checked again: the event follows the data after a moment.
const PATIENCE: usize = 1000;

/// An operation that waits for an edge.
struct Look {
    slot: u32,
    way: Way,
    fd: Fd,
}

impl Epoll {
    /// Polls the descriptors of waiting operations. If one is ready, its edge must be among the pending events. Returns
    /// how long to sleep afterwards.
    ///
    /// # Panics
    /// If an edge is lost: see the head of `mod.rs`.
    pub(super) fn audit(&mut self, table: &mut Table, wait: Wait) -> io::Result<Wait> {
        let counted = self.sys.count;
        let mut wait = wait;
        for look in self.looks(table) {
            let mut tries = 0;
            while self.still_waits(&look) && is_ready(&look) {
                assert!(tries < PATIENCE, "the epoll kernel lost an edge of {:?} ({:?})", look.fd, look.way);
                if tries > 2 {
                    thread::sleep(Duration::from_millis(1));
                }
                self.wait_for_events(Some(0))?;
                self.note_events();
                // The events may include a wake, so the loop must not sleep.
                wait = Wait::No;
                // A full batch may have left the event for the next call.
                tries += usize::from(self.events.len() < EVENTS);
            }
        }
        self.sys.count = counted;
        Ok(wait)
    }

    /// The next operations to check.
    fn looks(&mut self, table: &mut Table) -> Vec<Look> {
        let all = self.sys.sources.waiting_for_edges();
        let from = self.audited % all.len().max(1);
        self.audited = from + LOOKS;
        let some = all.iter().cycle().skip(from).take(LOOKS.min(all.len()));
        let described = some.filter_map(|(slot, way, key)| {
            let sqe = table.describe(*key).ok()??;
            Some(Look { slot: *slot, way: *way, fd: fd_of(&sqe.kind)?.clone() })
        });
        described.collect()
    }

    /// Applies the events to the flags of their sources.
    fn note_events(&mut self) {
        for index in 0..self.events.len() {
            let Event { flags, data, .. } = self.events[index];
            if let Some((slot, source)) = self.sys.sources.named(data.u64()) {
                source.note(flags);
                self.list(slot);
            } else if data.u64() == PAUSE {
                self.end_pauses();
            }
        }
    }

    fn still_waits(&mut self, look: &Look) -> bool {
        self.sys.sources.get(look.slot).is_some_and(|source| match look.way {
            Way::In => !source.readable,
            Way::Out => !source.writable,
            Way::Event => false,
        })
    }
}

fn is_ready(look: &Look) -> bool {
    let flags = if look.way == Way::In { PollFlags::IN | PollFlags::RDHUP } else { PollFlags::OUT };
    let Some(fd) = look.fd.as_fd() else { return false };
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), flags)];
    matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..))
}
