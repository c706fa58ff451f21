//! asyncio for Rust, on io_uring or epoll: one event loop per core.
//!
//! The modules follow asyncio's chapters; what asyncio has at its top level is also here at the top.
//!
//! Items are re-exported from `corio_runtime`, `corio_net`, `corio_process` and `corio_sync`, and their examples name
//! these crates: with corio, use the path of the page that you read.
//!
//! The features `futures-io`, `tokio-io` and `hyper` implement the read and write traits of these libraries for
//! streams.
#![forbid(unsafe_code)]

pub use corio_macros::{join, main, select, test, try_join};
pub use corio_runtime::{
    Backend, BackendInfo, Builder, Core, Cores, Handle, JoinSet, LoopClosed, OwnedTask, ReturnWhen, RunError,
    Runner, Task, TaskError, TaskGroup, TaskGroupError, TaskLocal, all_tasks, as_completed,
    create_eager_task, create_task, create_task_named, current_core, current_task, gather, handle, race, run,
    run_coroutine_threadsafe, run_on_cores, run_per_core, shield, shield_future, task_group, to_thread,
    try_gather, wait, wait_try, yield_now,
};
pub use queue::{LifoQueue, PriorityQueue, Queue};
pub use streams::{open_connection, start_server, stderr, stdin, stdout};
pub use subprocess::{create_subprocess_exec, create_subprocess_shell};
pub use sync::{Barrier, BoundedSemaphore, Condition, Event, Lock, Semaphore};
pub use time::{sleep, sleep_until, timeout, timeout_at, wait_for};

#[doc(hidden)]
pub use corio_runtime::Arms as __Arms;

/// Tasks (asyncio "Coroutines and Tasks").
pub mod task {
    pub use corio_runtime::{
        AsCompleted, AsCompletedTasks, CancelHandle, CatchCancel, ConcurrentError, ConcurrentFuture, Gather,
        JoinSet, OnLoop, OnLoopFuture, OwnedTask, PanicPayload, Race, ReturnWhen, Scope, ScopedTask, Shield,
        Task, TaskCancelled as Cancelled, TaskError, TaskGroup, TaskGroupError, TaskId, TaskInfo, TaskLocal,
        TaskState, TryGather, TryGatherError, WithCleanup, YieldNow, all_tasks, as_completed,
        as_completed_tasks, catch_cancel, create_eager_task, create_task, create_task_at, create_task_named,
        current_task, gather, on_loop, race, run_coroutine_threadsafe, scope, shield, shield_future,
        task_group, to_thread, try_gather, try_gather_tasks, wait, wait_try, with_cleanup, yield_now,
    };
}

/// A channel between cores, threads and other runtimes.
pub mod channel {
    pub use corio_runtime::channel::{Receiver, SendError, Sender, TryRecvError, TrySendError, channel};
}

/// Time: the loop's clock, sleeping, timeouts, intervals.
pub mod time {
    pub use corio_runtime::time::{
        Deadline, Duration, Instant, Interval, MissedTickBehavior, Sleep, Timeout, TimeoutError, interval,
        interval_at, now, sleep, sleep_until, timeout, timeout_at, timeout_scope, wait_for,
    };
}

/// The event loop (asyncio "Event Loop"): running it, callbacks, other threads, reports of lost errors.
pub mod event_loop {
    pub use corio_runtime::{
        Backend, BackendInfo, Builder, CallHandle, Cancelled, ExceptionContext, Faults, Handle, InvalidState,
        LoopClosed, LoopFuture, Memory, Metrics, Reason, Resolver, RingCounters, RunError, Runner,
        TimerHandle, backend, call_at, call_exception_handler, call_later, call_soon,
        clear_exception_handler, create_future, handle, is_closing, metrics, run, set_exception_handler,
        stop,
    };
}

/// Signals (asyncio `loop.add_signal_handler`).
pub mod signal {
    pub use corio_runtime::signals::{
        Signal, SignalKind, add_signal_handler, ctrl_c, remove_signal_handler, signal,
    };
}

/// For new operations of the kernel: their traits, the SQE, descriptors, services of a loop.
pub mod op {
    pub use corio_runtime::{
        PoolBuf,
        fd::Fd,
        op::{
            Arrivals, Done, Multishot, Op, OpKey, Operation, Payload, PeerAddr, Prepared, Receiver, Sends,
            SockAddr, Sqe, TurnEnd, cancel, is_in_flight, pipes_are_quiet, prepare, receive, send, start,
            start_multishot, submit,
        },
        service::{LoopLocal, Service, run_blocking, want_round},
    };
}

/// Streams: connections as readers and writers (asyncio "Streams").
pub mod streams {
    pub use corio_net::{
        Balance, Chunk, ConnectErrors, Connection, ConnectionBuilder, CopyError, CopySide, Lines, ReadError,
        Server, ServerBuilder, ShutdownReport, Stream, StreamReader, StreamWriter, WriteBuf,
        connect_read_pipe, connect_read_pipe_with_limit, connect_write_pipe, copy, copy_bidirectional,
        open_connection, start_server, stderr, stdin, stdout,
    };
}

/// Subprocesses (asyncio "Subprocesses").
pub mod subprocess {
    pub use corio_process::{
        Command, Output, Process, Stdio, create_subprocess_exec, create_subprocess_shell,
    };
}

/// hyper's executor and timer. Streams implement its `Read` and `Write`.
#[cfg(feature = "hyper")]
pub mod hyper {
    pub use corio_net::hyper::{CorioExecutor, CorioTimer};
}

/// Low-level sockets with owned buffers, for protocol implementations.
pub mod net {
    pub use corio_net::{TcpListener, TcpStream, ToSocketAddrs, resolve};
}

/// Locks and other primitives (asyncio "Synchronization Primitives"): fair, for the tasks of one core.
pub mod sync {
    pub use corio_sync::{
        Barrier, BoundedSemaphore, BrokenBarrier, Condition, ConditionGuard, Event, Lock, LockGuard,
        OverRelease, OwnedLockGuard, OwnedPermit, Permit, Semaphore, oneshot,
    };
}

/// Queues between the tasks of one core (asyncio "Queues").
pub mod queue {
    pub use corio_sync::{GetError, LifoQueue, PriorityQueue, PutError, Queue, QueueShutDown, TaskDoneError};
}

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
#[derive(Debug)]
pub struct ReadmeDoctests;
