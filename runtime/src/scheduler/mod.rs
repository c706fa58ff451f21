//! What a loop runs, and when: plain tables that depend on neither a loop nor a kernel.

pub(crate) mod any_task;
pub(crate) mod calls;
pub(crate) mod cancelling;
pub(crate) mod catch_scopes;
pub(crate) mod clock;
pub(crate) mod ends;
pub(crate) mod homed;
pub(crate) mod inbox;
pub(crate) mod locals;
pub(crate) mod loop_id;
pub(crate) mod ready;
pub(crate) mod rng;
pub mod slab;
pub(crate) mod task_error;
pub(crate) mod task_info;
pub(crate) mod task_key;
pub(crate) mod task_slot;
pub(crate) mod task_table;
pub(crate) mod timers;
pub(crate) mod values;
pub(crate) mod wake_key;
