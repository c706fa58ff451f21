//! The event loop of corio: one per core, on io_uring or epoll.
//!
//! Three layers; each imports only from itself or from lower ones:
//!
//! | layer | folder | holds |
//! |---|---|---|
//! | top | `task/`, `time/`, `op/`, `threads/`, `signals/`, … | the public API: each function finds the running loop |
//! | middle | `event_loop/` | the loop: it combines the lower parts; its turn, its run, its handles |
//! | ground | `scheduler/` | task table, ready queue, timers, callbacks, inbox |
//! | ground | `kernel/` | operations and those in flight, buffers, and the kernels: io_uring, epoll, the simulator |
//!
//! Applications depend on the facade crate `corio`, which re-exports the public items in its own modules. This crate is
//! for crates that add operations; the examples here use its paths.

#[cfg(not(target_os = "linux"))]
compile_error!("corio runs on Linux only: it is built on io_uring and epoll");
#[cfg(not(target_pointer_width = "64"))]
compile_error!("corio needs a 64-bit target: a waker packs its loop, task and generation into 64 bits");

pub mod budget;
mod calls;
mod event_loop;
mod future;
mod kernel;
mod network;
pub mod op;
mod scheduler;
pub mod service;
pub mod signals;
mod task;
mod threads;
pub mod time;

pub use calls::{CallHandle, TimerHandle, call_at, call_later, call_soon};
pub use event_loop::{
    backend::{Backend, BackendInfo, Reason},
    drive::{RunError, run},
    embed::Turn,
    exception::{call_exception_handler, clear_exception_handler, set_exception_handler, wake},
    exceptions::ExceptionContext,
    handle::{Handle, backend, handle, is_closing},
    metrics::metrics,
    registry::LoopClosed,
    run::{Builder, Faults, Runner},
    stop::stop,
    watch::{Memory, Metrics},
};
pub use future::{Cancelled, InvalidState, LoopFuture, Resolver, create_future};
pub use kernel::{error, pool::PoolBuf, ring::terms::RingCounters};
pub use scheduler::{
    slab,
    task_error::{PanicPayload, TaskError},
    task_info::{TaskId, TaskInfo, TaskState},
};
pub use task::{
    Arms, AsCompleted, AsCompletedTasks, CancelHandle, Cancelled as TaskCancelled, CatchCancel, Gather,
    JoinSet, OnLoop, OnLoopFuture, OwnedTask, Race, ReturnWhen, Scope, ScopedTask, Shield, Task, TaskGroup,
    TaskGroupError, TaskLocal, TryGather, TryGatherError, WithCleanup, YieldNow, all_tasks, as_completed,
    as_completed_tasks, catch_cancel, create_eager_task, create_task, create_task_at, create_task_named,
    current_task, gather, on_loop, race, scope, shield, shield_future, task_group, try_gather,
    try_gather_tasks, wait, wait_try, with_cleanup, yield_now,
};
pub use threads::{
    ConcurrentError, ConcurrentFuture, Core, Cores, channel, current_core, run_coroutine_threadsafe,
    run_on_cores, run_per_core, to_thread,
};

/// Descriptors, shared by operations.
pub mod fd {
    pub use crate::{kernel::fd::Fd, network::require_kernel};
}

/// Socket calls that are not operations of the ring: setup, queries and shutdown. They never block.
pub mod socket {
    pub use crate::{
        kernel::{
            connection::{Delivery, ListenOptions, Unread},
            socket::hung_up,
        },
        network::{bind, connector, listen},
    };
}
