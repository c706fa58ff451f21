//! A result that is set later (asyncio `Future`), as two ends.

use std::{
    cell::{Cell, RefCell},
    error::Error,
    fmt,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use crate::{
    calls::call_soon,
    event_loop::{
        current::{self, Loop},
        exception,
    },
    scheduler::loop_id::LoopId,
};

/// A result that is set later (asyncio `loop.create_future`): one end sets it, the other awaits it.
///
/// ```
/// corio_runtime::run(async {
///     let (resolver, future) = corio_runtime::create_future();
///     corio_runtime::call_soon(move || resolver.set_result("done").unwrap());
///     assert_eq!(future.await, Ok("done"));
/// });
/// ```
pub fn create_future<T>() -> (Resolver<T>, LoopFuture<T>) {
    let state = RefCell::new(State::Pending { waker: None, callbacks: Vec::new() });
    let shared = Rc::new(Shared { state, cancelled: Cell::new(false) });
    (Resolver { shared: Rc::clone(&shared) }, LoopFuture { shared })
}

/// A callback, with the loop on which it was added.
type Callback = (Option<LoopId>, Box<dyn FnOnce()>);

enum State<T> {
    Pending {
        waker: Option<Waker>,
        callbacks: Vec<Callback>,
    },
    /// `None` once the result was returned.
    Done(Option<Result<T, Cancelled>>),
}

struct Shared<T> {
    state: RefCell<State<T>>,
    cancelled: Cell<bool>,
}

impl<T> Shared<T> {
    fn done(&self) -> bool {
        matches!(*self.state.borrow(), State::Done(_))
    }

    /// Sets the outcome: wakes the waiting task, and calls the callbacks in the next turn. If there is an outcome
    /// already, returns the new one as `Err`.
    fn settle(&self, outcome: Result<T, Cancelled>) -> Result<(), Result<T, Cancelled>> {
        if self.done() {
            return Err(outcome);
        }
        self.cancelled.set(outcome.is_err());
        if let State::Pending { waker, callbacks } = self.state.replace(State::Done(Some(outcome))) {
            waker.into_iter().for_each(exception::wake);
            // A closed loop calls none of them.
            for (home, callback) in callbacks {
                let call = |lp: &Loop| {
                    lp.call_now(callback, None);
                };
                match home {
                    Some(home) => current::at_home(home, call),
                    None => current::try_with(call),
                };
            }
        }
        Ok(())
    }
}

/// The end that sets the result. Dropping it without a result cancels the future.
pub struct Resolver<T> {
    shared: Rc<Shared<T>>,
}

impl<T> Resolver<T> {
    /// Sets the result; the waiting task continues in the next turn (asyncio `set_result`).
    ///
    /// # Errors
    /// [`InvalidState`] with the value, if the future has a result or was cancelled.
    pub fn set_result(&self, value: T) -> Result<(), InvalidState<T>> {
        self.shared.settle(Ok(value)).map_err(|refused| InvalidState { value: refused.ok() })
    }

    /// Cancels the future. Returns `false` if it is done.
    pub fn cancel(&self) -> bool {
        self.shared.settle(Err(Cancelled(()))).is_ok()
    }

    /// Whether the future has a result or was cancelled.
    pub fn done(&self) -> bool {
        self.shared.done()
    }
}

impl<T> Drop for Resolver<T> {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl<T> fmt::Debug for Resolver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("done", &self.done()).finish()
    }
}

/// The end that awaits the result, once. Dropping it only drops the result.
///
/// # Panics
/// If polled after completion.
#[must_use = "a result is dropped with its future; await it"]
pub struct LoopFuture<T> {
    shared: Rc<Shared<T>>,
}

impl<T> LoopFuture<T> {
    /// Cancels the future: awaiting it gives [`Cancelled`]. Returns `false` if it is done.
    pub fn cancel(&self) -> bool {
        self.shared.settle(Err(Cancelled(()))).is_ok()
    }

    /// Whether the future has a result or was cancelled.
    pub fn done(&self) -> bool {
        self.shared.done()
    }

    /// Whether it was cancelled.
    pub fn cancelled(&self) -> bool {
        self.shared.cancelled.get()
    }

    /// Calls `f` in the turn after the future is done, on the loop that is running now. Callbacks run in the order in
    /// which they were added (asyncio `add_done_callback`).
    ///
    /// # Panics
    /// If the future is done, outside a running loop.
    pub fn add_done_callback(&self, f: impl FnOnce() + 'static) {
        if let State::Pending { callbacks, .. } = &mut *self.shared.state.borrow_mut() {
            return callbacks.push((current::try_with(Loop::id), Box::new(f)));
        }
        call_soon(f);
    }
}

impl<T> Future for LoopFuture<T> {
    type Output = Result<T, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::Done(outcome) = &mut *self.shared.state.borrow_mut() {
            return Poll::Ready(outcome.take().expect("a LoopFuture was polled after it was ready"));
        }
        let new = cx.waker().clone();
        let mut _old = None;
        if let State::Pending { waker, .. } = &mut *self.shared.state.borrow_mut() {
            _old = waker.replace(new);
        }
        Poll::Pending
    }
}

impl<T> fmt::Debug for LoopFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.done(), self.cancelled()) {
            (false, _) => "pending",
            (true, false) => "finished",
            (true, true) => "cancelled",
        };
        f.debug_struct("LoopFuture").field("state", &state).finish()
    }
}

/// The future was cancelled, or its resolver was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled(());

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the future was cancelled")
    }
}

impl Error for Cancelled {}

impl From<Cancelled> for io::Error {
    fn from(e: Cancelled) -> io::Error {
        io::Error::other(e)
    }
}

/// The future has a result or was cancelled; holds the refused value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InvalidState<T> {
    value: Option<T>,
}

impl<T> InvalidState<T> {
    /// The value that was not set.
    pub fn into_inner(self) -> T {
        self.value.expect("only a refused value makes this error")
    }
}

impl<T> fmt::Debug for InvalidState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InvalidState")
    }
}

impl<T> fmt::Display for InvalidState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid state: the future is done")
    }
}

impl<T> Error for InvalidState<T> {}

impl<T> From<InvalidState<T>> for io::Error {
    fn from(e: InvalidState<T>) -> io::Error {
        io::Error::other(e.to_string())
    }
}
