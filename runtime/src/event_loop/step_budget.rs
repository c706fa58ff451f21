//! What remains of the running step's budget (see `budget.rs`).

use std::cell::Cell;

/// Outside a loop.
pub(crate) const UNLIMITED: i32 = i32::MAX;
/// Identifies a step: the number of the turn, and how many entries it has left to run.
pub(crate) type Step = (u64, usize);
pub(crate) const NO_STEP: Step = (u64::MAX, 0);

thread_local! {
    /// Remaining results; below 0 it counts refusals.
    pub(crate) static LEFT: Cell<i32> = const { Cell::new(UNLIMITED) };
    /// The step for which the budget was last renewed.
    pub(crate) static STEP: Cell<Step> = const { Cell::new(NO_STEP) };
}

/// Suspends the running step's budget while another loop, or none, runs. Restored when dropped.
pub(crate) struct Suspended(i32, Step);

impl Suspended {
    pub(crate) fn new() -> Suspended {
        Suspended(LEFT.replace(0), STEP.replace(NO_STEP))
    }
}

impl Drop for Suspended {
    fn drop(&mut self) {
        LEFT.set(self.0);
        STEP.set(self.1);
    }
}
