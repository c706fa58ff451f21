//! The futures that wait for a listener: for its next connection, or for its end.

use std::{
    future::{Future, poll_fn},
    io,
    task::{Context, Poll},
};

use corio_runtime::budget;

use super::{
    Accepted, LISTENERS, Listener,
    key::ListenerKey,
    waiters::{Progress, Waiters},
};

impl ListenerKey {
    /// Takes a connection from the queue, or waits for one. Dropping the future loses no connection.
    pub(crate) fn accept(self) -> impl Future<Output = io::Result<Accepted>> {
        let mut wait = Wait { key: self, list: |listener| &mut listener.waiters, id: None };
        poll_fn(move |cx| {
            if budget::is_used_up(cx) {
                return Poll::Pending;
            }
            wait.poll(cx, |listener| listener.poll_next(self)).unwrap_or_else(|e| Poll::Ready(Err(e)))
        })
    }

    /// Waits until `done` is true of the progress. Ready at once on another loop, and once the listener is gone.
    pub(crate) fn wait_until(self, done: impl Fn(Progress) -> bool) -> impl Future<Output = ()> {
        let mut wait = Wait { key: self, list: |listener| &mut listener.end_waiters, id: None };
        let look = move |listener: &mut Listener| {
            if done(listener.progress()) { Poll::Ready(()) } else { Poll::Pending }
        };
        poll_fn(move |cx| wait.poll(cx, &look).unwrap_or(Poll::Ready(())))
    }
}

/// A waiting task, in one of the listener's lists until it is dropped.
struct Wait {
    key: ListenerKey,
    list: fn(&mut Listener) -> &mut Waiters,
    id: Option<u64>,
}

impl Wait {
    /// Calls `look`, and registers the waker if that is pending.
    fn poll<R>(
        &mut self,
        cx: &Context<'_>,
        look: impl FnOnce(&mut Listener) -> Poll<R>,
    ) -> io::Result<Poll<R>> {
        let id = match self.id {
            Some(id) => id,
            None if self.key.home.is_current() => *self.id.insert(next_waiter()),
            None => 0,
        };
        let mut waker = Some(cx.waker().clone());
        self.key.with(|listener| {
            let looked = look(listener);
            if looked.is_pending() {
                (self.list)(listener).remember(id, &mut waker);
            }
            looked
        })
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let (key, list, Some(id)) = (self.key, self.list, self.id) else { return };
        key.home.run_at_home(move || {
            drop(key.with(|listener| list(listener).forget(id)));
        });
    }
}

fn next_waiter() -> u64 {
    LISTENERS.with(|listeners| listeners.next_waiter.replace(listeners.next_waiter.get() + 1))
}
