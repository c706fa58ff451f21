//! The future of a one-shot operation: a claim on its result, plain data.

use std::{
    any::Any,
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use super::{
    Operation,
    inflight::{Finished, Key},
};
use crate::{current, handle::LoopId};

/// Waits for an operation that [`submit`] gave to the kernel.
///
/// Dropping it cancels: the kernel is asked to stop, and whatever the operation still brings is freed. It is
/// `Send`; awaited on another loop it panics with "attached to a different loop".
#[must_use = "dropping an Op cancels its operation"]
pub struct Op<O: Operation> {
    loop_id: LoopId,
    key: Option<Key>,
    _op: PhantomData<fn() -> O>,
}

/// Hands `op` to the kernel with the next turn's `io_uring_enter`.
///
/// # Panics
/// Outside a running loop.
pub fn submit<O: Operation>(op: O) -> Op<O> {
    current::with(|lp| {
        let key = lp.driver.start_claimed(op);
        Op { loop_id: lp.id(), key: Some(key), _op: PhantomData }
    })
}

impl<O: Operation> Future for Op<O> {
    type Output = O::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<O::Output> {
        let key = self.key.expect("an Op was polled after it ended");
        let id = self.loop_id;
        let result = current::with(|lp| {
            assert!(lp.id() == id, "an operation is attached to a different loop");
            lp.driver.claim(key, cx.waker())
        });
        let Some(result) = result else { return Poll::Pending };
        self.key = None;
        let finished: Box<Finished<O>> = downcast(result);
        Poll::Ready(finished.op.complete(finished.done))
    }
}

fn downcast<T: 'static>(result: Box<dyn Any>) -> Box<T> {
    result.downcast().expect("an operation ends with its own type")
}

impl<O: Operation> Drop for Op<O> {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        current::on_loop(self.loop_id, move |lp| lp.driver.abandon(key));
    }
}

impl<O: Operation> fmt::Debug for Op<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Op").field("key", &self.key).finish()
    }
}
