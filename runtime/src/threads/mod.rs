//! Threads: blocking work off the loop, and calls into a loop from other threads.

mod answer;
pub mod channel;
mod concurrent;
pub(crate) mod cores;
mod latch;

use std::{
    future::poll_fn,
    panic::{self, AssertUnwindSafe},
    task::{Context, Poll},
    thread,
};

use answer::{Awaited, answer};

use crate::{
    budget,
    event_loop::current,
    scheduler::task_error::discard,
    task::{carried::Carried, yield_now},
};

pub use concurrent::{ConcurrentError, ConcurrentFuture, run_coroutine_threadsafe};
pub use cores::{Core, Cores, current_core, run_on_cores, run_per_core};

/// Runs `f`, which may block, on a thread of the loop's pool, and returns its result (asyncio `to_thread`). A panic of
/// `f` continues in the caller.
///
/// The pool has up to min(32, cores + 4) threads, started when needed; further calls wait in order, also if the system
/// refuses a thread. Dropping this future cancels a call that has not started; a started one continues, and its result
/// is dropped. The end of the loop waits for started calls, up to
/// [`Builder::thread_join_timeout`](crate::Builder::thread_join_timeout). `f` can read the caller's values of the
/// task-locals that are declared [`TaskLocal::propagated`](crate::TaskLocal::propagated), and of no others. In the
/// simulator `f` runs on the loop itself, in the next turn.
///
/// ```
/// corio_runtime::run(async {
///     let here = std::thread::current().id();
///     let there = corio_runtime::to_thread(|| std::thread::current().id()).await;
///     assert_ne!(here, there);
/// });
/// ```
///
/// # Panics
/// Outside a running loop; if `f` panics; and if the pool has no thread and the system refuses one (asyncio raises
/// `RuntimeError`). `f` never runs on the loop.
#[doc(alias = "spawn_blocking")]
pub async fn to_thread<F, T>(f: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    if current::with(|lp| lp.driver.is_simulated()) {
        yield_now().await;
        return f();
    }
    let (mut owed, answer) = answer(None);
    let values = Carried::take();
    let job = Box::new(move || {
        if !owed.is_cancelled() {
            owed.give(Some(call(f, values)));
        }
    });
    if let Err(e) = current::with(|lp| lp.pool().submit(job)) {
        panic!("to_thread: the system gives no thread, and the pool has none: {e}");
    }
    let wanted = Wanted(answer);
    match poll_fn(|cx| poll_answer(&wanted.0, cx)).await {
        Some(Ok(value)) => value,
        Some(Err(payload)) => panic::resume_unwind(payload),
        // The loop is ending, and with it this task.
        None => std::future::pending().await,
    }
}

/// Calls `f` with the caller's task-locals. Their destructors run before the answer is given.
fn call<T>(f: impl FnOnce() -> T, values: Carried) -> thread::Result<T> {
    let visible = values.enter();
    let outcome = panic::catch_unwind(AssertUnwindSafe(f));
    match (outcome, panic::catch_unwind(AssertUnwindSafe(|| drop(visible)))) {
        (Ok(value), Ok(())) => Ok(value),
        (Ok(_), Err(payload)) | (Err(payload), Ok(())) => Err(payload),
        (Err(payload), Err(second)) => {
            discard(second);
            Err(payload)
        }
    }
}

/// The answer of a pool thread; `None` if `f` never runs.
struct Wanted<T>(Awaited<Option<thread::Result<T>>, ()>);

impl<T> Drop for Wanted<T> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Polls an answer, within the task's budget.
fn poll_answer<O, C: Copy>(answer: &Awaited<O, C>, cx: &Context<'_>) -> Poll<O> {
    if budget::is_used_up(cx) {
        return Poll::Pending;
    }
    let Some(outcome) = answer.poll(cx.waker()) else { return Poll::Pending };
    budget::spend(1);
    Poll::Ready(outcome)
}
