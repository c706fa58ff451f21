//! Locks, events and queues of corio (asyncio "Synchronization Primitives" and "Queues").
//!
//! Everything here belongs to one core: no atomics, `!Send`. Tasks of different cores send messages instead. All types
//! are fair (first come, first served; newcomers never overtake) and correct under cancellation: what was granted to a
//! waiter that is then dropped goes to the next one. They work on any executor; only `ConditionGuard::wait_timeout`,
//! behind the feature `timeout`, needs corio's loop.
//!
//! Applications depend on the facade crate `corio`, which re-exports the public items in its own modules. The examples
//! here use this crate's paths.
#![forbid(unsafe_code)]

mod barrier;
mod condition;
mod error;
mod event;
mod lock;
pub mod oneshot;
mod queue;
mod semaphore;
mod waiters;

pub use barrier::{Barrier, BrokenBarrier};
pub use condition::{Condition, ConditionGuard};
pub use event::Event;
pub use lock::{Lock, LockGuard, OwnedLockGuard};
pub use queue::{GetError, LifoQueue, PriorityQueue, PutError, Queue, QueueShutDown, TaskDoneError};
pub use semaphore::{BoundedSemaphore, OverRelease, OwnedPermit, Permit, Semaphore};
