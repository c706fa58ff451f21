//! `OwnedTask`: a task that is cancelled when its handle is dropped.

use std::{
    fmt,
    future::Future,
    ops::Deref,
    pin::Pin,
    task::{Context, Poll},
};

use super::Task;
use crate::scheduler::task_error::TaskError;

impl<T> Task<T> {
    /// Makes a handle that cancels the task when dropped.
    pub fn cancel_on_drop(self) -> OwnedTask<T> {
        OwnedTask::new(self)
    }
}

/// A [`Task`] that is cancelled when this handle is dropped. Made by [`Task::cancel_on_drop`].
///
/// ```
/// corio_runtime::run(async {
///     let task = corio_runtime::create_task(std::future::pending::<()>());
///     drop(task.cancel_on_drop());
///     corio_runtime::yield_now().await;
///     assert_eq!(corio_runtime::all_tasks().len(), 1);
/// });
/// ```
#[must_use = "dropping it cancels the task"]
pub struct OwnedTask<T> {
    task: Task<T>,
}

impl<T> OwnedTask<T> {
    fn new(task: Task<T>) -> OwnedTask<T> {
        OwnedTask { task }
    }
}

impl<T> Deref for OwnedTask<T> {
    type Target = Task<T>;

    fn deref(&self) -> &Task<T> {
        &self.task
    }
}

impl<T: 'static> Future for OwnedTask<T> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.task).poll(cx)
    }
}

impl<T> Drop for OwnedTask<T> {
    fn drop(&mut self) {
        if self.task.taken.is_none() {
            self.task.key.on_loop(|lp, key| {
                lp.cancel_awaited(key);
            });
        }
    }
}

impl<T> fmt::Debug for OwnedTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.task.fmt(f)
    }
}
