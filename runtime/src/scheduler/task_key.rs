//! `TaskKey`: names a task. `Outcome`: how it ended.

/// Names a task of one loop. The generation is full: a stale key never finds another task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskKey {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Finished,
    Cancelled,
    Panicked,
}
