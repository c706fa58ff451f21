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
}
