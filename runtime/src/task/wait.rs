//! Waiting for tasks without taking their results (asyncio `wait`).

use std::{
    future::{Future, poll_fn},
    ops::ControlFlow,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use super::{Task, many::Many};
use crate::{
    scheduler::{task_error::TaskError, task_key::Outcome},
    time,
};

/// When [`wait`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnWhen {
    /// As soon as a task is done.
    FirstCompleted,
    /// As soon as a task has failed; without a failure, when all are done.
    FirstException,
    /// When all are done.
    AllCompleted,
}

type DoneAndPending<T> = (Vec<Task<T>>, Vec<Task<T>>);

/// Waits for `tasks`; returns those that are done and those that are pending, each in the order given (asyncio `wait`).
/// It cancels nothing, and a failure stays in its task.
///
/// A `timeout` ends the wait early, without an error. For [`ReturnWhen::FirstException`] only a panic is a failure;
/// [`wait_try`] also counts errors. Dropping this detaches the tasks, which continue.
///
/// ```
/// use corio_runtime::{ReturnWhen, create_task, wait};
/// corio_runtime::run(async {
///     let quick = create_task(async {});
///     let slow = create_task(std::future::pending());
///     let (done, pending) = wait(vec![slow, quick], ReturnWhen::FirstCompleted, None).await;
///     assert_eq!((done.len(), pending.len()), (1, 1));
///     assert!(done[0].done() && !pending[0].done());
/// });
/// ```
///
/// ```compile_fail,E0308
/// // GATH-17: it takes tasks, not one alone and not plain futures.
/// use corio_runtime::{ReturnWhen, create_task, wait};
/// corio_runtime::run(async {
///     wait(create_task(async {}), ReturnWhen::AllCompleted, None).await;
///     wait(vec![async {}], ReturnWhen::AllCompleted, None).await;
/// });
/// ```
///
/// ```compile_fail,E0382
/// // GATH-15: a task has one handle, so that it cannot be given twice.
/// use corio_runtime::{ReturnWhen, create_task, wait};
/// corio_runtime::run(async {
///     let task = create_task(async {});
///     wait(vec![task, task], ReturnWhen::AllCompleted, None).await;
/// });
/// ```
pub fn wait<T: 'static>(
    tasks: Vec<Task<T>>,
    when: ReturnWhen,
    timeout: Option<Duration>,
) -> impl Future<Output = DoneAndPending<T>> {
    wait_until(unawaited(tasks), when, timeout, |task| task.outcome() == Some(Outcome::Panicked))
}

/// As [`wait`], for tasks that return a `Result`: [`ReturnWhen::FirstException`] also counts errors.
///
/// ```
/// use corio_runtime::{ReturnWhen, create_task, wait_try};
/// corio_runtime::run(async {
///     let bad = create_task(async { Err::<(), _>("no") });
///     let slow = create_task(std::future::pending());
///     let (mut done, pending) = wait_try(vec![bad, slow], ReturnWhen::FirstException, None).await;
///     assert_eq!((done.len(), pending.len()), (1, 1));
///     assert_eq!(done.remove(0).await.unwrap(), Err("no"));
/// });
/// ```
pub fn wait_try<T: 'static, E: 'static>(
    tasks: Vec<Task<Result<T, E>>>,
    when: ReturnWhen,
    timeout: Option<Duration>,
) -> impl Future<Output = DoneAndPending<Result<T, E>>> {
    wait_until(unawaited(tasks), when, timeout, failed)
}

/// The tasks as if nobody had awaited them before: a drop of the wait, also of one that never began, cancels none.
fn unawaited<T>(tasks: Vec<Task<T>>) -> Vec<Task<T>> {
    tasks.into_iter().map(Task::unawaited).collect()
}

fn failed<T: 'static, E: 'static>(task: &Task<Result<T, E>>) -> bool {
    let error = task.key.here(|lp, key| {
        lp.tasks.peek(key, |result| {
            let result = result.downcast_ref::<Option<Result<Result<T, E>, TaskError>>>();
            matches!(result, Some(Some(Ok(Err(_)) | Err(TaskError::Panicked(_) | TaskError::Failed))))
        })
    });
    error.flatten().unwrap_or(false)
}

async fn wait_until<T: 'static>(
    tasks: Vec<Task<T>>,
    when: ReturnWhen,
    timeout: Option<Duration>,
    failed: impl Fn(&Task<T>) -> bool,
) -> DoneAndPending<T> {
    let failed = &failed;
    let ends = tasks.iter().map(|task| {
        poll_fn(move |cx| if task.watch(cx) { Poll::Ready(failed(task)) } else { Poll::Pending })
    });
    wait_for_ends(ends, when, timeout).await;
    tasks.into_iter().partition(Task::done)
}

/// Waits for as many of `ends` as `when` says; each returns whether its task failed. A wake costs one look, at the task
/// that ended, and not at all of them.
async fn wait_for_ends(
    ends: impl IntoIterator<Item = impl Future<Output = bool>>,
    when: ReturnWhen,
    timeout: Option<Duration>,
) {
    let mut ends = Many::new(ends);
    let mut deadline = pin!(async {
        match timeout {
            Some(duration) => time::sleep(duration).await,
            None => std::future::pending().await,
        }
    });
    poll_fn(|cx| {
        let enough = ends.poll(cx, |_, failed| match when {
            ReturnWhen::FirstCompleted => ControlFlow::Break(()),
            ReturnWhen::FirstException if failed => ControlFlow::Break(()),
            ReturnWhen::FirstException | ReturnWhen::AllCompleted => ControlFlow::Continue(()),
        });
        if enough.is_break() || ends.live() == 0 { Poll::Ready(()) } else { deadline.as_mut().poll(cx) }
    })
    .await;
}

impl<T> Task<T> {
    /// Whether the task is done; if not, its end wakes `cx`. A task of another loop counts as done.
    pub(super) fn watch(&self, cx: &mut Context<'_>) -> bool {
        self.taken.is_some() || self.key.here(|lp, key| lp.tasks.watch(key, cx.waker())).unwrap_or(true)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::{create_future, create_task, event_loop::drive::run, task::yield_now};

    #[test]
    fn each_end_of_ten_thousand_costs_one_look() {
        const TASKS: usize = 10_000;
        run(async {
            let (resolvers, futures): (Vec<_>, Vec<_>) = (0..TASKS).map(|_| create_future()).unzip();
            let tasks: Vec<_> = futures.into_iter().map(create_task).collect();
            drop(create_task(async move {
                for resolver in resolvers {
                    resolver.set_result(()).unwrap();
                    // Each end comes in a turn of its own.
                    yield_now().await;
                }
            }));
            let (looks, polls) = (Cell::new(0), Cell::new(0));
            let ends = tasks.iter().map(|task| {
                poll_fn(|cx| {
                    looks.set(looks.get() + 1);
                    if task.watch(cx) { Poll::Ready(false) } else { Poll::Pending }
                })
            });
            let mut all = pin!(wait_for_ends(ends, ReturnWhen::AllCompleted, None));
            poll_fn(|cx| {
                polls.set(polls.get() + 1);
                all.as_mut().poll(cx)
            })
            .await;
            assert!(polls.get() >= TASKS, "too few wakes to mean anything: {}", polls.get());
            assert_eq!(looks.get(), 2 * TASKS, "one at first, and one at its end");
            assert!(tasks.iter().all(Task::done));
        });
    }
}
