//! A channel for one value, from one task to another.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use crate::error::error;

/// A channel for one value.
///
/// ```
/// # futures::executor::block_on(async {
/// let (sender, receiver) = corio_sync::oneshot::channel();
/// assert_eq!(sender.send(7), Ok(()));
/// assert_eq!(receiver.await, Ok(7));
/// # });
/// ```
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Rc::new(Shared { value: RefCell::new(None), waker: RefCell::new(None), open: Cell::new(2) });
    (Sender { shared: Rc::clone(&shared) }, Receiver { shared })
}

struct Shared<T> {
    value: RefCell<Option<T>>,
    waker: RefCell<Option<Waker>>,
    /// Ends that still exist.
    open: Cell<u8>,
}

impl<T> Shared<T> {
    fn other_end_is_gone(&self) -> bool {
        self.open.get() < 2
    }

    fn wake(&self) {
        let waker = self.waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Sends the value. If it is dropped without sending, the receiver gets [`RecvError`].
pub struct Sender<T> {
    shared: Rc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Sends `value`.
    ///
    /// # Errors
    /// Returns the value if the receiver was dropped.
    pub fn send(self, value: T) -> Result<(), T> {
        if self.is_closed() {
            return Err(value);
        }
        self.shared.value.replace(Some(value));
        Ok(())
    }

    /// Whether the receiver was dropped.
    pub fn is_closed(&self) -> bool {
        self.shared.other_end_is_gone()
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.open.set(self.shared.open.get() - 1);
        self.shared.wake();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("closed", &self.is_closed()).finish()
    }
}

/// Waits for the value. Dropping it drops a value already sent.
#[must_use = "a value that is sent is dropped with its receiver; await it"]
pub struct Receiver<T> {
    shared: Rc<Shared<T>>,
}

impl<T> Receiver<T> {
    /// The value, if it was sent.
    ///
    /// # Errors
    /// [`RecvError`] if the sender was dropped without sending, or the value was taken before.
    pub fn try_recv(&mut self) -> Result<Option<T>, RecvError> {
        match self.shared.value.take() {
            Some(value) => Ok(Some(value)),
            None if self.shared.other_end_is_gone() => Err(RecvError(())),
            None => Ok(None),
        }
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.try_recv() {
            Ok(Some(value)) => Poll::Ready(Ok(value)),
            Err(e) => Poll::Ready(Err(e)),
            Ok(None) => {
                let waker = cx.waker().clone();
                let old = self.shared.waker.replace(Some(waker));
                drop(old);
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.open.set(self.shared.open.get() - 1);
        drop(self.shared.value.take());
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("sender_gone", &self.shared.other_end_is_gone()).finish()
    }
}

/// No value will come: the sender was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecvError(());

error!(RecvError, BrokenPipe, "the sender was dropped without sending");
