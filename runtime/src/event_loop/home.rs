//! What a handle does with its key: it reaches its slot on its own loop only.
//!
//! A key alone names a slot of whatever loop runs, and two loops of one thread take turns. So a handle keeps a
//! [`Homed`] key, which gives the key out only together with its own loop.

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

    /// Runs `f` if the loop is the running one.
    #[inline(always)]
    pub(crate) fn here<R>(self, f: impl FnOnce(&Loop, K) -> R) -> Option<R> {
        current::try_with(|lp| self.on(lp.id()).map(|key| f(lp, key))).flatten()
    }

    /// As `here`, a little cheaper: `f` runs no foreign code.
    #[inline(always)]
    pub(crate) fn peek<R>(self, f: impl FnOnce(&Loop, K) -> R) -> Option<R> {
        current::peek(|lp| self.on(lp.id()).map(|key| f(lp, key))).flatten()
    }

    /// Runs `f` here and now if the loop is of this thread, as the running one.
    pub(crate) fn at_home<R>(self, f: impl FnOnce(&Loop, K) -> R) -> Option<R> {
        current::at_home(self.home(), |lp| self.on(lp.id()).map(|key| f(lp, key))).flatten()
    }

    /// As `at_home`, or through the inbox of a loop of another thread: for drops.
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
