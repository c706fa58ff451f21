//! Many futures in one task, the base of `gather` and others. Each is polled when woken, in the order of the wakes.
//!
//! A future is boxed for its first poll. One that is ready at once is freed right away, and the next future reuses its
//! waker, unless a clone was kept.

use std::{
    collections::VecDeque,
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

use crate::scheduler::slab::smaller;

/// See the head of the file.
pub(crate) struct Many<F> {
    fresh: vec::IntoIter<F>,
    /// By order of arrival; `None` for a finished future.
    children: Vec<Option<Child<F>>>,
    live: usize,
    woken: Arc<Woken>,
    /// Woken futures that were taken from `woken` and not polled yet.
    due: VecDeque<usize>,
    /// Slots for reuse.
    free: Vec<usize>,
}

struct Child<F> {
    future: Pin<Box<F>>,
    waker: ChildWaker,
}

impl<F: Future> Many<F> {
    pub(crate) fn new(futures: impl IntoIterator<Item = F>) -> Many<F> {
        let fresh = futures.into_iter().collect::<Vec<_>>().into_iter();
        let (children, due, free) = (Vec::new(), VecDeque::new(), Vec::new());
        Many { live: fresh.len(), fresh, children, woken: Arc::default(), due, free }
    }

    /// Number of unfinished futures.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// Adds a future. It counts as woken.
    pub(crate) fn push(&mut self, future: F) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.children.push(None);
            self.children.len() - 1
        });
        // A late wake of the slot's former future polls this one needlessly, which futures allow.
        let waker = ChildWaker::new(&self.woken, place);
        waker.waker.wake_by_ref();
        self.children[place] = Some(Child { future: Box::pin(future), waker });
        self.live += 1;
    }

    /// Polls the woken futures, and passes each output with its place to `done`, until that breaks.
    pub(crate) fn poll<B>(
        &mut self,
        cx: &mut Context<'_>,
        mut done: impl FnMut(usize, F::Output) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        self.woken.set_parent(cx.waker());
        if self.fresh.len() > 0 {
            // Futures that wake themselves here are polled next time.
            return self.poll_fresh(&mut done);
        }
        self.due.extend(self.woken.take());
        while let Some(place) = self.due.pop_front() {
            self.poll_one(place, &mut done)?;
        }
        ControlFlow::Continue(())
    }

    /// Polls the woken futures, and passes each output with its place to `each`.
    pub(crate) fn poll_all(&mut self, cx: &mut Context<'_>, mut each: impl FnMut(usize, F::Output)) {
        let _ = self.poll(cx, |place, output| {
            each(place, output);
            ControlFlow::<()>::Continue(())
        });
    }

    fn poll_fresh<B>(&mut self, done: &mut dyn FnMut(usize, F::Output) -> ControlFlow<B>) -> ControlFlow<B> {
        let mut spare: Option<ChildWaker> = None;
        for future in self.fresh.by_ref() {
            let mut future = Box::pin(future);
            let place = self.children.len();
            let waker = match spare.take() {
                Some(waker) => waker.moved_to(place),
                None => ChildWaker::new(&self.woken, place),
            };
            // Counts as finished until it is pending: it may panic.
            self.children.push(None);
            self.live -= 1;
            match future.as_mut().poll(&mut Context::from_waker(&waker.waker)) {
                Poll::Pending => {
                    self.children[place] = Some(Child { future, waker });
                    self.live += 1;
                }
                Poll::Ready(output) => {
                    drop(future);
                    spare = Some(waker).filter(ChildWaker::is_ours_alone);
                    done(place, output)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// No future is left: frees much memory. A place in `due` was woken late.
    fn tidy(&mut self) {
        if smaller(self.children.capacity(), 0, size_of::<Option<Child<F>>>()).is_some() {
            (self.children, self.free) = (Vec::new(), Vec::new());
        }
    }

    fn poll_one<B>(
        &mut self,
        place: usize,
        done: &mut dyn FnMut(usize, F::Output) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let Some(mut child) = self.children.get_mut(place).and_then(Option::take) else {
            return ControlFlow::Continue(());
        };
        self.live -= 1;
        child.waker.target.queued.store(false, Ordering::SeqCst);
        match child.future.as_mut().poll(&mut Context::from_waker(&child.waker.waker)) {
            Poll::Pending => {
                self.children[place] = Some(child);
                self.live += 1;
                ControlFlow::Continue(())
            }
            Poll::Ready(output) => {
                drop(child);
                self.free.push(place);
                if self.live == 0 {
                    self.tidy();
                }
                done(place, output)
            }
        }
    }
}

/// The woken futures, from any thread, in order.
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
            // One wake of the parent covers all places that are added before the next `take`.
            if inner.places.len() == 1 { inner.parent.clone() } else { None }
        };
        if let Some(parent) = parent {
            parent.wake();
        }
    }
}

/// A future's waker, and the waker's target.
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

    /// Whether the waker was neither cloned nor used.
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
    use crate::{event_loop::drive::run, task::yield_now};

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
                    many.poll_all(cx, |place, output| {
                        assert_eq!(place, output);
                        outputs.push(output);
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
