//! The event loop: combines the tables of `scheduler` and `kernel`, and runs them turn by turn.

pub(crate) mod affinity;
pub(crate) mod assemble;
pub(crate) mod blocking_pool;
pub(crate) mod cleanup_scope;
pub(crate) mod current;
pub(crate) mod embed;
pub(crate) mod exception;
pub(crate) mod exceptions;
pub(crate) mod handle;
pub(crate) mod home;
pub(crate) mod metrics;
pub(crate) mod op_key;
pub(crate) mod registry;
pub(crate) mod round;
pub(crate) mod run;
pub(crate) mod services;
pub(crate) mod signals;
pub(crate) mod slow;
pub(crate) mod slow_watch;
pub(crate) mod spin;
pub(crate) mod step_budget;
pub(crate) mod tidy;
pub(crate) mod turn;
pub(crate) mod turn_end;
pub(crate) mod waker;
pub(crate) mod watch;
