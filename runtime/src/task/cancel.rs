//! Cancelling tasks from elsewhere, and by dropping their handle.

use std::{
    fmt,
    future::Future,
    ops::Deref,
    pin::Pin,
    task::{Context, Poll},
};

use super::Task;
use crate::{
    current::Loop,
    scheduler::{homed::Homed, task_error::TaskError, task_key::TaskKey},
};

/// Cancels one task, from any thread; clones name the same task.
///
/// ```
/// corio_runtime::run(async {
///     let task = corio_runtime::create_task(std::future::pending::<()>());
///     let cancel = task.cancel_handle();
///     std::thread::spawn(move || cancel.cancel()).join().unwrap();
///     assert!(matches!(task.await, Err(corio_runtime::TaskError::Cancelled)));
/// });
/// ```
#[derive(Clone, Copy)]
pub struct CancelHandle {
    key: Homed<TaskKey>,
}

impl CancelHandle {
    pub(crate) fn new(key: Homed<TaskKey>) -> CancelHandle {
        CancelHandle { key }
    }

    /// As [`Task::cancel`]. From another thread the answer is whether the loop is still there to do it.
    ///
    /// ```
    /// corio_runtime::run(async {
    ///     let mut task = corio_runtime::create_task(std::future::pending::<()>());
    ///     let cancel = task.cancel_handle();
    ///     assert!(cancel.cancel());
    ///     assert!((&mut task).await.is_err());
    ///     assert!(!cancel.cancel(), "it is done");
    /// });
    /// ```
    pub fn cancel(&self) -> bool {
        let key = self.key;
        key.at_home(|lp, key| lp.tasks.cancel(key)).unwrap_or_else(|| {
            let cancel = move |_: &Loop| {
                key.here(|lp, key| lp.tasks.cancel(key));
            };
            key.handle().post(Box::new(cancel)).is_ok()
        })
    }
}

impl fmt::Debug for CancelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelHandle").field("task", &self.key.about(|key| key.slot)).finish_non_exhaustive()
    }
}

/// A [`Task`] that is cancelled when this handle is dropped; made by [`Task::cancel_on_drop`].
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
    pub(super) fn new(task: Task<T>) -> OwnedTask<T> {
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
        self.task.cancel();
    }
}

impl<T> fmt::Debug for OwnedTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.task.fmt(f)
    }
}
