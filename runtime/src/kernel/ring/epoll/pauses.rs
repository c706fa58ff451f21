//! Pauses: operations that end at a time of the clock, like `IORING_OP_TIMEOUT`. The loop itself has
//! at most one, the wait for its round.
//!
//! A timerfd in the epoll set ends them. Without it, every sleep during a pause would need a timeout, which costs a
//! look at the clock and a kernel timer each. If no timerfd can be made, the sleeps have that timeout.

use std::os::fd::OwnedFd;

use rustix::{
    event::epoll::{self, EventData, EventFlags},
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};

use crate::kernel::{key::Key, ring::terms::Wait};

/// The data of the timer's event.
pub(super) const PAUSE: u64 = u64::MAX - 1;
const SECOND: u64 = 1_000_000_000;

/// See the head of the file.
#[derive(Default)]
pub(super) struct Pauses {
    /// Each with its end, in the loop's time.
    waiting: Vec<(u64, Key)>,
    timer: Option<OwnedFd>,
}

impl Pauses {
    pub(super) fn take(&mut self, key: Key) -> bool {
        let place = self.waiting.iter().position(|(_, paused)| *paused == key);
        place.map(|place| self.waiting.swap_remove(place)).is_some()
    }

    fn first_end(&self) -> Option<u64> {
        self.waiting.iter().map(|(end, _)| *end).min()
    }

    /// `wait`, shortened to the end of the first pause if no timerfd ends it.
    #[inline(always)]
    pub(super) fn limit(&self, wait: Wait) -> Wait {
        match (self.unwatched(), wait) {
            (None, wait) | (Some(_), wait @ Wait::No) => wait,
            (Some(end), Wait::Until(at)) => Wait::Until(at.min(end)),
            (Some(end), Wait::Forever) => Wait::Until(end),
        }
    }

    /// The end of the first pause, if no timerfd ends it.
    #[inline(always)]
    pub(super) fn unwatched(&self) -> Option<u64> {
        if self.waiting.is_empty() || self.timer.is_some() { None } else { self.first_end() }
    }

    /// Begins a pause until `end`.
    pub(super) fn begin(&mut self, key: Key, end: u64, now: u64) {
        self.waiting.push((end, key));
        self.set_timer(now);
    }

    /// Called when the loop is made, so that its number of descriptors stays the same later.
    pub(super) fn make_timer(&mut self, epoll: &OwnedFd) {
        self.timer = make_timer(epoll);
    }

    /// Sets the timer to the end of the first pause.
    fn set_timer(&mut self, now: u64) {
        let (Some(timer), Some(end)) = (&self.timer, self.first_end()) else { return };
        let left = end.saturating_sub(now).max(1);
        let it_value = Timespec { tv_sec: (left / SECOND) as _, tv_nsec: (left % SECOND) as _ };
        let once = Itimerspec { it_interval: Timespec::default(), it_value };
        if timerfd_settime(timer, TimerfdTimerFlags::empty(), &once).is_err() {
            self.timer = None;
        }
    }

    /// Takes the pauses that are due.
    #[cold]
    pub(super) fn take_ended(&mut self, now: u64) -> Vec<Key> {
        let ended = self.waiting.extract_if(.., |(end, _)| *end <= now).map(|(_, key)| key).collect();
        self.set_timer(now);
        ended
    }
}

fn make_timer(epoll: &OwnedFd) -> Option<OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).ok()?;
    let (data, flags) = (EventData::new_u64(PAUSE), EventFlags::IN | EventFlags::ET);
    epoll::add(epoll, &timer, data, flags).ok()?;
    Some(timer)
}
