//! The sleep of the epoll kernel, precise to the nanosecond: `epoll_wait` sleeps whole milliseconds, `ppoll` the rest.

use std::io;

use rustix::{
    buffer::spare_capacity,
    event::{PollFd, PollFlags, Timespec, epoll, poll},
    io::Errno,
};

use super::Epoll;
use crate::kernel::{error, ring::terms::Wait};

const MILLISECOND: u64 = 1_000_000;
/// The longest sleep: a day. The loop then checks its timers again.
const SLEEP_MAX_MS: u64 = 24 * 3600 * 1000;

impl Epoll {
    /// Sleeps until an event arrives or `wait` ends the sleep, and takes the events.
    pub(super) fn sleep(&mut self, wait: Wait) -> io::Result<()> {
        match wait {
            Wait::No => self.wait_for_events(Some(0)),
            Wait::Forever => self.wait_for_events(None),
            Wait::Until(at) => self.sleep_until(at),
        }
    }

    fn sleep_until(&mut self, at: u64) -> io::Result<()> {
        let left = at.saturating_sub(self.sys.clock.now_ns());
        let whole = left / MILLISECOND;
        if whole > 0 || left == 0 {
            self.wait_for_events(Some(whole.min(SLEEP_MAX_MS)))?;
            if !self.events.is_empty() {
                return Ok(());
            }
        }
        match at.saturating_sub(self.sys.clock.now_ns()) {
            0 => Ok(()),
            left => self.sleep_less_than_a_millisecond(left.min(MILLISECOND)),
        }
    }

    fn sleep_less_than_a_millisecond(&mut self, ns: u64) -> io::Result<()> {
        self.sys.count += 1;
        let timeout = Timespec { tv_sec: 0, tv_nsec: ns as _ };
        let mut fds = [PollFd::new(&*self.sys.sources.epoll, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => {
                self.events.clear();
                Ok(())
            }
            Ok(_) => self.wait_for_events(Some(0)),
            Err(e) => Err(failed("ppoll", e)),
        }
    }

    /// One `epoll_wait` with this timeout (`None`: no timeout). A signal ends it without an event.
    #[inline(always)]
    pub(super) fn wait_for_events(&mut self, milliseconds: Option<u64>) -> io::Result<()> {
        self.sys.count += 1;
        self.events.clear();
        self.next_event = 0;
        let timeout = milliseconds
            .map(|ms| Timespec { tv_sec: (ms / 1000) as _, tv_nsec: (ms % 1000 * MILLISECOND) as _ });
        let events = spare_capacity(&mut self.events);
        match epoll::wait(&*self.sys.sources.epoll, events, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(e) => Err(failed("epoll_wait", e)),
        }
    }
}

#[cold]
fn failed(call: &str, e: Errno) -> io::Error {
    let e = io::Error::from(e);
    let text = format!("{call} failed: {e}");
    error::explain(e, text)
}
