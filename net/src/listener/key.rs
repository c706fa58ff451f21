//! Names of listeners.

use corio_runtime::Handle;

/// Names a listener of one loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenerKey {
    pub(super) home: Handle,
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl ListenerKey {
    pub(crate) fn home(self) -> Handle {
        self.home
    }

    /// For what has the loop already.
    pub(crate) fn local(self) -> LocalListener {
        LocalListener { slot: self.slot, generation: self.generation }
    }
}

/// Names a listener of a loop that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalListener {
    slot: u32,
    generation: u32,
}

impl LocalListener {
    /// Of the loop `home`.
    pub(crate) fn at(self, home: Handle) -> ListenerKey {
        ListenerKey { home, slot: self.slot, generation: self.generation }
    }
}
