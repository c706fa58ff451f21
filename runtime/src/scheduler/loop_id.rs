//! `LoopId`: names a loop.

use std::num::NonZeroU64;

/// Most loops that can live at once in a process: wakers have 12 bits for one.
pub(crate) const MAX_LOOPS: usize = 1 << 12;

/// The number of a loop, never used again: a counter above, the loop's index in the registry below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LoopId(pub(crate) NonZeroU64);

impl LoopId {
    pub(crate) fn index(self) -> usize {
        (self.0.get() % MAX_LOOPS as u64) as usize
    }

    /// Never 0.
    pub(crate) fn number(self) -> u64 {
        self.0.get()
    }
}
