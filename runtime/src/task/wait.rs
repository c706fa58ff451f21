//! Waiting for tasks without taking their results (asyncio `wait`).

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use super::{Task, TaskError, table::Outcome};
use crate::{current, time};

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

/// Waits for `tasks`, and gives those that are done and those that are not, each in the order given (asyncio
/// `wait`). Nothing is cancelled, and a failure is no error here: it is in its task.
///
/// A `timeout` ends it early, without an error. For [`ReturnWhen::FirstException`] only a panic is a failure;
/// [`wait_try`] sees errors too. Dropping this detaches the tasks: they run on.
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
pub async fn wait<T: 'static>(
    tasks: Vec<Task<T>>,
    when: ReturnWhen,
    timeout: Option<Duration>,
) -> (Vec<Task<T>>, Vec<Task<T>>) {
    wait_until(tasks, when, timeout, |task| task.outcome() == Some(Outcome::Panicked)).await
}

/// As [`wait`], for tasks whose results can be errors: [`ReturnWhen::FirstException`] ends it at the first one.
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
pub async fn wait_try<T: 'static, E: 'static>(
    tasks: Vec<Task<Result<T, E>>>,
    when: ReturnWhen,
    timeout: Option<Duration>,
) -> (Vec<Task<Result<T, E>>>, Vec<Task<Result<T, E>>>) {
    wait_until(tasks, when, timeout, failed).await
}

fn failed<T: 'static, E: 'static>(task: &Task<Result<T, E>>) -> bool {
    let key = task.key;
    let error = task.local(|lp| {
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
) -> (Vec<Task<T>>, Vec<Task<T>>) {
    let mut deadline = pin!(async {
        match timeout {
            Some(duration) => time::sleep(duration).await,
            None => std::future::pending().await,
        }
    });
    poll_fn(|cx| {
        if enough(&tasks, when, &failed, cx) { Poll::Ready(()) } else { poll_deadline(deadline.as_mut(), cx) }
    })
    .await;
    tasks.into_iter().partition(Task::done)
}

fn poll_deadline(deadline: Pin<&mut impl Future<Output = ()>>, cx: &mut Context<'_>) -> Poll<()> {
    deadline.poll(cx)
}

/// Whether it is time to return; until then the end of each task wakes the caller.
fn enough<T: 'static>(
    tasks: &[Task<T>],
    when: ReturnWhen,
    failed: &impl Fn(&Task<T>) -> bool,
    cx: &mut Context<'_>,
) -> bool {
    let mut done = 0;
    for task in tasks {
        if !task.watch(cx) {
            continue;
        }
        done += 1;
        match when {
            ReturnWhen::FirstCompleted => return true,
            ReturnWhen::FirstException if failed(task) => return true,
            ReturnWhen::FirstException | ReturnWhen::AllCompleted => {}
        }
    }
    done == tasks.len()
}

impl<T> Task<T> {
    /// Whether the task is done; if not, its end wakes `cx`. One of another loop is not waited for.
    fn watch(&self, cx: &mut Context<'_>) -> bool {
        self.taken.is_some()
            || current::try_with(|lp| lp.id() != self.loop_id || lp.tasks.watch(self.key, cx.waker()))
                .unwrap_or(true)
    }
}
