//! `CancelHandle`: cancels a task from any thread.

use std::fmt;

use crate::{
    event_loop::current::Loop,
    scheduler::{homed::Homed, task_key::TaskKey},
};

/// Cancels one task, from any thread. Clones name the same task.
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

    /// As [`Task::cancel`](crate::Task::cancel). On another thread it returns whether the loop still exists to do it.
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
            key.handle().post(cancel).is_ok()
        })
    }
}

impl fmt::Debug for CancelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelHandle").field("task", &self.key.about(|key| key.slot)).finish_non_exhaustive()
    }
}
