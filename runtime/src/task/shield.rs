//! Protects a task from the cancellation of the task that awaits it (asyncio `shield`).

use std::{
    fmt,
    future::Future,
    panic::Location,
    pin::Pin,
    task::{Context, Poll},
};

use super::Task;
use crate::{event_loop::current, scheduler::task_error::TaskError};

/// Waits for `task` (asyncio `shield`). If this is dropped, because the waiting task is cancelled or a timeout passes,
/// `task` continues.
///
/// ```
/// use corio_runtime::{create_task, shield, time::{Duration, sleep, timeout}};
/// corio_runtime::run(async {
///     let inner = create_task(sleep(Duration::from_millis(5)));
///     let cancel = inner.cancel_handle();
///     assert!(timeout(Duration::from_millis(1), shield(inner)).await.is_err());
///     assert!(cancel.cancel(), "it was still running");
/// });
/// ```
pub fn shield<T: 'static>(task: Task<T>) -> Shield<T> {
    Shield { task }
}

/// As [`shield`], for a future, which becomes a task at once.
///
/// # Panics
/// Outside a running loop.
#[track_caller]
pub fn shield_future<F: Future + 'static>(future: F) -> Shield<F::Output>
where
    F::Output: 'static,
{
    let location = Location::caller();
    shield(current::with(|lp| lp.create_task(future, location)))
}

/// The future of [`shield`].
#[must_use = "the task inside goes on by itself; await this for its result"]
pub struct Shield<T> {
    task: Task<T>,
}

impl<T> Shield<T> {
    /// The task inside.
    pub fn into_inner(self) -> Task<T> {
        self.task
    }
}

impl<T: 'static> Future for Shield<T> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.task).poll(cx)
    }
}

impl<T> fmt::Debug for Shield<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shield").field(&self.task).finish()
    }
}
