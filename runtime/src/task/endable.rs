//! Ending a future from outside, by a deadline or by its group.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use crate::{
    event_loop::{current, ends::Leftovers},
    task::catch::EnteredCatch,
};

/// What came of ending a future.
#[derive(Debug)]
pub(crate) enum Ending {
    /// A scope of `catch_cancel` inside took that as a cancel: the future runs on, and its output counts. This scope is
    /// around it, and gets the cancel if that is resumed.
    Caught(EnteredCatch),
    /// The future was dropped.
    Dropped(Leftovers),
    /// The same; and the task was cancelled meanwhile, which goes on further out. Who drops this waits for the
    /// leftovers.
    Cancelled(#[expect(dead_code, reason = "kept to be dropped later")] Option<Leftovers>),
}

/// The output of a future that was ended: `None` if it was dropped and what it left behind has ended.
pub(crate) type Ended<T> = Result<Option<T>, Ending>;

impl Ending {
    /// Ends `future`: a scope inside may take that as a cancel, else it is dropped. An error if that takes longer. If
    /// `entered` is given, and the task was cancelled since that was the loop's latest request, it goes on with the
    /// cancel.
    #[cold]
    #[inline(never)]
    pub(crate) fn begin<F: Future>(
        mut future: Pin<&mut Option<F>>,
        entered: Option<u32>,
        cx: &mut Context<'_>,
    ) -> Ended<F::Output> {
        if let (Some(scope), Some(inside)) = (EnteredCatch::around_others(), future.as_mut().as_pin_mut())
            && let Some((polled, taken, resumed)) = scope.deliver(|| inside.poll(cx))
            && !resumed
        {
            match polled {
                Poll::Ready(output) => return Ok(Some(output)),
                Poll::Pending if taken => return Err(Ending::Caught(scope)),
                Poll::Pending => {}
            }
        }
        Ending::drop(future, entered, cx)
    }

    /// Polls on.
    #[cold]
    #[inline(never)]
    pub(crate) fn poll<F: Future>(
        &mut self,
        mut future: Pin<&mut Option<F>>,
        entered: Option<u32>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<F::Output>> {
        match (&*self, future.as_mut().as_pin_mut()) {
            (Ending::Caught(scope), Some(inside)) => {
                let (polled, resumed) = scope.poll(|| inside.poll(cx));
                if !resumed {
                    if polled.is_ready() {
                        scope.leave();
                    }
                    return polled.map(Some);
                }
                scope.leave();
            }
            (Ending::Dropped(left), _) => return left.poll(cx).map(|()| None),
            (Ending::Cancelled(_), _) => return Poll::Pending,
            (Ending::Caught(_), None) => panic!("polled after it was ready"),
        }
        match Ending::drop(future, entered, cx) {
            Ok(output) => Poll::Ready(output),
            Err(dropped) => {
                *self = dropped;
                Poll::Pending
            }
        }
    }

    fn drop<F: Future>(
        mut future: Pin<&mut Option<F>>,
        entered: Option<u32>,
        cx: &Context<'_>,
    ) -> Ended<F::Output> {
        let left = Leftovers::of_ended(|| future.set(None));
        let is_cancelled = |entered| current::peek(|lp| lp.tasks.is_cancelled_since(entered));
        if entered.and_then(is_cancelled) == Some(true) {
            current::try_with(|lp| lp.tasks.resume());
            return Err(Ending::Cancelled(left));
        }
        match left {
            Some(left) if left.poll(cx).is_pending() => Err(Ending::Dropped(left)),
            Some(_) | None => Ok(None),
        }
    }
}

pin_project! {
    /// A future that can be ended.
    pub(crate) struct Endable<F> {
        #[pin]
        future: Option<F>,
        entered: Option<u32>,
        ending: Option<Ending>,
    }
}

impl<F: Future> Endable<F> {
    /// `entered` as for [`Ending::begin`].
    pub(crate) fn new(future: F, entered: Option<u32>) -> Endable<F> {
        Endable { future: Some(future), entered, ending: None }
    }

    /// Whether [`end`](Endable::end) was called and is not over.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Its output; `None` once it was dropped and what it left behind has ended.
    pub(crate) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let this = self.project();
        match this.ending {
            Some(ending) => ending.poll(this.future, *this.entered, cx),
            None => this.future.as_pin_mut().expect("it is not ended").poll(cx).map(Some),
        }
    }

    /// Ends it. Returns what `poll` returns from now on.
    pub(crate) fn end(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let this = self.project();
        match Ending::begin(this.future, *this.entered, cx) {
            Ok(output) => Poll::Ready(output),
            Err(ending) => {
                *this.ending = Some(ending);
                Poll::Pending
            }
        }
    }
}
