//! The future of a one-shot operation. It is plain data, and claims the operation's result.

use std::{
    any::Any,
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use crate::{
    event_loop::current,
    kernel::{
        inflight::{Finished, InFlight},
        key::Key,
        operation::Operation,
        ring::uring::Encoded,
    },
    scheduler::homed::Homed,
};

/// Waits for an operation that was given to the kernel by [`submit`].
///
/// Dropping it cancels the operation. Whatever that still brings goes to [`Operation::abandoned`], which frees it by
/// default. An `Op` is `Send`; awaited on another loop it panics with "attached to a different loop".
#[must_use = "dropping an Op cancels its operation"]
pub struct Op<O: Operation> {
    key: Option<Homed<Key>>,
    _op: PhantomData<fn() -> O>,
}

/// Submits `op` to the kernel, at the end of this turn.
///
/// # Panics
/// Outside a running loop, if `prepare` panics, and if `op` has many results.
pub fn submit<O: Operation>(op: O) -> Op<O> {
    prepare(op).submit()
}

/// An operation in its final place, with its SQE written: its `prepare`, which may be foreign code, has returned, and
/// nothing can fail any more. Made by [`prepare`].
pub struct Prepared<O> {
    encoded: Encoded,
    _op: PhantomData<O>,
}

/// Writes the SQE of `op`, to be submitted later, or not at all.
///
/// ```
/// use corio_runtime::{fd::Fd, op::{self, Done, Operation, Sqe}};
/// use std::os::{fd::OwnedFd, unix::net::UnixStream};
/// struct Recv { fd: Fd, buf: Vec<u8> }
/// impl Operation for Recv {
///     type Output = Vec<u8>;
///     fn prepare(&mut self) -> Sqe<'_> { Sqe::recv(&self.fd, &mut self.buf) }
///     fn complete(mut self: Box<Self>, done: Done) -> Vec<u8> {
///         self.buf.truncate(done.count().unwrap());
///         self.buf
///     }
/// }
/// let (ours, theirs) = UnixStream::pair()?;
/// let fd = Fd::from(OwnedFd::from(ours));
/// std::io::Write::write_all(&mut &theirs, b"hello")?;
/// let got = corio_runtime::run(async {
///     let unused = op::prepare(Recv { fd: fd.clone(), buf: Vec::new() });
///     assert!(unused.moves_nothing() && unused.into_inner().buf.is_empty());
///     op::prepare(Recv { fd, buf: vec![0; 64] }).submit().await
/// });
/// assert_eq!(got, b"hello");
/// # std::io::Result::Ok(())
/// ```
///
/// # Panics
/// As [`submit`].
pub fn prepare<O: Operation>(op: O) -> Prepared<O> {
    // No borrow of the loop is held during `prepare` of the operation.
    Prepared { encoded: current::with(|lp| lp.driver.encode(op)), _op: PhantomData }
}

impl<O: Operation> Prepared<O> {
    /// Whether it asks for 0 bytes: the kernel's answer 0 would look like the end of a stream.
    pub fn moves_nothing(&self) -> bool {
        self.encoded.moves_nothing()
    }

    /// Submits it, as the function [`submit`].
    ///
    /// # Panics
    /// Outside a running loop.
    pub fn submit(self) -> Op<O> {
        current::with(|lp| {
            let key = lp.driver.submit_encoded(self.encoded);
            Op { key: Some(lp.homed(key)), _op: PhantomData }
        })
    }

    /// Returns the operation, unsubmitted.
    pub fn into_inner(self) -> O {
        let InFlight::Claimed(op) = self.encoded.into_operation() else {
            unreachable!("it was encoded as an operation of a future")
        };
        *downcast(op.into_any())
    }
}

impl<O: Operation> fmt::Debug for Prepared<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("empty", &self.moves_nothing()).finish_non_exhaustive()
    }
}

impl<O: Operation> Future for Op<O> {
    type Output = O::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<O::Output> {
        let key = self.key.expect("an Op was polled after it ended");
        let claimed = key.here(|lp, key| lp.driver.claim(key, cx.waker()));
        let Some(result) = claimed else { current::away("an operation") };
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
        key.on_loop(|lp, key| lp.driver.abandon(key));
    }
}

impl<O: Operation> fmt::Debug for Op<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Op").field("key", &self.key).finish()
    }
}
