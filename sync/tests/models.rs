//! Random sequences of calls against plain models of the primitives.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use corio_sync::{
    GetError, LifoQueue, OwnedPermit, PriorityQueue, PutError, Queue, QueueShutDown, Semaphore,
};
use proptest::{prelude::*, test_runner::TestCaseResult};

type Boxed<T> = Pin<Box<dyn Future<Output = T>>>;

fn poll<T>(future: &mut Boxed<T>) -> Poll<T> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// A semaphore, and what should be true of it. A lock is a semaphore of one permit.
struct Permits {
    real: Rc<Semaphore>,
    /// `None` once served or cancelled.
    waiting: Vec<Option<Boxed<OwnedPermit>>>,
    held: Vec<OwnedPermit>,
    /// The model: those who wait in order, those whose permit is on its way, and free permits.
    queue: VecDeque<usize>,
    granted: Vec<usize>,
    free: usize,
    /// Permits there are, wherever they are.
    total: usize,
}

impl Permits {
    fn come(&mut self) -> TestCaseResult {
        let mut future: Boxed<OwnedPermit> = Box::pin(self.real.clone().acquire_owned());
        let at_once = self.queue.is_empty() && self.granted.is_empty() && self.free > 0;
        let polled = poll(&mut future);
        prop_assert_eq!(polled.is_ready(), at_once);
        match polled {
            Poll::Ready(permit) => {
                self.free -= 1;
                self.held.push(permit);
            }
            Poll::Pending => {
                self.queue.push_back(self.waiting.len());
                self.waiting.push(Some(future));
            }
        }
        Ok(())
    }

    fn give_back(&mut self, which: usize) {
        if !self.held.is_empty() {
            drop(self.held.remove(which % self.held.len()));
            self.free += 1;
            self.serve();
        }
    }

    fn release(&mut self) {
        self.real.release();
        self.total += 1;
        self.free += 1;
        self.serve();
    }

    fn forget(&mut self) {
        if let Some(permit) = self.held.pop() {
            permit.forget();
            self.total -= 1;
        }
    }

    /// Free permits go to those who wait.
    fn serve(&mut self) {
        while self.free > 0
            && let Some(next) = self.queue.pop_front()
        {
            self.free -= 1;
            self.granted.push(next);
        }
    }

    fn run(&mut self, which: usize) -> TestCaseResult {
        let Some(index) = self.pick(which) else { return Ok(()) };
        let turn = self.granted.iter().position(|granted| *granted == index);
        let polled = self.waiting[index].as_mut().map(poll);
        if let Some(Poll::Ready(permit)) = polled {
            prop_assert!(turn.is_some(), "{index} overtook");
            self.granted.remove(turn.unwrap_or_default());
            self.held.push(permit);
            self.waiting[index] = None;
            self.serve();
        } else {
            prop_assert!(turn.is_none(), "{index} was its turn");
        }
        Ok(())
    }

    fn cancel(&mut self, which: usize) {
        let Some(index) = self.pick(which) else { return };
        self.waiting[index] = None;
        self.queue.retain(|waiting| *waiting != index);
        if let Some(place) = self.granted.iter().position(|granted| *granted == index) {
            self.granted.remove(place);
            self.free += 1;
            self.serve();
        }
    }

    /// One who waits still.
    fn pick(&self, which: usize) -> Option<usize> {
        let left: Vec<_> = (0..self.waiting.len()).filter(|n| self.waiting[*n].is_some()).collect();
        left.get(which % left.len().max(1)).copied()
    }

    fn check(&self) -> TestCaseResult {
        prop_assert_eq!(self.real.available(), self.free);
        let locked = self.free == 0 || !self.queue.is_empty() || !self.granted.is_empty();
        prop_assert_eq!(self.real.locked(), locked);
        Ok(())
    }
}

type Putting = (u32, Boxed<Result<(), PutError<u32>>>);

/// A queue, and what should be in it.
struct Items {
    real: Rc<Queue<u32>>,
    putting: Vec<Putting>,
    getting: Vec<Boxed<Result<u32, QueueShutDown>>>,
    inside: VecDeque<u32>,
    next: u32,
}

impl Items {
    fn put(&mut self) -> TestCaseResult {
        let (real, item) = (self.real.clone(), self.next);
        self.next += 1;
        self.putting.push((item, Box::pin(async move { real.put(item).await })));
        self.run_putter(self.putting.len() - 1)
    }

    fn put_nowait(&mut self) {
        if self.real.put_nowait(self.next).is_ok() {
            self.inside.push_back(self.next);
        }
        self.next += 1;
    }

    fn get(&mut self) -> TestCaseResult {
        let real = self.real.clone();
        self.getting.push(Box::pin(async move { real.get().await }));
        self.run_getter(self.getting.len() - 1)
    }

    fn get_nowait(&mut self) -> TestCaseResult {
        match self.real.get_nowait() {
            Ok(item) => prop_assert_eq!(Some(item), self.inside.pop_front()),
            Err(e) => prop_assert_eq!(e, GetError::Empty),
        }
        Ok(())
    }

    fn run_putter(&mut self, index: usize) -> TestCaseResult {
        let Some((item, future)) = self.putting.get_mut(index) else { return Ok(()) };
        if let Poll::Ready(result) = poll(future) {
            prop_assert_eq!(result, Ok(()));
            self.inside.push_back(*item);
            drop(self.putting.remove(index));
        }
        Ok(())
    }

    fn run_getter(&mut self, index: usize) -> TestCaseResult {
        let Some(future) = self.getting.get_mut(index) else { return Ok(()) };
        if let Poll::Ready(item) = poll(future) {
            prop_assert_eq!(item.ok(), self.inside.pop_front());
            drop(self.getting.remove(index));
        }
        Ok(())
    }

    fn check(&self) -> TestCaseResult {
        prop_assert_eq!(self.real.qsize(), self.inside.len());
        let maxsize = self.real.maxsize();
        prop_assert!(maxsize == 0 || self.inside.len() <= maxsize);
        Ok(())
    }

    /// Everybody gives up: what is inside can be got, in order.
    fn end(mut self) -> TestCaseResult {
        self.putting.clear();
        self.getting.clear();
        let left: Vec<_> = std::iter::from_fn(|| self.real.get_nowait().ok()).collect();
        prop_assert_eq!(left, Vec::from(self.inside));
        Ok(())
    }
}

proptest! {
    #[test]
    fn sem_03_sem_05_a_semaphore_serves_in_order_whatever_is_cancelled(
        permits in 0usize..4,
        history in prop::collection::vec((0u8..6, 0usize..8), 1..200),
    ) {
        let mut model = Permits {
            real: Rc::new(Semaphore::new(permits)),
            waiting: Vec::new(),
            held: Vec::new(),
            queue: VecDeque::new(),
            granted: Vec::new(),
            free: permits,
            total: permits,
        };
        for (action, which) in history {
            match action {
                0 => model.come()?,
                1 => model.give_back(which),
                2 => model.run(which)?,
                3 => model.cancel(which),
                4 => model.release(),
                _ => model.forget(),
            }
            model.check()?;
        }
        let (real, total) = (model.real.clone(), model.total);
        drop(model);
        prop_assert_eq!(real.available(), total);
    }

    #[test]
    fn q_02_q_11_q_13_a_queue_keeps_its_order_whatever_is_cancelled(
        maxsize in 0usize..4,
        history in prop::collection::vec((0u8..8, 0usize..8), 1..200),
    ) {
        let mut model = Items {
            real: Rc::new(Queue::new(maxsize)),
            putting: Vec::new(),
            getting: Vec::new(),
            inside: VecDeque::new(),
            next: 0,
        };
        for (action, which) in history {
            match action {
                0 => model.put()?,
                1 => model.put_nowait(),
                2 => model.get()?,
                3 => model.get_nowait()?,
                4 => model.run_putter(which)?,
                5 => model.run_getter(which)?,
                6 if which < model.putting.len() => drop(model.putting.remove(which)),
                7 if which < model.getting.len() => drop(model.getting.remove(which)),
                _ => {}
            }
            model.check()?;
        }
        model.end()?;
    }

    #[test]
    fn q_21_q_22_lifo_and_priority_queues_follow_their_order(
        history in prop::collection::vec(any::<Option<u8>>(), 1..200),
    ) {
        let (lifo, priority) = (LifoQueue::new(0), PriorityQueue::new(0));
        let (mut stack, mut sorted) = (Vec::new(), Vec::new());
        for entry in history {
            match entry {
                Some(n) => {
                    lifo.put_nowait(n).unwrap();
                    priority.put_nowait(n).unwrap();
                    stack.push(n);
                    sorted.push(n);
                    sorted.sort_unstable_by(|a, b| b.cmp(a));
                }
                None => {
                    prop_assert_eq!(lifo.get_nowait().ok(), stack.pop());
                    prop_assert_eq!(priority.get_nowait().ok(), sorted.pop());
                }
            }
        }
    }
}
