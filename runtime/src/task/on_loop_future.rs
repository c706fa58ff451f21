//! `on_loop`: a future that may go anywhere, of one that stays on its loop.

use std::{
    fmt,
    future::Future,
    panic::Location,
    pin::Pin,
    task::{Context, Poll, ready},
};

use super::OwnedTask;
use crate::{event_loop::current, scheduler::task_error::TaskError};

/// Makes a future `Send`, whatever `future` and its output are: runs it as a task of this loop that ends with the
/// returned future. For code that asks for `Send` futures and yet runs them on this loop, such as axum's handlers.
///
/// It is plain data and no `unsafe`: what is `Send` is the name of the task. The task begins in the loop's next turn. A
/// drop of the returned future cancels it, also if it was never polled, and whoever ends the dropping task waits for
/// its end. A panic of `future` goes on in the caller. If the task is cancelled by others, so is the caller.
///
/// ```
/// use corio_runtime::{on_loop, run, yield_now};
/// use std::rc::Rc;
/// fn needs_send<F: Future + Send>(future: F) -> F { future }
/// run(async {
///     let text = Rc::new(String::from("not Send"));
///     let length = needs_send(on_loop(async move {
///         yield_now().await;
///         text.len()
///     }));
///     assert_eq!(length.await, 8);
/// });
/// ```
///
/// # Panics
/// Outside a running loop. The future panics if it is polled on another loop, or on none: "attached to a different
/// loop".
#[track_caller]
pub fn on_loop<F>(future: F) -> OnLoopFuture<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let location = Location::caller();
    OnLoopFuture { task: current::with(|lp| lp.create_task(future, location)).cancel_on_drop() }
}

/// The future of [`on_loop`].
#[must_use = "dropping it cancels the task"]
pub struct OnLoopFuture<T: 'static> {
    task: OwnedTask<T>,
}

impl<T: 'static> Future for OnLoopFuture<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match ready!(Pin::new(&mut self.task).poll(cx)) {
            Ok(value) => Poll::Ready(value),
            Err(TaskError::Panicked(payload)) => payload.resume(),
            Err(TaskError::WrongLoop) => {
                panic!(
                    "the future of on_loop is attached to a different loop: await it on the loop that made it"
                )
            }
            // Without a value the caller cannot go on.
            Err(TaskError::Cancelled | TaskError::Failed) => {
                current::try_with(|lp| lp.tasks.resume());
                Poll::Pending
            }
        }
    }
}

impl<T> fmt::Debug for OnLoopFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnLoopFuture").field("task", &*self.task).finish()
    }
}
