//! Signals: how they reach a loop, and how Ctrl-C ends a run.

pub(crate) mod claim;
pub(crate) mod interrupt;
pub(crate) mod read;
