//! The tasks of the running loop: `current_task`, `all_tasks`.

use crate::{event_loop::current, scheduler::task_info::TaskInfo, task::cancel::CancelHandle};

impl TaskInfo {
    /// Cancels the task, as [`Task::cancel`](crate::Task::cancel) does.
    ///
    /// ```
    /// use corio_runtime::{all_tasks, create_task_named, run};
    /// run(async {
    ///     let task = create_task_named("stuck", std::future::pending::<()>());
    ///     let stuck = all_tasks().into_iter().find(|task| task.name() == "stuck").unwrap();
    ///     assert!(stuck.cancel());
    ///     assert!(task.await.is_err());
    /// });
    /// ```
    pub fn cancel(&self) -> bool {
        self.task.is_some_and(|key| CancelHandle::new(key).cancel())
    }

    /// As [`Task::cancelling`](crate::Task::cancelling): by this a task learns of requests to itself.
    ///
    /// ```
    /// use corio_runtime::{catch_cancel, current_task, create_task, yield_now};
    /// corio_runtime::run(async {
    ///     let task = create_task(async {
    ///         let caught = catch_cancel(std::future::pending::<()>()).await.is_err();
    ///         (caught, current_task().unwrap().cancelling())
    ///     });
    ///     yield_now().await;
    ///     task.cancel();
    ///     assert_eq!(task.await.unwrap(), (true, 1));
    /// });
    /// ```
    pub fn cancelling(&self) -> usize {
        self.task.and_then(|task| task.here(|lp, key| lp.tasks.cancelling(key))).unwrap_or(0)
    }

    /// As [`Task::uncancel`](crate::Task::uncancel).
    ///
    /// ```
    /// use corio_runtime::{create_task, current_task, yield_now};
    /// corio_runtime::run(async {
    ///     let task = create_task(async {
    ///         let me = current_task().unwrap();
    ///         assert!(me.cancel());
    ///         assert_eq!(me.uncancel(), 0, "it was not delivered, and is not now");
    ///         yield_now().await;
    ///         7
    ///     });
    ///     assert_eq!(task.await.unwrap(), 7);
    /// });
    /// ```
    pub fn uncancel(&self) -> usize {
        self.task.and_then(|task| task.here(|lp, key| lp.tasks.uncancel(key))).unwrap_or(0)
    }
}

/// The running task (asyncio `current_task`); `None` outside a task.
///
/// ```
/// assert!(corio_runtime::current_task().is_none());
/// corio_runtime::run(async { assert!(corio_runtime::current_task().is_some()) });
/// ```
pub fn current_task() -> Option<TaskInfo> {
    current::try_with(|lp| lp.tasks.current().and_then(|key| lp.tasks.info(key))).flatten()
}

/// This loop's unfinished tasks (asyncio `all_tasks`), including the main task; empty outside a loop.
///
/// ```
/// use corio_runtime::{TaskState, all_tasks, create_task_named, current_task};
/// corio_runtime::run(async {
///     let _task = create_task_named("waiter", std::future::pending::<()>());
///     let tasks = all_tasks();
///     let waiter = tasks.iter().find(|task| task.name() == "waiter").unwrap();
///     assert_eq!((tasks.len(), waiter.state()), (2, TaskState::Pending));
///     assert_eq!(waiter.parent(), current_task().map(|task| task.id()));
/// });
/// ```
pub fn all_tasks() -> Vec<TaskInfo> {
    current::try_with(|lp| lp.tasks.infos()).unwrap_or_default()
}
