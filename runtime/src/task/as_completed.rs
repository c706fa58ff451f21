//! Outputs of several futures, in the order of completion (asyncio `as_completed`).

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::{Task, many::Many};

/// Runs `futures` concurrently in the calling task, and returns their outputs in the order of completion (asyncio
/// `as_completed`). The result is also a [`Stream`]. Tasks work, too, and are cancelled if it is dropped;
/// [`as_completed_tasks`] cancels none.
///
/// ```
/// use corio_runtime::{as_completed, time::{Duration, sleep}};
/// corio_runtime::run(async {
///     let after = |n| async move {
///         sleep(Duration::from_millis(n)).await;
///         n
///     };
///     let mut outputs = as_completed([after(9), after(1), after(5)]);
///     let mut order = Vec::new();
///     while let Some(n) = outputs.next().await {
///         order.push(n);
///     }
///     assert_eq!(order, [1, 5, 9]);
/// });
/// ```
///
/// ```compile_fail,E0277
/// // GATH-33: it takes several futures, not one alone.
/// corio_runtime::as_completed(async {});
/// ```
///
/// ```compile_fail,E0382
/// // GATH-32: a future has one owner, so that it cannot be given twice.
/// let once = async {};
/// corio_runtime::as_completed([once, once]);
/// ```
#[doc(alias = "FuturesUnordered")]
pub fn as_completed<I>(futures: I) -> AsCompleted<I::Item>
where
    I: IntoIterator,
    I::Item: Future,
{
    AsCompleted { many: Many::new(futures), ready: VecDeque::new() }
}

/// The outputs of [`as_completed`]. Dropping it drops the unfinished futures.
#[must_use = "outputs come only from `next`, which is to be awaited"]
pub struct AsCompleted<F: Future> {
    many: Many<F>,
    ready: VecDeque<F::Output>,
}

impl<F: Future> AsCompleted<F> {
    /// The next output; `None` after the last one. Dropping the future loses no output.
    pub async fn next(&mut self) -> Option<F::Output> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl<F: Future> Unpin for AsCompleted<F> {}

impl<F: Future> Stream for AsCompleted<F> {
    type Item = F::Output;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let AsCompleted { many, ready } = &mut *self;
        if ready.is_empty() {
            many.poll_all(cx, |_, output| ready.push_back(output));
        }
        match ready.pop_front() {
            None if many.live() > 0 => Poll::Pending,
            output => Poll::Ready(output),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.many.live() + self.ready.len();
        (left, Some(left))
    }
}

impl<F: Future> fmt::Debug for AsCompleted<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted").field("running", &self.many.live()).finish_non_exhaustive()
    }
}

/// Returns the handles of `tasks` in the order of their ends (asyncio `as_completed`, iterated): awaiting one gives its
/// result at once. It cancels none, also if it is dropped. The result is also a [`Stream`].
///
/// ```
/// use corio_runtime::{as_completed_tasks, create_task_named, time::{Duration, sleep}};
/// corio_runtime::run(async {
///     let slow = create_task_named("slow", sleep(Duration::from_millis(5)));
///     let quick = create_task_named("quick", async {});
///     let mut ended = as_completed_tasks(vec![slow, quick]);
///     let first = ended.next().await.unwrap();
///     assert!(first.done() && first.name() == "quick");
///     assert_eq!(ended.next().await.unwrap().name(), "slow");
///     assert!(ended.next().await.is_none());
/// });
/// ```
pub fn as_completed_tasks<T: 'static>(tasks: Vec<Task<T>>) -> AsCompletedTasks<T> {
    AsCompletedTasks { ends: as_completed(tasks.into_iter().map(|task| Ending(Some(task.unawaited())))) }
}

/// The tasks of [`as_completed_tasks`]. Dropping it detaches those that have not ended.
#[must_use = "tasks come only from `next`, which is to be awaited"]
pub struct AsCompletedTasks<T: 'static> {
    ends: AsCompleted<Ending<T>>,
}

impl<T> AsCompletedTasks<T> {
    /// The next task that has ended; `None` after the last one. Dropping the future loses no task.
    pub async fn next(&mut self) -> Option<Task<T>> {
        self.ends.next().await
    }
}

impl<T> Stream for AsCompletedTasks<T> {
    type Item = Task<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Task<T>>> {
        Pin::new(&mut self.ends).poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.ends.size_hint()
    }
}

impl<T> fmt::Debug for AsCompletedTasks<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompletedTasks").field("running", &self.ends.many.live()).finish_non_exhaustive()
    }
}

/// Waits for the end of a task, and gives its handle.
struct Ending<T>(Option<Task<T>>);

impl<T> Future for Ending<T> {
    type Output = Task<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Task<T>> {
        let task = self.0.take_if(|task| task.watch(cx));
        task.map_or(Poll::Pending, Poll::Ready)
    }
}
