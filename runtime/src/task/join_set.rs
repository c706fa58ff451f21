//! `JoinSet`: tasks whose results come as they end (tokio's `JoinSet`).

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    fmt,
    future::{Future, poll_fn},
    panic::Location,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use super::{CancelHandle, Task};
use crate::{event_loop::current, scheduler::task_error::TaskError};

/// A set of tasks of one type, which may grow at any time; results come in the order of the ends (tokio's `JoinSet`).
///
/// Dropping it cancels its tasks, and whoever ends the dropping task waits for their ends, cleanups included;
/// [`detach_all`](JoinSet::detach_all) lets them go on. For tasks whose first failure cancels the others there is
/// [`task_group`](crate::task_group).
///
/// ```
/// use corio_runtime::{JoinSet, run, time::{Duration, sleep}};
/// run(async {
///     let mut set = JoinSet::new();
///     for n in [3, 1] {
///         set.spawn(async move {
///             sleep(Duration::from_millis(10 * n)).await;
///             n
///         });
///     }
///     assert_eq!(set.join_next().await.unwrap().unwrap(), 1);
///     set.spawn(async { 7 });
///     let mut rest = Vec::new();
///     while let Some(result) = set.join_next().await {
///         rest.push(result.unwrap());
///     }
///     assert_eq!(rest, [7, 3]);
/// });
/// ```
#[must_use = "dropping it cancels its tasks"]
pub struct JoinSet<T> {
    /// By order of their start, also those that have ended.
    tasks: BTreeMap<u64, Task<T>>,
    next: u64,
    ended: Rc<Ended>,
}

/// The tasks that have ended, in that order, and who waits for the next one.
#[derive(Default)]
struct Ended {
    tasks: RefCell<VecDeque<u64>>,
    waker: Cell<Option<Waker>>,
}

impl Ended {
    fn push(&self, task: u64) {
        self.tasks.borrow_mut().push_back(task);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl<T> JoinSet<T> {
    /// An empty set.
    pub fn new() -> JoinSet<T> {
        JoinSet { tasks: BTreeMap::new(), next: 0, ended: Rc::default() }
    }

    /// Number of tasks whose results have not been taken, whether they have ended or not.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether it has no task.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Cancels all tasks. They stay in the set: [`join_next`](JoinSet::join_next) gives
    /// [`TaskError::Cancelled`] for each, once it has ended.
    ///
    /// ```
    /// use corio_runtime::{JoinSet, TaskError, run};
    /// run(async {
    ///     let mut set = JoinSet::new();
    ///     set.spawn(std::future::pending::<()>());
    ///     set.abort_all();
    ///     assert!(matches!(set.join_next().await, Some(Err(TaskError::Cancelled))));
    ///     assert!(set.is_empty());
    /// });
    /// ```
    #[doc(alias = "cancel_all")]
    pub fn abort_all(&mut self) {
        for task in self.tasks.values() {
            task.cancel();
        }
    }

    /// Lets all tasks go on without the set, which is empty then. A panic of one goes to the exception handler.
    ///
    /// ```
    /// use corio_runtime::{JoinSet, run, yield_now};
    /// use std::{cell::Cell, rc::Rc};
    /// run(async {
    ///     let done = Rc::new(Cell::new(false));
    ///     let flag = done.clone();
    ///     let mut set = JoinSet::new();
    ///     set.spawn(async move { flag.set(true) });
    ///     set.detach_all();
    ///     assert!(set.is_empty());
    ///     yield_now().await;
    ///     assert!(done.get());
    /// });
    /// ```
    pub fn detach_all(&mut self) {
        self.ended = Rc::default();
        for task in std::mem::take(&mut self.tasks).into_values() {
            task.detach();
        }
    }
}

impl<T: 'static> JoinSet<T> {
    /// Starts `future` as a task of the running loop, and of the set. The handle cancels that task alone.
    ///
    /// ```
    /// use corio_runtime::{JoinSet, run};
    /// run(async {
    ///     let mut set = JoinSet::new();
    ///     let endless = set.spawn(std::future::pending());
    ///     set.spawn(async { 1 });
    ///     assert_eq!(set.join_next().await.unwrap().unwrap(), 1);
    ///     endless.cancel();
    ///     assert!(set.join_next().await.unwrap().is_err());
    /// });
    /// ```
    ///
    /// # Panics
    /// Outside a running loop.
    #[track_caller]
    #[doc(alias = "spawn_local")]
    pub fn spawn(&mut self, future: impl Future<Output = T> + 'static) -> CancelHandle {
        let location = Location::caller();
        let task = current::with(|lp| lp.create_task(future, location));
        let (number, ended) = (self.next, Rc::clone(&self.ended));
        self.next += 1;
        task.add_done_callback(move |_| ended.push(number));
        let cancel = task.cancel_handle();
        self.tasks.insert(number, task);
        cancel
    }

    /// Waits for the next end of a task, and gives its result; `None` if the set is empty. Dropping the future loses no
    /// result, so that it may stand in `select!` or `timeout`.
    pub async fn join_next(&mut self) -> Option<Result<T, TaskError>> {
        poll_fn(|cx| self.poll_join_next(cx)).await
    }

    /// The result of a task that has ended; `None` if there is none.
    ///
    /// ```
    /// use corio_runtime::{JoinSet, run, yield_now};
    /// run(async {
    ///     let mut set = JoinSet::new();
    ///     set.spawn(async { 7 });
    ///     assert!(set.try_join_next().is_none());
    ///     yield_now().await;
    ///     assert_eq!(set.try_join_next().unwrap().unwrap(), 7);
    ///     assert!(set.try_join_next().is_none());
    /// });
    /// ```
    pub fn try_join_next(&mut self) -> Option<Result<T, TaskError>> {
        match self.poll_ended(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => None,
        }
    }

    /// Cancels all tasks and waits for their ends, cleanups included. Their results, panics as well, are dropped. If
    /// the future is dropped, those that have not ended stay in the set, cancelled.
    ///
    /// ```
    /// use corio_runtime::{JoinSet, run, with_cleanup, yield_now};
    /// use std::{cell::Cell, rc::Rc};
    /// run(async {
    ///     let cleaned = Rc::new(Cell::new(false));
    ///     let flag = cleaned.clone();
    ///     let mut set = JoinSet::new();
    ///     set.spawn(with_cleanup(std::future::pending::<()>(), || async move { flag.set(true) }));
    ///     yield_now().await;
    ///     set.shutdown().await;
    ///     assert!(cleaned.get() && set.is_empty());
    /// });
    /// ```
    pub async fn shutdown(&mut self) {
        self.abort_all();
        while self.join_next().await.is_some() {}
    }

    fn poll_join_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, TaskError>>> {
        if self.is_empty() {
            return Poll::Ready(None);
        }
        let ended = ready!(self.poll_ended(cx));
        if ended.is_none() {
            let old = self.ended.waker.replace(Some(cx.waker().clone()));
            drop(old);
            return Poll::Pending;
        }
        Poll::Ready(ended)
    }

    /// The result of the task that ended first.
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, TaskError>>> {
        let first = self.ended.tasks.borrow().front().copied();
        let Some((number, task)) = first.and_then(|n| Some((n, self.tasks.get_mut(&n)?))) else {
            return Poll::Ready(None);
        };
        let result = ready!(Pin::new(task).poll(cx));
        self.ended.tasks.borrow_mut().pop_front();
        self.tasks.remove(&number);
        Poll::Ready(Some(result))
    }
}

impl<T> Default for JoinSet<T> {
    fn default() -> JoinSet<T> {
        JoinSet::new()
    }
}

impl<T> Drop for JoinSet<T> {
    fn drop(&mut self) {
        for task in std::mem::take(&mut self.tasks).into_values() {
            drop(task.cancel_on_drop());
        }
    }
}

impl<T> fmt::Debug for JoinSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinSet").field("len", &self.len()).finish_non_exhaustive()
    }
}
