//! Between threads: blocking work away from the loop, and work for a loop from elsewhere.

mod answer;
pub mod channel;
mod concurrent;
pub(crate) mod cores;
mod latch;

use std::{
    future::Future,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    thread,
};

use crate::{budget, event_loop::current, task::yield_now};

pub use concurrent::{ConcurrentError, ConcurrentFuture, run_coroutine_threadsafe};
pub use cores::{Core, Cores, current_core, run_on_cores, run_per_core};

/// Runs `f`, which may block, on a thread of the loop's pool (asyncio `to_thread`), and gives what it returns.
/// A panic of `f` goes on here.
///
/// The pool has up to min(32, cores + 4) threads, started as they are needed; more calls wait in order, also if the
/// system gives no more threads. Dropping this leaves `f` running if it has begun, and its result is dropped; one that
/// has not begun never does. The end of the loop waits for those that have begun, as long as
/// [`Builder::thread_join_timeout`](crate::Builder::thread_join_timeout) says. Task-locals are not carried over. In
/// the simulator `f` runs on the loop itself, in the next turn.
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
/// Outside a running loop; with what `f` panics with; and if the system gives no thread while the pool has none, as
/// asyncio's raises `RuntimeError`: `f` never runs on the loop.
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
    let answer = Arc::new(Answer { state: Mutex::new(State::Waiting(None)) });
    let theirs = Arc::clone(&answer);
    let submitted = current::with(|lp| {
        lp.pool().submit(Box::new(move || {
            if theirs.is_wanted() {
                theirs.give(panic::catch_unwind(AssertUnwindSafe(f)));
            }
        }))
    });
    if let Err(e) = submitted {
        panic!("to_thread: the system gives no thread, and the pool has none: {e}");
    }
    match (Await { answer }).await {
        Ok(value) => value,
        Err(payload) => panic::resume_unwind(payload),
    }
}

/// Where a thread leaves its result.
struct Answer<T> {
    state: Mutex<State<T>>,
}

enum State<T> {
    Waiting(Option<Waker>),
    Given(thread::Result<T>),
    /// Nobody waits any more.
    Unwanted,
}

impl<T> Answer<T> {
    fn is_wanted(&self) -> bool {
        !matches!(*self.state.lock().unwrap_or_else(PoisonError::into_inner), State::Unwanted)
    }

    fn replace(&self, state: State<T>) -> State<T> {
        std::mem::replace(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner), state)
    }

    fn give(&self, result: thread::Result<T>) {
        match self.replace(State::Given(result)) {
            State::Waiting(waker) => waker.into_iter().for_each(Waker::wake),
            State::Given(_) => {}
            // Dropped here, outside of the lock.
            State::Unwanted => drop(self.replace(State::Unwanted)),
        }
    }
}

struct Await<T> {
    answer: Arc<Answer<T>>,
}

impl<T> Future for Await<T> {
    type Output = thread::Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if budget::is_used_up(cx) {
            return Poll::Pending;
        }
        let new = cx.waker().clone();
        let mut state = self.answer.state.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Unwanted) {
            State::Given(result) => {
                budget::spend(1);
                Poll::Ready(result)
            }
            old => {
                *state = State::Waiting(Some(new));
                drop(state);
                drop(old);
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Await<T> {
    fn drop(&mut self) {
        drop(self.answer.replace(State::Unwanted));
    }
}
