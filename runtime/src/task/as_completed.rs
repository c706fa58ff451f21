//! Outputs of several futures, in the order of completion (asyncio `as_completed`).

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::many::Many;

/// Runs `futures` concurrently in the calling task, and returns their outputs in the order of completion (asyncio
/// `as_completed`). Tasks work, too. The result is also a [`Stream`].
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
