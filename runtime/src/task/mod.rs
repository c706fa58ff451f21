//! Tasks: futures that the loop runs concurrently (asyncio `Task`).

mod arms;
mod as_completed;
pub(crate) mod cancel;
pub(crate) mod carried;
pub(crate) mod catch;
mod cleanup;
pub(crate) mod endable;
mod gather;
mod group;
mod info;
mod join_set;
mod local;
mod many;
mod on_loop;
mod on_loop_future;
mod owned;
mod race;
mod report;
mod scope;
mod shield;
mod wait;

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    panic::Location,
    pin::Pin,
    task::{Context, Poll},
};

use crate::{
    event_loop::{
        current,
        current::{Loop, no_main},
        run::Runner,
    },
    scheduler::{
        any_task::Plain,
        homed::Homed,
        task_error::TaskError,
        task_info::{TaskId, TaskInfo},
        task_key::{Outcome, TaskKey},
    },
};

pub use arms::Arms;
pub use as_completed::{AsCompleted, AsCompletedTasks, as_completed, as_completed_tasks};
pub use cancel::CancelHandle;
pub use catch::{Cancelled, CatchCancel, catch_cancel};
pub use cleanup::{WithCleanup, with_cleanup};
pub use gather::{Gather, TryGather, TryGatherError, gather, try_gather, try_gather_tasks};
pub use group::{TaskGroup, TaskGroupError, task_group};
pub use info::{all_tasks, current_task};
pub use join_set::JoinSet;
pub use local::TaskLocal;
pub use on_loop::OnLoop;
pub use on_loop_future::{OnLoopFuture, on_loop};
pub use owned::OwnedTask;
pub use race::{Race, race};
pub use scope::{Scope, ScopedTask, scope};
pub use shield::{Shield, shield, shield_future};
pub use wait::{ReturnWhen, wait, wait_try};

/// Starts `future` as a task of this loop (asyncio `create_task`).
///
/// Its first step runs after the caller's next suspension, in order of creation. Awaiting the [`Task`] returns its
/// result, even if that is a panic. Dropping the `Task` detaches the task, which continues, unless somebody had begun
/// to await it.
///
/// ```
/// corio_runtime::run(async {
///     let task = corio_runtime::create_task(async { 40 + 2 });
///     assert!(!task.done());
///     assert_eq!(task.await.unwrap(), 42);
/// });
/// ```
///
/// # Panics
/// Outside a running loop: "no running event loop".
#[track_caller]
#[doc(alias = "spawn")]
#[must_use = "a dropped Task goes on running; await it for its result"]
pub fn create_task<F: Future + 'static>(future: F) -> Task<F::Output> {
    let location = Location::caller();
    current::with(|lp| lp.create_task(future, location))
}

/// As [`create_task`], with the given `location`: for libraries that create tasks on behalf of their caller.
///
/// ```
/// use corio_runtime::{create_task_at, current_task, run};
/// use std::panic::Location;
/// #[track_caller]
/// fn start() -> corio_runtime::Task<u32> {
///     let place = Location::caller();
///     create_task_at(place, async { current_task().unwrap().location().line() })
/// }
/// run(async {
///     let line = line!() + 1;
///     let task = start();
///     assert_eq!(task.await.unwrap(), line);
/// });
/// ```
///
/// # Panics
/// As [`create_task`].
#[track_caller]
#[must_use = "a dropped Task goes on running; await it for its result"]
pub fn create_task_at<F: Future + 'static>(
    location: &'static Location<'static>,
    future: F,
) -> Task<F::Output> {
    current::with(|lp| lp.create_task(future, location))
}

/// As [`create_task`], with a name.
///
/// ```
/// corio_runtime::run(async {
///     let task = corio_runtime::create_task_named("watchdog", async {});
///     assert_eq!(task.name(), "watchdog");
/// });
/// ```
#[track_caller]
#[must_use = "a dropped Task goes on running; await it for its result"]
pub fn create_task_named<F: Future + 'static>(name: impl Into<String>, future: F) -> Task<F::Output> {
    let task = create_task(future);
    task.set_name(name);
    task
}

/// As [`create_task`], but the first step runs at once, inside this call (asyncio `eager_task_factory`). A future that
/// never suspends is done without a turn of the loop. Even a panic becomes the task's result.
///
/// ```
/// corio_runtime::run(async {
///     let task = corio_runtime::create_eager_task(async { "hello" });
///     assert!(task.done());
///     assert_eq!(task.await.unwrap(), "hello");
/// });
/// ```
#[track_caller]
#[must_use = "a dropped Task goes on running; await it for its result"]
pub fn create_eager_task<F: Future + 'static>(future: F) -> Task<F::Output>
where
    F::Output: 'static,
{
    let location = Location::caller();
    current::with(|lp| lp.create_eager_task(future, location))
}

/// The handle of a task: await it for the result. (Functions that create tasks warn if the handle is unused; a group's
/// `create_task` does not, as the group awaits its children.)
///
/// Dropping a handle that was never polled detaches the task, which continues. Once a poll of it was pending, somebody
/// awaits the task, and dropping the handle cancels it, as asyncio cancels a task whose awaiter is cancelled, or timed
/// out: so a cancel passes through `task.await`, `gather` and `timeout`. Polls by `&mut` count, too: after
/// `timeout(limit, &mut task)` keep the handle, or call [`detach`](Task::detach). [`shield`](crate::shield) and
/// [`wait`](crate::wait) do not poll it. In debug mode a task that was cancelled by a drop which nothing else caused is
/// reported.
///
/// It is plain data and `Send`. On another loop, it can cancel the task; awaiting it there gives
/// [`TaskError::WrongLoop`].
///
/// ```compile_fail,E0599
/// // TASK-35: only the task's own future gives its result.
/// corio_runtime::run(async {
///     corio_runtime::create_task(async { 1 }).set_result(2);
/// });
/// ```
pub struct Task<T> {
    key: Homed<TaskKey>,
    id: TaskId,
    /// Set once the result was returned.
    taken: Option<Outcome>,
    /// A poll of it was pending: its drop cancels the task.
    awaited: bool,
    _result: PhantomData<fn() -> T>,
}

impl<T> Task<T> {
    pub(crate) fn new(key: Homed<TaskKey>, id: TaskId) -> Task<T> {
        Task { key, id, taken: None, awaited: false, _result: PhantomData }
    }

    /// Cancels the task: in the loop's next turn its future is dropped where it is suspended, and its result is
    /// [`TaskError::Cancelled`], once the cleanups of what was dropped have ended. A cancel wins over a value that the
    /// task returns in that turn. [`catch_cancel`](crate::catch_cancel) in the task catches it. If there is one other
    /// task that it awaits by its own waker (so not in a `gather`), that is cancelled first, and the cancel comes back
    /// with its end, or once it is not awaited any more: if the other one catches it and returns a value, this task
    /// goes on. Returns `false` if the task is done.
    ///
    /// ```
    /// corio_runtime::run(async {
    ///     let mut task = corio_runtime::create_task(std::future::pending::<()>());
    ///     assert!(task.cancel());
    ///     assert!(matches!((&mut task).await, Err(corio_runtime::TaskError::Cancelled)));
    ///     assert!(task.cancelled() && !task.cancel());
    /// });
    /// ```
    #[doc(alias = "abort")]
    pub fn cancel(&self) -> bool {
        if self.taken.is_some() {
            return false;
        }
        self.cancel_handle().cancel()
    }

    /// Cancels that were requested and not taken back by [`uncancel`](Task::uncancel), up to 65,535; 0 away from its
    /// loop (asyncio `cancelling`).
    ///
    /// ```
    /// corio_runtime::run(async {
    ///     let task = corio_runtime::create_task(std::future::pending::<()>());
    ///     assert_eq!(task.cancelling(), 0);
    ///     task.cancel();
    ///     task.cancel();
    ///     assert_eq!(task.cancelling(), 2);
    /// });
    /// ```
    pub fn cancelling(&self) -> usize {
        self.key.here(|lp, key| lp.tasks.cancelling(key)).unwrap_or(0)
    }

    /// Takes back one request to cancel; returns how many are left (asyncio `uncancel`). A cancel that was not
    /// delivered yet is not delivered if none is left. No effect away from its loop.
    ///
    /// ```
    /// corio_runtime::run(async {
    ///     let task = corio_runtime::create_task(async { 7 });
    ///     assert!(task.cancel());
    ///     assert_eq!(task.uncancel(), 0);
    ///     assert_eq!(task.await.unwrap(), 7);
    /// });
    /// ```
    pub fn uncancel(&self) -> usize {
        self.key.here(|lp, key| lp.tasks.uncancel(key)).unwrap_or(0)
    }

    /// Lets the task continue without this handle, even if somebody had begun to await it.
    ///
    /// ```
    /// use corio_runtime::{create_task, time::{Duration, sleep, timeout}};
    /// use std::{cell::Cell, rc::Rc};
    /// corio_runtime::run(async {
    ///     let done = Rc::new(Cell::new(false));
    ///     let flag = done.clone();
    ///     let mut task = create_task(async move {
    ///         sleep(Duration::from_millis(5)).await;
    ///         flag.set(true);
    ///     });
    ///     assert!(timeout(Duration::from_millis(1), &mut task).await.is_err());
    ///     task.detach();
    ///     sleep(Duration::from_millis(9)).await;
    ///     assert!(done.get());
    /// });
    /// ```
    pub fn detach(self) {
        drop(self.unawaited());
    }

    fn unawaited(mut self) -> Task<T> {
        self.awaited = false;
        self
    }

    /// A handle that cancels the task from any thread.
    pub fn cancel_handle(&self) -> CancelHandle {
        CancelHandle::new(self.key)
    }

    /// Whether the task has a result. Away from its loop, this is `true` only once the loop has closed.
    #[doc(alias = "is_finished")]
    pub fn done(&self) -> bool {
        self.outcome().is_some()
    }

    /// Whether the task was cancelled (see [`Task::done`]).
    pub fn cancelled(&self) -> bool {
        self.outcome() == Some(Outcome::Cancelled)
    }

    /// The task's id, unique in the process.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// The task's name; "Task-N", with its id, if none was set, and always when called away from its loop.
    pub fn name(&self) -> String {
        let given = self.key.here(|lp, key| lp.tasks.info(key)).flatten().and_then(|info| info.name);
        given.unwrap_or_else(|| self.id.to_string())
    }

    /// Names the task. No effect away from its loop, or once the task was awaited.
    pub fn set_name(&self, name: impl Into<String>) {
        let name = name.into();
        self.key.here(|lp, key| lp.tasks.set_name(key, name));
    }

    /// Calls `f` when the task is done, in the turn in which it ends; at once if it is done. No effect away from its
    /// loop.
    pub fn add_done_callback(&self, f: impl FnOnce(&TaskInfo) + 'static) {
        let id = self.id;
        self.key.here(|lp, key| {
            if let Err(f) = lp.tasks.add_done_callback(key, Box::new(f)) {
                let info = lp.tasks.info(key).unwrap_or(TaskInfo::anonymous(id));
                lp.call_now(Box::new(move || f(&info)), None);
            }
        });
    }

    fn outcome(&self) -> Option<Outcome> {
        self.taken
            .or_else(|| self.key.here(|lp, key| lp.tasks.outcome(key)).flatten())
            .or_else(|| self.key.handle().is_closed().then_some(Outcome::Cancelled))
    }
}

impl<T: 'static> Future for Task<T> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(self.taken.is_none(), "a Task was polled after it gave its result");
        let mut result: Poll<Result<T, TaskError>> = Poll::Pending;
        let joined = self.key.here(|lp, key| {
            assert!(!lp.tasks.is_current(key), "Task cannot await on itself: {}", self.name());
            lp.tasks.join(key, cx.waker(), &mut result)
        });
        match joined {
            None => Poll::Ready(Err(TaskError::WrongLoop)),
            Some(None) => {
                self.awaited = true;
                Poll::Pending
            }
            Some(outcome) => {
                self.taken = outcome;
                if result.is_pending() { Poll::Ready(Err(TaskError::Cancelled)) } else { result }
            }
        }
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if self.taken.is_none() {
            let awaited = self.awaited;
            self.key.on_loop(move |lp, key| lp.detach(key, awaited));
        }
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.outcome() {
            None => "pending",
            Some(Outcome::Finished) => "finished",
            Some(Outcome::Cancelled) => "cancelled",
            Some(Outcome::Panicked) => "panicked",
        };
        f.debug_struct("Task").field("name", &self.name()).field("state", &state).finish()
    }
}

/// Lets every other ready task run once, in exactly one turn of the loop (asyncio `sleep(0)`).
///
/// Dropping it has no effect.
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// The future of [`yield_now`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Loop {
    pub(crate) fn create_task<F: Future + 'static>(
        &self,
        future: F,
        location: &'static Location<'static>,
    ) -> Task<F::Output> {
        let (key, id) = self.tasks.create::<Plain, F>(future, location);
        Task::new(self.homed(key), id)
    }

    /// As `create_task`, and runs the first step at once.
    pub(crate) fn create_eager_task<F: Future + 'static>(
        &self,
        future: F,
        location: &'static Location<'static>,
    ) -> Task<F::Output>
    where
        F::Output: 'static,
    {
        let (key, id) = self.tasks.create_eager::<Plain, F>(future, location);
        self.tasks.apart(|| self.step_task(key.slot, &mut no_main));
        Task::new(self.homed(key), id)
    }
}

impl Runner {
    /// Creates a task that starts in the next [`Runner::run`].
    #[track_caller]
    #[must_use = "a dropped Task goes on running; await it for its result"]
    pub fn create_task<F: Future + 'static>(&self, future: F) -> Task<F::Output> {
        self.lp.create_task(future, Location::caller())
    }
}
