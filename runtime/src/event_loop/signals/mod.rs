//! Signals: how they reach a loop, and what Ctrl-C does to a run.

pub(crate) mod claim;
pub(crate) mod interrupt;
pub(crate) mod read;
