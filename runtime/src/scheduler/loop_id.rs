//! `LoopId`: names a loop.

use std::num::NonZeroU64;

/// Most loops alive in a process: wakers have 12 bits for the loop.
pub(crate) const MAX_LOOPS: usize = 1 << 12;

/// A loop's number, never reused: a counter in the upper bits, the loop's index in the registry in the lower ones.
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
