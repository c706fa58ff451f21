//! Keys of handles, bound to their loop.
//!
//! A key alone would name a slot of whatever loop is running, and the loops of one thread may take turns. So a handle
//! keeps a [`Homed`] key, which releases the key only with its own loop.

use crate::{
    event_loop::{
        current::{self, Loop},
        handle::Handle,
    },
    scheduler::homed::Homed,
};

impl<K: Copy> Homed<K> {
    pub(crate) fn handle(self) -> Handle {
        Handle { loop_id: self.home() }
    }

    /// Calls `f` if the key's loop is the running one.
    #[inline(always)]
    pub(crate) fn here<R>(self, f: impl FnOnce(&Loop, K) -> R) -> Option<R> {
        current::try_with(|lp| self.on(lp.id()).map(|key| f(lp, key))).flatten()
    }

    /// As `here`, a little cheaper: `f` must not run foreign code.
    #[inline(always)]
    pub(crate) fn peek<R>(self, f: impl FnOnce(&Loop, K) -> R) -> Option<R> {
        current::peek(|lp| self.on(lp.id()).map(|key| f(lp, key))).flatten()
    }

    /// Calls `f` with the key's loop as the running one, if it is of this thread.
    pub(crate) fn at_home<R>(self, f: impl FnOnce(&Loop, K) -> R) -> Option<R> {
        current::at_home(self.home(), |lp| self.on(lp.id()).map(|key| f(lp, key))).flatten()
    }

    /// As `at_home`; for a loop of another thread, through its inbox. For destructors.
    pub(crate) fn on_loop(self, f: impl FnOnce(&Loop, K) + Send + 'static)
    where
        K: Send + 'static,
    {
        current::on_loop(self.home(), move |lp| {
            if let Some(key) = self.on(lp.id()) {
                f(lp, key);
            }
        });
    }
}

impl Loop {
    #[inline(always)]
    pub(crate) fn homed<K: Copy>(&self, key: K) -> Homed<K> {
        Homed::new(self.id(), key)
    }
}
