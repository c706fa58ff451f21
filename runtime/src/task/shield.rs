//! Protects a task from the cancellation of the task that awaits it (asyncio `shield`).

use std::{
    borrow::{Borrow, BorrowMut},
    fmt,
    future::Future,
    marker::PhantomData,
    panic::Location,
    pin::Pin,
    task::{Context, Poll},
};

use super::Task;
use crate::{event_loop::current, scheduler::task_error::TaskError};

/// Waits for `task`, given as a `Task` or a `&mut Task` (asyncio `shield`). If this is dropped, because the waiting
/// task is cancelled or a timeout passes, `task` continues, where a plain `await` would cancel it.
///
/// ```
/// use corio_runtime::{create_task, shield, time::{Duration, sleep, timeout}};
/// corio_runtime::run(async {
///     let mut inner = create_task(sleep(Duration::from_millis(5)));
///     assert!(timeout(Duration::from_millis(1), shield(&mut inner)).await.is_err());
///     assert!(!inner.done(), "it is still running");
///     inner.await.unwrap();
/// });
/// ```
pub fn shield<T: 'static, H: BorrowMut<Task<T>>>(task: H) -> Shield<T, H> {
    Shield { task: Some(task), _value: PhantomData }
}

/// As [`shield`], for a future, which becomes a task at once.
///
/// # Panics
/// Outside a running loop.
#[track_caller]
pub fn shield_future<F: Future + 'static>(future: F) -> Shield<F::Output>
where
    F::Output: 'static,
{
    let location = Location::caller();
    shield(current::with(|lp| lp.create_task(future, location)))
}

/// The future of [`shield`].
#[must_use = "the task inside goes on by itself; await this for its result"]
pub struct Shield<T: 'static, H: BorrowMut<Task<T>> = Task<T>> {
    /// `None` once it was taken out.
    task: Option<H>,
    _value: PhantomData<fn() -> T>,
}

impl<T> Shield<T> {
    /// The task inside.
    pub fn into_inner(mut self) -> Task<T> {
        let mut task = self.task.take().expect("it is taken out only here");
        task.awaited = false;
        task
    }
}

impl<T, H: BorrowMut<Task<T>>> Unpin for Shield<T, H> {}

impl<T: 'static, H: BorrowMut<Task<T>>> Future for Shield<T, H> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let task: &mut Task<T> = self.task.as_mut().expect("it is taken out only at the end").borrow_mut();
        // Polling the handle would be awaiting the task, whose cancel then follows.
        if task.watch(cx) { Pin::new(task).poll(cx) } else { Poll::Pending }
    }
}

impl<T, H: BorrowMut<Task<T>>> Drop for Shield<T, H> {
    fn drop(&mut self) {
        if let Some(task) = &mut self.task {
            task.borrow_mut().awaited = false;
        }
    }
}

impl<T, H: BorrowMut<Task<T>>> fmt::Debug for Shield<T, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shield").field(&self.task.as_ref().map(Borrow::borrow)).finish()
    }
}
