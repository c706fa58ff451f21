//! A listener's life: its start, its connections' places, its close.

use std::{io, net::Shutdown, sync::Arc};

use corio_runtime::fd::Fd;

use super::{Accepted, Facts, LISTENERS, Listener, ListenerKey, Progress, wake_all};
use crate::balance::Membership;

impl ListenerKey {
    /// A new listener on `fd`, for at most `max` connections at once. It accepts after `begin`; with `accepts` false,
    /// it gets the connections that another core accepts on the same socket.
    pub(crate) fn new(fd: Fd, max: usize, accepts: bool) -> io::Result<(ListenerKey, Arc<Facts>)> {
        let facts = Arc::new(Facts::new(fd.local_addr()?, max));
        let listener = Listener::new(fd, Arc::clone(&facts), accepts);
        Ok((LISTENERS.with(|listeners| listeners.insert(listener)), facts))
    }

    /// Joins a group of servers.
    pub(crate) fn share(self, shared: Membership) {
        let _ = self.with(|listener| listener.shared = Some(shared));
    }

    /// Starts to accept. A second call changes nothing.
    pub(crate) fn begin(self) -> io::Result<()> {
        self.with(|listener| listener.begin(self))?
    }

    /// The socket is bound only: `begin` is to listen on it, with this backlog.
    pub(crate) fn listen_later(self, backlog: u32) {
        let _ = self.with(|listener| {
            listener.idle = Some(backlog);
            listener.facts.set_idle(true);
        });
    }

    /// Refuses new connections from now on. A server still handles those in the queue; without a server they are reset.
    pub(crate) fn close(self) {
        self.home.run_at_home(move || {
            self.update(|listener| {
                let Some(fd) = listener.fd.take() else { return };
                listener.facts.close();
                listener.resume();
                if !listener.leave(self) {
                    // The accepts in flight keep the socket open: the shutdown makes it refuse connections.
                    let _ = fd.shutdown(Shutdown::Both);
                }
                listener.accepting.cancel();
                if !listener.served {
                    listener.clear_queue(self);
                }
            });
            self.retire();
        });
    }

    /// Closes; the slot is freed once the last connection has ended.
    pub(crate) fn release(self) {
        self.close();
        self.home.run_at_home(move || {
            let _ = self.with(|listener| listener.dropped = true);
            self.retire();
        });
    }

    /// A server's task takes the connections.
    pub(crate) fn serve(self) {
        let _ = self.with(|listener| listener.served = true);
    }

    /// The server's task has ended: closes the listener. Returns whether it was still open, and how many connections
    /// were reset, as nobody will take them.
    pub(crate) fn serve_no_more(self) -> (bool, usize) {
        let was_open = self.progress().is_some_and(|progress| progress.open);
        self.close();
        let reset = self.update(|listener| {
            listener.served = false;
            listener.clear_queue(self)
        });
        self.retire();
        (was_open, reset.unwrap_or(0))
    }

    /// Resets the queued connections; returns how many.
    pub(crate) fn cut_queue(self) -> usize {
        self.update(|listener| std::mem::take(&mut listener.queue).into_iter().map(Accepted::refuse).count())
            .unwrap_or(0)
    }

    /// A connection was taken and its handler begins. Both share one place.
    pub(crate) fn connection_came(self) {
        let _ = self.with(|listener| {
            listener.handlers += 1;
            listener.facts.connection_came();
        });
    }

    /// A connection has ended; `handled`: its handler still runs and keeps the place.
    pub(crate) fn connection_gone(self, handled: bool) {
        self.gone(!handled, |listener| listener.facts.connection_gone());
        descriptor_freed();
    }

    /// A handler has ended; `connected`: its connection is still open and keeps the place.
    pub(crate) fn handler_gone(self, connected: bool) {
        self.gone(!connected, |listener| listener.handlers = listener.handlers.saturating_sub(1));
    }

    fn gone(self, place: bool, count: impl FnOnce(&mut Listener)) {
        let ends = self.update(|listener| {
            count(listener);
            if place {
                listener.places = listener.places.saturating_sub(1);
                if let Some(shared) = &listener.shared {
                    shared.place_freed();
                }
                listener.arm(self, None);
            }
            listener.end_waiters.take()
        });
        wake_all(ends.unwrap_or_default());
        self.retire();
    }

    /// Places taken.
    pub(crate) fn places(self) -> usize {
        self.with(|listener| listener.places).unwrap_or(0)
    }

    pub(crate) fn progress(self) -> Option<Progress> {
        self.with(|listener| listener.progress()).ok()
    }
}

/// A descriptor was freed on this loop: listeners that ran out of descriptors accept again.
fn descriptor_freed() {
    LISTENERS.try_with(|listeners| {
        if listeners.starved.get() == 0 {
            return;
        }
        for (local, listener) in listeners.slots.borrow_mut().values_mut() {
            if listener.accepting.is_paused_for_resources() {
                listener.resume();
                listener.arm(ListenerKey::of(listeners.home, local), None);
            }
        }
    });
}
