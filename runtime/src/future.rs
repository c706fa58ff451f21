//! A result that will be given later (asyncio `Future`), as its two ends.

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

/// A result to come (asyncio `loop.create_future`): one end sets it, the other awaits it.
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

/// A callback, and the loop that it was added on.
type Callback = (Option<LoopId>, Box<dyn FnOnce()>);

enum State<T> {
    Pending {
        waker: Option<Waker>,
        callbacks: Vec<Callback>,
    },
    /// `None` once it was given.
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

    /// The end: wakes who waits, and calls the callbacks in the next turn. `Err` gives a second outcome back.
    fn settle(&self, outcome: Result<T, Cancelled>) -> Result<(), Result<T, Cancelled>> {
        if self.done() {
            return Err(outcome);
        }
        self.cancelled.set(outcome.is_err());
        if let State::Pending { waker, callbacks } = self.state.replace(State::Done(Some(outcome))) {
            waker.into_iter().for_each(exception::wake);
            // After the loop's end there is nobody to call them.
            for (home, callback) in callbacks {
                let call = |lp: &Loop| {
                    lp.call_now(callback);
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

/// The end that sets the result. Dropped before that, it cancels the future.
pub struct Resolver<T> {
    shared: Rc<Shared<T>>,
}

impl<T> Resolver<T> {
    /// Sets the result; who awaits it goes on in the next turn (asyncio `set_result`).
    ///
    /// # Errors
    /// [`InvalidState`] with the value, if there is a result already or the future was cancelled.
    pub fn set_result(&self, value: T) -> Result<(), InvalidState<T>> {
        self.shared.settle(Ok(value)).map_err(|refused| InvalidState { value: refused.ok() })
    }

    /// Cancels the future; `false` if it is done.
    pub fn cancel(&self) -> bool {
        self.shared.settle(Err(Cancelled(()))).is_ok()
    }

    /// Whether there is a result, or the future was cancelled.
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

/// The end that awaits the result, once. Dropping it has no effect but that the result is dropped.
///
/// # Panics
/// When it is polled after it was ready.
#[must_use = "a result is dropped with its future; await it"]
pub struct LoopFuture<T> {
    shared: Rc<Shared<T>>,
}

impl<T> LoopFuture<T> {
    /// Cancels it: whoever awaits it gets [`Cancelled`]. `false` if it is done.
    pub fn cancel(&self) -> bool {
        self.shared.settle(Err(Cancelled(()))).is_ok()
    }

    /// Whether there is a result, or it was cancelled.
    pub fn done(&self) -> bool {
        self.shared.done()
    }

    /// Whether it was cancelled.
    pub fn cancelled(&self) -> bool {
        self.shared.cancelled.get()
    }

    /// Calls `f` in the turn after it is done, on the loop that runs now, in the order of these calls (asyncio
    /// `add_done_callback`).
    ///
    /// # Panics
    /// Outside a running loop, if it is done.
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

/// The future has a result already, or was cancelled: the value comes back.
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
