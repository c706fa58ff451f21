//! Names of listeners.

use corio_runtime::{Handle, slab::HeldKey};

/// Names a listener of one loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenerKey {
    pub(super) home: Handle,
    pub(super) local: LocalListener,
}

/// Names a listener within its loop.
pub(crate) type LocalListener = HeldKey;

impl ListenerKey {
    /// The listener `local` of the loop `home`.
    pub(crate) fn of(home: Handle, local: LocalListener) -> ListenerKey {
        ListenerKey { home, local }
    }

    pub(crate) fn home(self) -> Handle {
        self.home
    }

    /// Its name within its loop.
    pub(crate) fn local(self) -> LocalListener {
        self.local
    }
}
