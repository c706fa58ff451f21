//! `TaskInfo`: facts about a task.

use std::{fmt, panic::Location};

use crate::scheduler::{homed::Homed, task_key::TaskKey};

/// A task's id, unique in the process. Displays as asyncio's default name, "Task-N".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub(crate) u64);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Task-{}", self.0)
    }
}

/// The state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskState {
    /// It waits, or is queued to run.
    Pending,
    /// It is the running task.
    Running,
    /// It was cancelled and has not ended yet.
    Cancelling,
    /// It has finished.
    Finished,
    /// It was cancelled.
    Cancelled,
    /// It panicked.
    Panicked,
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TaskState::Pending => "pending",
            TaskState::Running => "running",
            TaskState::Cancelling => "cancelling",
            TaskState::Finished => "finished",
            TaskState::Cancelled => "cancelled",
            TaskState::Panicked => "panicked",
        })
    }
}

/// A snapshot of a task. Displays like asyncio's repr of a task.
#[derive(Clone, Debug)]
pub struct TaskInfo {
    pub(crate) id: TaskId,
    pub(crate) name: Option<String>,
    pub(crate) location: &'static Location<'static>,
    pub(crate) parent: Option<TaskId>,
    pub(crate) state: TaskState,
    /// `None` if the task's slot was freed.
    pub(crate) task: Option<Homed<TaskKey>>,
}

impl TaskInfo {
    #[track_caller]
    pub(crate) fn anonymous(id: TaskId) -> TaskInfo {
        let (name, parent, state) = (None, None, TaskState::Finished);
        TaskInfo { id, name, location: Location::caller(), parent, state, task: None }
    }

    /// The task's id.
    ///
    /// ```
    /// corio_runtime::run(async {
    ///     let task = corio_runtime::create_task(async { corio_runtime::current_task().unwrap().id() });
    ///     let id = task.id();
    ///     assert_eq!(task.await.unwrap(), id);
    /// });
    /// ```
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// The task's name, or "Task-N".
    ///
    /// ```
    /// use corio_runtime::{create_task_named, current_task, run};
    /// run(async {
    ///     let task = create_task_named("watchdog", async { current_task().unwrap().name() });
    ///     assert_eq!(task.await.unwrap(), "watchdog");
    /// });
    /// ```
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.id.to_string())
    }

    /// Names the task, as [`Task::set_name`](crate::Task::set_name) does. This snapshot does not change.
    ///
    /// ```
    /// use corio_runtime::{create_task, current_task, run};
    /// run(async {
    ///     let task = create_task(async { current_task().unwrap().set_name("renamed") });
    ///     corio_runtime::yield_now().await;
    ///     assert_eq!(task.name(), "renamed");
    /// });
    /// ```
    pub fn set_name(&self, name: impl Into<String>) {
        let name = name.into();
        self.task.and_then(|task| task.here(|lp, key| lp.tasks.set_name(key, name)));
    }

    /// The task's state at the time of the snapshot.
    ///
    /// ```
    /// use corio_runtime::{TaskState, current_task, run};
    /// run(async { assert_eq!(current_task().unwrap().state(), TaskState::Running) });
    /// ```
    pub fn state(&self) -> TaskState {
        self.state
    }

    /// Where the task was created.
    ///
    /// ```
    /// corio_runtime::run(async {
    ///     let line = line!() + 1;
    ///     let task = corio_runtime::create_task(async { corio_runtime::current_task().unwrap().location().line() });
    ///     assert_eq!(task.await.unwrap(), line);
    /// });
    /// ```
    pub fn location(&self) -> &'static Location<'static> {
        self.location
    }

    /// The task that created it.
    ///
    /// ```
    /// use corio_runtime::{create_task, current_task, run};
    /// run(async {
    ///     let task = create_task(async { current_task().unwrap().parent() });
    ///     assert_eq!(task.await.unwrap(), current_task().map(|main| main.id()));
    /// });
    /// ```
    pub fn parent(&self) -> Option<TaskId> {
        self.parent
    }
}

impl fmt::Display for TaskInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Task {} name='{}' created at {}>", self.state, self.name(), self.location)
    }
}
