//! What can proceed at once takes no turn of the loop.

mod common;

use std::future::Future;

use common::{Log, on_every, turns};
use corio_runtime::{create_future, create_task};
use corio_sync::{Barrier, Condition, Event, Lock, Queue, Semaphore, oneshot};

/// Awaits `future` right after another task was created, which must not run before.
async fn comes_before_another<T>(what: &'static str, future: impl Future<Output = T>) {
    let order = Log::new();
    let theirs = order.clone();
    let other = create_task(async move { theirs.push("other") });
    future.await;
    order.push(what);
    turns(1).await;
    assert_eq!(order.get(), [what, "other"]);
    other.await.unwrap();
}

#[test]
fn task_49_what_can_proceed_at_once_lets_no_created_task_run_before() {
    on_every(async || {
        let (lock, semaphore, queue) = (Lock::new(()), Semaphore::new(1), Queue::new(1));
        let (event, condition) = (Event::new(), Condition::new(0));
        event.set();
        comes_before_another("lock", lock.acquire()).await;
        comes_before_another("semaphore", semaphore.acquire()).await;
        comes_before_another("put", queue.put(1)).await;
        comes_before_another("get", queue.get()).await;
        queue.task_done().unwrap();
        comes_before_another("join", queue.join()).await;
        comes_before_another("event", event.wait()).await;
        comes_before_another("condition", condition.acquire()).await;
        let held = condition.acquire().await;
        comes_before_another("predicate", held.wait_for(|n| *n == 0)).await;
        comes_before_another("barrier", Barrier::new(1).wait()).await;
        let (sender, receiver) = oneshot::channel();
        sender.send(1).unwrap();
        comes_before_another("oneshot", receiver).await;
        let (resolver, future) = create_future();
        resolver.set_result(1).unwrap();
        comes_before_another("future", future).await;
        comes_before_another("coroutine", async { 1 }).await;
        let done = create_task(async { 1 });
        turns(1).await;
        comes_before_another("task", done).await;
    });
}
