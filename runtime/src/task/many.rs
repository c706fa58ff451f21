//! Many futures inside one task, each polled when it was woken, in the order of the wakes: what `gather` and its kin
//! stand on.
//!
//! A future is boxed when it is first polled, so one that is ready then costs no lasting memory; nor does its waker,
//! which the next one uses if nobody kept it.

use std::{
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    vec,
};

/// See the head of the file.
pub(crate) struct Many<F> {
    fresh: vec::IntoIter<F>,
    /// By the order in which they came; `None` is over.
    children: Vec<Option<Child<F>>>,
    live: usize,
    woken: Arc<Woken>,
}

struct Child<F> {
    future: Pin<Box<F>>,
    waker: ChildWaker,
}

impl<F: Future> Many<F> {
    pub(crate) fn new(futures: impl IntoIterator<Item = F>) -> Many<F> {
        let fresh = futures.into_iter().collect::<Vec<_>>().into_iter();
        Many { live: fresh.len(), fresh, children: Vec::new(), woken: Arc::default() }
    }

    /// Futures that are not over.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// Adds a future: it is polled with those that were woken.
    pub(crate) fn push(&mut self, future: F) {
        if self.live == 0 {
            (self.children, self.woken) = (Vec::new(), Arc::default());
        }
        let waker = ChildWaker::new(&self.woken, self.children.len());
        waker.waker.wake_by_ref();
        self.children.push(Some(Child { future: Box::pin(future), waker }));
        self.live += 1;
    }

    /// Polls those that may go on, and gives each output to `done` with its place.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut done: impl FnMut(usize, F::Output) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.woken.set_parent(cx.waker());
        if self.fresh.len() > 0 {
            self.poll_fresh(&mut done)?;
        }
        for place in self.woken.take() {
            self.poll_one(place, &mut done)?;
        }
        ControlFlow::Continue(())
    }

    fn poll_fresh(&mut self, done: &mut dyn FnMut(usize, F::Output) -> ControlFlow<()>) -> ControlFlow<()> {
        let mut spare: Option<ChildWaker> = None;
        for future in self.fresh.by_ref() {
            let mut future = Box::pin(future);
            let place = self.children.len();
            let waker = match spare.take() {
                Some(waker) => waker.moved_to(place),
                None => ChildWaker::new(&self.woken, place),
            };
            match future.as_mut().poll(&mut Context::from_waker(&waker.waker)) {
                Poll::Pending => self.children.push(Some(Child { future, waker })),
                Poll::Ready(output) => {
                    self.children.push(None);
                    self.live -= 1;
                    drop(future);
                    spare = Some(waker).filter(ChildWaker::is_ours_alone);
                    done(place, output)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn poll_one(
        &mut self,
        place: usize,
        done: &mut dyn FnMut(usize, F::Output) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Some(Some(Child { future, waker })) = self.children.get_mut(place) else {
            return ControlFlow::Continue(());
        };
        waker.target.queued.store(false, Ordering::SeqCst);
        match future.as_mut().poll(&mut Context::from_waker(&waker.waker)) {
            Poll::Pending => ControlFlow::Continue(()),
            Poll::Ready(output) => {
                let child = self.children[place].take();
                self.live -= 1;
                drop(child);
                done(place, output)
            }
        }
    }
}

/// The children that were woken, from any thread, in order.
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
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).places)
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

/// The waker of one child, and what it wakes.
struct ChildWaker {
    target: Arc<Target>,
    waker: Waker,
}

struct Target {
    woken: Arc<Woken>,
    place: AtomicUsize,
    queued: AtomicBool,
}

impl ChildWaker {
    fn new(woken: &Arc<Woken>, place: usize) -> ChildWaker {
        let (place, queued) = (AtomicUsize::new(place), AtomicBool::new(false));
        let target = Arc::new(Target { woken: Arc::clone(woken), place, queued });
        ChildWaker { waker: Arc::clone(&target).into(), target }
    }

    /// Whether nobody has kept a clone of the waker, nor used it.
    fn is_ours_alone(&self) -> bool {
        Arc::strong_count(&self.target) == 2 && !self.target.queued.load(Ordering::SeqCst)
    }

    fn moved_to(self, place: usize) -> ChildWaker {
        self.target.place.store(place, Ordering::SeqCst);
        self
    }
}

impl Wake for Target {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::SeqCst) {
            self.woken.wake(self.place.load(Ordering::SeqCst));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;
    use crate::{run, yield_now};

    #[test]
    fn many_futures_are_polled_only_when_woken() {
        for (count, most) in [(4, 3), (100, 3)] {
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
