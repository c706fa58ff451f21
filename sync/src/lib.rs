//! Locks, events and queues of corio (asyncio "Synchronization Primitives" and "Queues").
//!
//! Everything here belongs to one core: no atomics, `!Send`; tasks of different cores send each other messages
//! instead. All of it is fair (first come, first served, and nobody who comes later overtakes) and correct
//! under cancellation: whatever was granted to a waiter that is then dropped goes to the next one. It works under
//! any executor; `ConditionGuard::wait_timeout` alone, behind the feature `timeout`, needs corio's loop.
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
