//! Tasks that wait for a listener, and its progress towards its end.

use std::task::Waker;

/// Wakers of waiting tasks, each with a number.
#[derive(Debug, Default)]
pub(super) struct Waiters(Vec<(u64, Waker)>);

impl Waiters {
    /// Stores the waker under `id`, and leaves the replaced one in `waker`. Drop that while nothing is borrowed: its
    /// destructor is foreign code.
    pub(super) fn remember(&mut self, id: u64, waker: &mut Option<Waker>) {
        match (self.0.iter_mut().find(|(known, _)| *known == id), &mut *waker) {
            (Some((_, known)), Some(waker)) => std::mem::swap(known, waker),
            _ => self.0.extend(waker.take().map(|waker| (id, waker))),
        }
    }

    /// Removes the waker of `id`.
    pub(super) fn forget(&mut self, id: u64) -> Option<Waker> {
        let place = self.0.iter().position(|(known, _)| *known == id)?;
        Some(self.0.remove(place).1)
    }

    /// Removes all wakers. Wake them while nothing is borrowed.
    pub(super) fn take(&mut self) -> Vec<(u64, Waker)> {
        std::mem::take(&mut self.0)
    }
}

/// A listener's progress towards its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    pub(crate) open: bool,
    /// Accepts in flight.
    pub(crate) accepts: usize,
    /// Accepted connections that nobody has taken yet.
    pub(crate) queued: usize,
    /// Open connections.
    pub(crate) connections: usize,
    /// Running handlers.
    pub(crate) handlers: usize,
}
