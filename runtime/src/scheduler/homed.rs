//! `Homed`: a key, bound to its loop.

use crate::scheduler::loop_id::LoopId;

/// A key, and the loop that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Homed<K> {
    home: LoopId,
    key: K,
}

impl<K: Copy> Homed<K> {
    #[inline(always)]
    pub(crate) fn new(home: LoopId, key: K) -> Homed<K> {
        Homed { home, key }
    }

    #[inline(always)]
    pub(crate) fn home(self) -> LoopId {
        self.home
    }

    /// The key, if `home` is its loop.
    #[inline(always)]
    pub(crate) fn on(self, home: LoopId) -> Option<K> {
        (self.home == home).then_some(self.key)
    }

    /// A fact that the key itself tells, on any loop.
    #[inline(always)]
    pub(crate) fn about<R>(self, f: fn(K) -> R) -> R {
        f(self.key)
    }
}
