//! Many futures inside one task, each polled when it was woken: what `gather` and its kin stand on.
//!
//! A future is boxed when it is first polled, so one that is ready then costs no lasting memory. Few futures are
//! all polled on each wake; many get a waker of their own once they have had to wait.

use std::{
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
    vec,
};

/// Up to so many futures are all polled whenever one was woken.
const FEW: usize = 8;

/// See the head of the file.
pub(crate) struct Many<F> {
    fresh: vec::IntoIter<F>,
    /// By the order in which they came; `None` is over.
    children: Vec<Option<Child<F>>>,
    live: usize,
    woken: Option<Arc<Woken>>,
    /// Every child that waits has its own waker.
    apart: bool,
}

struct Child<F> {
    future: Pin<Box<F>>,
    waker: Option<Waker>,
}

impl<F: Future> Many<F> {
    pub(crate) fn new(futures: impl IntoIterator<Item = F>) -> Many<F> {
        let fresh = futures.into_iter().collect::<Vec<_>>().into_iter();
        Many { live: fresh.len(), fresh, children: Vec::new(), woken: None, apart: false }
    }

    /// Futures that are not over.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    pub(crate) fn push(&mut self, future: F) {
        if self.live == 0 {
            (self.children, self.woken) = (Vec::new(), None);
        }
        self.children.push(Some(Child { future: Box::pin(future), waker: None }));
        self.live += 1;
        self.apart = false;
    }

    /// Polls those that may go on, and gives each output to `done` with its place.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut done: impl FnMut(usize, F::Output) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if self.fresh.len() > 0 {
            return self.poll_fresh(cx, done);
        }
        if self.live <= FEW && self.woken.is_none() {
            return self.poll_all(cx, done);
        }
        let woken = Arc::clone(self.woken.get_or_insert_default());
        woken.set_parent(cx.waker());
        if !self.apart {
            self.apart = true;
            return self.poll_all_apart(&woken, done);
        }
        for place in woken.take() {
            self.poll_one(place, &mut done)?;
        }
        ControlFlow::Continue(())
    }

    fn poll_fresh(
        &mut self,
        cx: &mut Context<'_>,
        mut done: impl FnMut(usize, F::Output) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        while let Some(future) = self.fresh.next() {
            let mut future = Box::pin(future);
            let place = self.children.len();
            match future.as_mut().poll(cx) {
                Poll::Pending => self.children.push(Some(Child { future, waker: None })),
                Poll::Ready(output) => {
                    self.children.push(None);
                    self.live -= 1;
                    drop(future);
                    done(place, output)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// With the waker of the task itself.
    fn poll_all(
        &mut self,
        cx: &mut Context<'_>,
        mut done: impl FnMut(usize, F::Output) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for place in 0..self.children.len() {
            let Some(child) = &mut self.children[place] else { continue };
            if let Poll::Ready(output) = child.future.as_mut().poll(cx) {
                self.over(place);
                done(place, output)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// From now on each has its own waker.
    fn poll_all_apart(
        &mut self,
        woken: &Arc<Woken>,
        mut done: impl FnMut(usize, F::Output) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for place in 0..self.children.len() {
            if let Some(child) = &mut self.children[place] {
                let own = || Arc::new(ChildWaker { woken: Arc::clone(woken), place }).into();
                child.waker.get_or_insert_with(own);
                self.poll_one(place, &mut done)?;
            }
        }
        ControlFlow::Continue(())
    }

    fn poll_one(
        &mut self,
        place: usize,
        done: &mut dyn FnMut(usize, F::Output) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Some(Some(Child { future, waker: Some(waker) })) = self.children.get_mut(place) else {
            return ControlFlow::Continue(());
        };
        match future.as_mut().poll(&mut Context::from_waker(waker)) {
            Poll::Pending => ControlFlow::Continue(()),
            Poll::Ready(output) => {
                self.over(place);
                done(place, output)
            }
        }
    }

    fn over(&mut self, place: usize) {
        let child = self.children[place].take();
        self.live -= 1;
        drop(child);
    }
}

/// The children that were woken, from any thread.
#[derive(Default)]
struct Woken(Mutex<WokenInner>);

#[derive(Default)]
struct WokenInner {
    places: Vec<usize>,
    parent: Option<Waker>,
}

impl Woken {
    fn set_parent(&self, waker: &Waker) {
        let known = |inner: &WokenInner| inner.parent.as_ref().is_some_and(|w| w.will_wake(waker));
        if known(&self.0.lock().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let waker = waker.clone();
        let old = self.0.lock().unwrap_or_else(PoisonError::into_inner).parent.replace(waker);
        drop(old);
    }

    fn take(&self) -> Vec<usize> {
        let mut places = {
            let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut inner.places)
        };
        // One that was woken twice is polled once, in the order of the first wake.
        if places.len() > 1 {
            let mut seen = std::collections::HashSet::with_capacity(places.len());
            places.retain(|place| seen.insert(*place));
        }
        places
    }

    fn wake(&self, place: usize) {
        let parent = {
            let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            inner.places.push(place);
            // One wake is enough for all that come before the next look.
            if inner.places.len() == 1 { inner.parent.clone() } else { None }
        };
        if let Some(parent) = parent {
            parent.wake();
        }
    }
}

struct ChildWaker {
    woken: Arc<Woken>,
    place: usize,
}

impl Wake for ChildWaker {
    fn wake(self: Arc<Self>) {
        self.woken.wake(self.place);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.wake(self.place);
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;
    use crate::{run, yield_now};

    #[test]
    fn many_futures_are_polled_only_when_woken() {
        for (count, most) in [(4, usize::MAX), (100, 3)] {
            let polls = Rc::new(Cell::new(0));
            run(async {
                let futures = (0..count).map(|n| {
                    let polls = polls.clone();
                    async move {
                        // Only the first one needs many turns.
                        let mut rest = std::pin::pin!(async {
                            for _ in 0..if n == 0 { 50 } else { 1 } {
                                yield_now().await;
                            }
                        });
                        std::future::poll_fn(|cx| {
                            if n == 1 {
                                polls.set(polls.get() + 1);
                            }
                            rest.as_mut().poll(cx)
                        })
                        .await;
                        n
                    }
                });
                let mut many = Many::new(futures);
                let mut outputs = Vec::new();
                std::future::poll_fn(|cx| {
                    let _ = many.poll(cx, |place, output| {
                        assert_eq!(place, output);
                        outputs.push(output);
                        ControlFlow::Continue(())
                    });
                    if many.live() == 0 { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
                assert_eq!((outputs.len(), outputs.last()), (count, Some(&0)));
            });
            assert!(polls.get() <= most, "{} polls of one that was ready after two", polls.get());
        }
    }
}
