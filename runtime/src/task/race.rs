//! Several futures, and the first output (tokio's `select!` over a list).

use std::{
    fmt,
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll},
};

use super::many::Many;

/// Runs `futures` concurrently in the calling task; returns the first output, and drops the others before. If several
/// are ready at the first poll, the first in the list wins; later, the one that was woken first.
///
/// Reads, accepts and receives lose nothing when they are dropped here; a task that was not first is cancelled (pass
/// [`shield`](crate::shield)`(&mut task)` to spare it). Dropping the future drops all of them. For futures of different
/// types, with a handler for each, there is `corio::select!`.
///
/// ```
/// use corio_runtime::{race, run, time::{Duration, sleep}};
/// run(async {
///     let mirror = |name, ms| async move {
///         sleep(Duration::from_millis(ms)).await;
///         name
///     };
///     assert_eq!(race([mirror("far", 50), mirror("near", 1)]).await, "near");
/// });
/// ```
///
/// # Panics
/// For an empty list, which would never end: "race() of no futures".
#[track_caller]
#[doc(alias = "select_all")]
pub fn race<I>(futures: I) -> Race<I::Item>
where
    I: IntoIterator,
    I::Item: Future,
{
    let many = Many::new(futures);
    assert!(many.live() > 0, "race() of no futures would never end");
    Race { many }
}

/// The future of [`race`].
#[must_use = "futures do nothing unless awaited"]
pub struct Race<F> {
    many: Many<F>,
}

impl<F> Unpin for Race<F> {}

impl<F: Future> Future for Race<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.many.poll(cx, |_, output| ControlFlow::Break(output)) {
            ControlFlow::Continue(()) => Poll::Pending,
            ControlFlow::Break(output) => {
                self.many = Many::new([]);
                Poll::Ready(output)
            }
        }
    }
}

impl<F: Future> fmt::Debug for Race<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Race").field("running", &self.many.live()).finish()
    }
}
