//! The budget that the running step has left (see `budget.rs`).

use std::cell::Cell;

/// Outside a loop.
pub(crate) const UNLIMITED: i32 = i32::MAX;
/// The number of a turn, and how much it has left to run.
pub(crate) type Step = (u64, usize);
pub(crate) const NO_STEP: Step = (u64::MAX, 0);

thread_local! {
    /// What is left; below 0 it counts the refusals.
    pub(crate) static LEFT: Cell<i32> = const { Cell::new(UNLIMITED) };
    /// The step that it was last renewed in.
    pub(crate) static STEP: Cell<Step> = const { Cell::new(NO_STEP) };
}

/// Another loop, or none, is the running one until this is dropped; then the step before goes on with its budget.
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
