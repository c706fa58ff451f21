//! Those who wait for something of a listener: its next connection, its end.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use corio_runtime::budget;

use super::{
    Accepted, LISTENERS, Listener,
    facts::closed,
    key::ListenerKey,
    waiters::{Progress, Waiters},
};

fn next_waiter() -> u64 {
    LISTENERS.with(|listeners| listeners.next_waiter.replace(listeners.next_waiter.get() + 1))
}

impl ListenerKey {
    /// Waits for the next connection.
    pub(crate) fn accept(self) -> NextConnection {
        NextConnection::new(self)
    }

    /// Waits until `done` of its progress. Elsewhere than on its loop, and once it is gone, that is at once.
    pub(crate) fn wait_until(self, done: impl Fn(Progress) -> bool + Unpin) -> impl Future<Output = ()> {
        EndWaiter::new(self, done)
    }
}

/// Takes a connection from the queue, or waits for one. Dropped, it takes nothing.
#[derive(Debug)]
pub(crate) struct NextConnection {
    key: ListenerKey,
    waiter: Option<u64>,
}

impl NextConnection {
    pub(super) fn new(key: ListenerKey) -> NextConnection {
        NextConnection { key, waiter: None }
    }
}

impl Future for NextConnection {
    type Output = io::Result<Accepted>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        if budget::is_used_up(cx) {
            return Poll::Pending;
        }
        let key = self.key;
        let id = match self.waiter {
            Some(id) => id,
            None if key.home.is_current() => *self.waiter.insert(next_waiter()),
            None => 0,
        };
        let mut waker = Some(cx.waker().clone());
        let polled = key.with(|listener| {
            if let Some(accepted) = listener.next(key) {
                budget::spend(1);
                return Poll::Ready(Ok(accepted));
            }
            if listener.has_ended() {
                return Poll::Ready(Err(closed()));
            }
            if let Some(errno) = listener.failed
                && listener.queue.is_empty()
            {
                return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
            }
            listener.waiters.remember(id, &mut waker);
            Poll::Pending
        });
        polled.unwrap_or_else(|e| Poll::Ready(Err(e)))
    }
}

impl Drop for NextConnection {
    fn drop(&mut self) {
        let Some(id) = self.waiter else { return };
        forget_at_home(self.key, id, |listener| &mut listener.waiters);
    }
}

/// Waits until `done` of the progress; a listener that is gone is done.
pub(super) struct EndWaiter<F> {
    key: ListenerKey,
    done: F,
    waiter: Option<u64>,
}

impl<F: Fn(Progress) -> bool + Unpin> EndWaiter<F> {
    pub(super) fn new(key: ListenerKey, done: F) -> EndWaiter<F> {
        EndWaiter { key, done, waiter: None }
    }
}

impl<F: Fn(Progress) -> bool + Unpin> Future for EndWaiter<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.key.home.is_current() {
            return Poll::Ready(());
        }
        let id = *self.waiter.get_or_insert_with(next_waiter);
        let mut waker = Some(cx.waker().clone());
        let waiting = self.key.with(|listener| {
            let waiting = !(self.done)(listener.progress());
            if waiting {
                listener.end_waiters.remember(id, &mut waker);
            }
            waiting
        });
        if waiting.unwrap_or(false) { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl<F> Drop for EndWaiter<F> {
    fn drop(&mut self) {
        let Some(id) = self.waiter else { return };
        forget_at_home(self.key, id, |listener| &mut listener.end_waiters);
    }
}

fn forget_at_home(key: ListenerKey, id: u64, list: fn(&mut Listener) -> &mut Waiters) {
    key.home.run_at_home(move || {
        drop(key.with(|listener| list(listener).forget(id)));
    });
}
