//! `catch_cancel`: what `except CancelledError` is in asyncio.

use std::{
    fmt,
    future::{Future, pending},
    io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use crate::{
    event_loop::{
        current::{self, Loop},
        ends::Leftovers,
    },
    scheduler::{catch_scopes::ScopeKey, homed::Homed},
};

/// Runs `future`, and catches a cancel of the task (asyncio `except CancelledError`): `future` is dropped where it is
/// suspended, its cleanups are awaited, and the result is [`Cancelled`], once. The task goes on: it may await, return a
/// value, or end by [`Cancelled::resume`].
///
/// Of nested scopes the innermost one gets the cancel; a second cancel, while its handler runs, goes to the next one
/// further out. (One that comes before, while cleanups of `future` still run, is caught with the first.) Of scopes side
/// by side (in a `gather`) each gets it, and branches without a scope run on. A timeout or a failing group around the
/// scope reaches it in the same way; if the handler then returns a value, that is the result of the timeout. A cancel
/// that comes before the first poll is not caught. At the end of [`run`](crate::run), which cancels all tasks, a task
/// that catches has as much time as a cleanup, then it is dropped.
///
/// ```
/// use corio_runtime::{catch_cancel, create_task, time::{Duration, sleep}, yield_now};
/// corio_runtime::run(async {
///     let task = create_task(async {
///         match catch_cancel(std::future::pending::<u32>()).await {
///             Ok(value) => value,
///             Err(_cancelled) => {
///                 sleep(Duration::from_millis(1)).await;
///                 7
///             }
///         }
///     });
///     yield_now().await;
///     assert!(task.cancel());
///     assert_eq!(task.await.unwrap(), 7);
/// });
/// ```
///
/// Dropping this drops `future`. Outside a task nothing is caught, nor on another loop than that of the first poll.
pub fn catch_cancel<F: Future>(future: F) -> CatchCancel<F> {
    CatchCancel { future: Some(future), state: State::Fresh }
}

const OVER: &str = "CatchCancel was polled after it was ready";

pin_project! {
    /// The future of [`catch_cancel`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct CatchCancel<F> {
        #[pin]
        future: Option<F>,
        state: State,
    }
}

enum State {
    Fresh,
    Entered(EnteredCatch),
    /// It caught a cancel, and waits for what its future left behind. Further cancels make no difference then.
    Caught(EnteredCatch, Leftovers),
    /// It is not in a task.
    Outside,
}

impl<F: Future> Future for CatchCancel<F> {
    type Output = Result<F::Output, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let State::Fresh = this.state {
            *this.state = EnteredCatch::enter(false).map_or(State::Outside, State::Entered);
        }
        let scope = match this.state {
            State::Caught(scope, left) => {
                if scope.takes_first() {
                    scope.take();
                }
                scope.wait(cx);
                ready!(left.poll(cx));
                *this.state = State::Outside;
                return Poll::Ready(Err(Cancelled(())));
            }
            State::Entered(scope) if scope.takes_first() => None,
            State::Entered(scope) => Some(&*scope),
            State::Fresh | State::Outside => {
                let future = this.future.as_mut().as_pin_mut().expect(OVER);
                return future.poll(cx).map(Ok);
            }
        };
        if let Some(scope) = scope {
            let future = this.future.as_mut().as_pin_mut().expect(OVER);
            let (polled, takes) = scope.poll_or_take(|| future.poll(cx));
            match polled {
                _ if takes => {}
                Poll::Pending => {
                    scope.wait(cx);
                    return Poll::Pending;
                }
                Poll::Ready(value) => {
                    this.future.set(None);
                    *this.state = State::Outside;
                    return Poll::Ready(Ok(value));
                }
            }
        }
        let State::Entered(scope) = mem::replace(this.state, State::Outside) else {
            unreachable!("it is entered")
        };
        scope.take();
        let Some(left) = Leftovers::of_ended(|| this.future.set(None)) else {
            return Poll::Ready(Err(Cancelled(())));
        };
        let over = left.poll(cx).map(|()| Err(Cancelled(())));
        scope.wait(cx);
        if over.is_pending() {
            *this.state = State::Caught(scope, left);
        }
        over
    }
}

impl<F> fmt::Debug for CatchCancel<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatchCancel").finish_non_exhaustive()
    }
}

/// A cancel that [`catch_cancel`] caught. Dropping it refuses the cancel: the task goes on.
#[must_use = "dropping it refuses the cancel; `resume` goes on with it"]
#[derive(Debug, PartialEq, Eq)]
pub struct Cancelled(());

impl Cancelled {
    /// Goes on with the cancel, as asyncio's `raise` in an `except CancelledError`: the next scope further out catches
    /// it; without one the task ends here.
    ///
    /// ```
    /// use corio_runtime::{TaskError, catch_cancel, create_task, yield_now};
    /// corio_runtime::run(async {
    ///     let task = create_task(async {
    ///         if let Err(cancelled) = catch_cancel(std::future::pending::<()>()).await {
    ///             yield_now().await; // cleans up
    ///             cancelled.resume().await;
    ///         }
    ///     });
    ///     yield_now().await;
    ///     task.cancel();
    ///     assert!(matches!(task.await, Err(TaskError::Cancelled)));
    /// });
    /// ```
    pub async fn resume(self) -> ! {
        current::try_with(|lp| lp.tasks.resume());
        pending().await
    }
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the task was cancelled")
    }
}

impl std::error::Error for Cancelled {}

impl From<Cancelled> for io::Error {
    fn from(e: Cancelled) -> io::Error {
        io::Error::other(e)
    }
}

/// A scope that its task is in, until dropped.
#[derive(Debug)]
pub(crate) struct EnteredCatch(Homed<ScopeKey>);

impl EnteredCatch {
    fn enter(around: bool) -> Option<EnteredCatch> {
        current::try_with(|lp| lp.tasks.enter_catch(around).map(|key| EnteredCatch(lp.homed(key)))).flatten()
    }

    /// A scope for what is to be ended, if another one may be inside. As long as it is entered, that counts as a cancel
    /// of the task.
    pub(crate) fn around_others() -> Option<EnteredCatch> {
        let may_catch = current::peek(|lp| lp.tasks.may_catch()).unwrap_or(false);
        let scope = if may_catch { EnteredCatch::enter(true)? } else { return None };
        scope.0.here(|lp, key| lp.tasks.count_ending(key));
        Some(scope)
    }

    fn takes_first(&self) -> bool {
        let takes = |lp: &Loop, key| {
            lp.tasks.move_catch(key);
            lp.tasks.scopes.takes_first(key)
        };
        self.0.here(takes).unwrap_or(false)
    }

    /// Polls what is inside by `poll`. Returns whether the scope is to take a cancel.
    fn poll_or_take<T>(&self, poll: impl FnOnce() -> Poll<T>) -> (Poll<T>, bool) {
        let mut poll = Some(poll);
        let inside = |lp: &Loop, key| Some(lp.tasks.scopes.poll_inside(key, poll.take()?));
        let polled = self.0.here(inside).flatten();
        polled.unwrap_or_else(|| (poll.take().map_or(Poll::Pending, |poll| poll()), false))
    }

    /// The next cancel wakes `cx`.
    fn wait(&self, cx: &Context<'_>) {
        self.0.here(|lp, key| lp.tasks.scopes.wait(key, cx));
    }

    /// Polls what is inside by `poll`. Returns whether a cancel was resumed there.
    pub(crate) fn poll<T>(&self, poll: impl FnOnce() -> Poll<T>) -> (Poll<T>, bool) {
        let mut poll = Some(poll);
        let inside = |lp: &Loop, key| {
            lp.tasks.move_catch(key);
            let polled = lp.tasks.scopes.poll_within(key, poll.take()?);
            Some((polled, lp.tasks.scopes.take_resumed(key)))
        };
        let polled = self.0.here(inside).flatten();
        polled.unwrap_or_else(|| (poll.take().map_or(Poll::Pending, |poll| poll()), false))
    }

    /// Polls what is inside by `poll` with a cancel for the scopes there. Returns whether one of them took it, and
    /// whether it was resumed.
    pub(crate) fn deliver<T>(&self, poll: impl FnOnce() -> Poll<T>) -> Option<(Poll<T>, bool, bool)> {
        self.0.here(|lp, key| lp.tasks.deliver_inside(key, poll)).flatten()
    }

    /// Leaves the scope before it is dropped.
    pub(crate) fn leave(&self) {
        self.0.here(|lp, key| lp.tasks.leave_catch(key));
    }

    /// Takes the cancel. Every wait for a task to which it was passed is over.
    fn take(&self) {
        self.0.here(|lp, _| lp.tasks.take_cancel());
    }
}

impl Drop for EnteredCatch {
    fn drop(&mut self) {
        self.0.on_loop(|lp, key| lp.tasks.leave_catch(key));
    }
}
