//! Who waits for something of a listener, and how far it is from its end.

use std::task::Waker;

/// Who waits, each with a number.
#[derive(Debug, Default)]
pub(super) struct Waiters(Vec<(u64, Waker)>);

impl Waiters {
    /// Keeps `waker` under `id`. What it replaces takes its place: to be dropped while nothing is borrowed, as its
    /// destructor is foreign code.
    pub(super) fn remember(&mut self, id: u64, waker: &mut Option<Waker>) {
        match (self.0.iter_mut().find(|(known, _)| *known == id), &mut *waker) {
            (Some((_, known)), Some(waker)) => std::mem::swap(known, waker),
            _ => self.0.extend(waker.take().map(|waker| (id, waker))),
        }
    }

    /// Takes whom `id` names.
    pub(super) fn forget(&mut self, id: u64) -> Option<Waker> {
        let place = self.0.iter().position(|(known, _)| *known == id)?;
        Some(self.0.remove(place).1)
    }

    /// All of them, to be woken while nothing is borrowed.
    pub(super) fn take(&mut self) -> Vec<(u64, Waker)> {
        std::mem::take(&mut self.0)
    }
}

/// How far a listener is from its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    pub(crate) open: bool,
    /// Accepts in flight.
    pub(crate) accepts: usize,
    /// Accepted connections that nobody has taken.
    pub(crate) queued: usize,
    /// Connections that live.
    pub(crate) connections: usize,
    /// Handlers that run.
    pub(crate) handlers: usize,
}
