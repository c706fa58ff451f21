//! `Homed`: a key together with the loop that it belongs to.

use crate::scheduler::loop_id::LoopId;

/// A key, and the loop that it is of.
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

    /// The key, for the loop that it is of.
    #[inline(always)]
    pub(crate) fn on(self, home: LoopId) -> Option<K> {
        (self.home == home).then_some(self.key)
    }

    /// What the key says by itself.
    #[inline(always)]
    pub(crate) fn about<R>(self, f: fn(K) -> R) -> R {
        f(self.key)
    }
}
