//! `Endable`: a future that can be ended from outside, by a deadline or by its group.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use crate::{event_loop::ends::Leftovers, task::catch::EnteredCatch};

pin_project! {
    /// See the head of the file.
    pub(crate) struct Endable<F> {
        #[pin]
        future: Option<F>,
        state: State,
    }
}

enum State {
    Open,
    /// It is ended, but a scope of `catch_cancel` inside took the cancel: the future runs on, and its output counts. This
    /// scope is around it, and gets the cancel if that is resumed.
    Caught(EnteredCatch),
    /// It is ended, and the future was dropped.
    Dropped(Leftovers),
}

impl<F: Future> Endable<F> {
    pub(crate) fn new(future: F) -> Endable<F> {
        Endable { future: Some(future), state: State::Open }
    }

    /// Whether [`end`](Endable::end) was called.
    #[inline(always)]
    pub(crate) fn is_ended(&self) -> bool {
        !matches!(self.state, State::Open)
    }

    /// Its output; `None` once it was ended and what it left behind has ended.
    #[inline(always)]
    pub(crate) fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let this = self.as_mut().project();
        if let (State::Open, Some(future)) = (&*this.state, this.future.as_pin_mut()) {
            return future.poll(cx).map(Some);
        }
        self.poll_ended(cx)
    }

    #[cold]
    #[inline(never)]
    fn poll_ended(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let this = self.as_mut().project();
        match (&*this.state, this.future.as_pin_mut()) {
            (State::Dropped(left), _) => return left.poll(cx).map(|()| None),
            (State::Caught(scope), Some(future)) => {
                let (polled, resumed) = scope.poll(|| future.poll(cx));
                if !resumed {
                    if polled.is_ready() {
                        *this.state = State::Open;
                    }
                    return polled.map(Some);
                }
            }
            (State::Open | State::Caught(_), _) => panic!("polled after it was ready"),
        }
        self.drop_future(cx)
    }

    /// Ends it: a scope of `catch_cancel` inside may take that as a cancel; else the future is dropped. Returns what
    /// `poll` returns from now on.
    #[cold]
    #[inline(never)]
    pub(crate) fn end(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let this = self.as_mut().project();
        if let (Some(scope), Some(future)) = (EnteredCatch::around_others(), this.future.as_pin_mut())
            && let Some((polled, taken, resumed)) = scope.deliver(|| future.poll(cx))
            && (taken || polled.is_ready())
            && !resumed
        {
            if polled.is_pending() {
                *this.state = State::Caught(scope);
            }
            return polled.map(Some);
        }
        self.drop_future(cx)
    }

    fn drop_future(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let mut this = self.project();
        *this.state = State::Open;
        let Some(left) = Leftovers::of_ended(|| this.future.set(None)) else { return Poll::Ready(None) };
        let polled = left.poll(cx).map(|()| None);
        *this.state = State::Dropped(left);
        polled
    }
}
