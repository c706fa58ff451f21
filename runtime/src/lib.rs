//! The event loop of corio: one per core, on io_uring.
//!
//! | file | holds |
//! |---|---|
//! | `run` | `run`, `Runner`, `Builder`: making a loop, running it, closing it |
//! | `turn` | one turn of the loop: the order in which everything happens |
//! | `current` | the loop itself, and the one of this thread |
//! | `task/` | the task table, the waker, `Task`, groups and gathering |
//! | `budget` | how many ready results a step of a task takes at most |
//! | `calls` | `call_soon`, `call_later`, `call_at` |
//! | `future` | a result to come, as its two ends |
//! | `threads/` | blocking work on other threads, work from other threads, a loop per core, the channel |
//! | `time/` | sleeping, timeouts, intervals, the timer heap |
//! | `op/` | the contract of an operation, its SQE, the in-flight table, its future |
//! | `driver` | the table and the ring together: submit, cancel, deliver |
//! | `ring/` | the kernel seam, with io_uring and the simulator behind it |
//! | `pool` | provided buffers |
//! | `fd`, `socket` | shared descriptors and the calls that are not operations |
//! | `embed` | a loop that another one drives |
//! | `signals/` | signals of the process, and Ctrl-C during `run` |
//! | `inbox`, `handle` | work from other threads, and loops as they see them |
//! | `home` | keys as handles keep them: with their loop |
//! | `service` | state that other crates keep on a loop |
//! | `error` | errors that keep their cause |
//! | `slab`, `tidy` | the table that the others stand on; the memory of a peak goes back |
//! | `slow` | steps that keep the loop for long |
//! | `exception/`, `metrics` | what nobody would hear of, and what is counted |
//!
//! Users take the facade crate `corio`; this one is for crates that add operations.

#[cfg(not(target_os = "linux"))]
compile_error!("corio runs on Linux only: it is built on io_uring (6.1 or newer)");
#[cfg(not(target_pointer_width = "64"))]
compile_error!("corio needs a 64-bit target: a waker packs its loop, task and generation into 64 bits");

pub mod budget;
mod calls;
mod current;
mod embed;
mod exception;
mod future;
mod handle;
mod home;
mod kernel;
mod metrics;
mod network;
pub mod op;
mod round;
mod run;
mod scheduler;
pub mod service;
pub mod signals;
mod slow;
mod spin;
mod task;
mod threads;
mod tidy;
pub mod time;
mod turn;

pub use calls::{CallHandle, TimerHandle, call_at, call_later, call_soon};
pub use embed::Turn;
pub use exception::{ExceptionContext, call_exception_handler, set_exception_handler, wake};
pub use future::{Cancelled, InvalidState, LoopFuture, Resolver, create_future};
pub use handle::{Handle, LoopClosed, handle, is_closing};
pub use kernel::{error, pool::PoolBuf, ring::terms::RingCounters};
pub use metrics::{Memory, Metrics, metrics};
pub use run::{Backend, BackendInfo, Builder, Faults, Runner, run};
pub use scheduler::{
    slab,
    task_error::{PanicPayload, TaskError},
    task_info::{TaskId, TaskInfo, TaskState},
};
pub use task::{
    AsCompleted, CancelHandle, Gather, OwnedTask, ReturnWhen, Scope, ScopedTask, Shield, Task, TaskGroup,
    TaskGroupError, TaskLocal, TryGather, TryGatherError, WithCleanup, YieldNow, all_tasks, as_completed,
    create_eager_task, create_task, create_task_at, create_task_named, current_task, gather, scope, shield,
    shield_future, task_group, try_gather, try_gather_tasks, wait, wait_try, with_cleanup, yield_now,
};
pub use threads::{
    ConcurrentError, ConcurrentFuture, Core, Cores, channel, current_core, run_coroutine_threadsafe,
    run_on_cores, run_per_core, to_thread,
};

/// Descriptors, as operations share them.
pub mod fd {
    pub use crate::{kernel::fd::Fd, network::require_kernel};
}

/// The socket calls that are not operations of the ring: they set up, ask and shut down, and never block.
pub mod socket {
    pub use crate::{
        kernel::{
            connection::{Delivery, ListenOptions, Unread},
            socket::hung_up,
        },
        network::{connector, listen},
    };
}
