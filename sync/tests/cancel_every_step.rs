//! Each primitive, with each waiter cancelled at each step: no grant is lost, no waiter hangs, and the order holds.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use corio_sync::{Barrier, Condition, Event, Lock, Queue, Semaphore};

/// Suspends once, and is ready again at once.
fn step() -> impl Future<Output = ()> {
    let mut done = false;
    std::future::poll_fn(move |cx| {
        if std::mem::replace(&mut done, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

struct Ready {
    queue: Arc<Mutex<VecDeque<usize>>>,
    index: usize,
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        let mut queue = self.queue.lock().unwrap();
        if !queue.contains(&self.index) {
            queue.push_back(self.index);
        }
    }
}

type Waiter = Pin<Box<dyn Future<Output = ()>>>;

/// Runs the waiters FIFO. Waiter `victim` is dropped instead of its poll number `at`. Gives the number of polls
/// of each, and whether each came to its end.
fn drive(waiters: Vec<Waiter>, victim: usize, at: usize) -> (Vec<usize>, Vec<bool>) {
    let queue = Arc::new(Mutex::new((0..waiters.len()).collect::<VecDeque<_>>()));
    let wakers: Vec<Waker> =
        (0..waiters.len()).map(|index| Arc::new(Ready { queue: queue.clone(), index }).into()).collect();
    let mut polls = vec![0; waiters.len()];
    let mut ended = vec![false; waiters.len()];
    let mut waiters: Vec<_> = waiters.into_iter().map(Some).collect();
    let mut rounds = 0;
    loop {
        let next = queue.lock().unwrap().pop_front();
        let Some(index) = next else { break };
        rounds += 1;
        assert!(rounds < 10_000, "a livelock");
        if index == victim && polls[index] == at {
            // Twice cancelled is once.
            drop(waiters[index].take());
            continue;
        }
        let Some(waiter) = &mut waiters[index] else { continue };
        polls[index] += 1;
        if waiter.as_mut().poll(&mut Context::from_waker(&wakers[index])).is_ready() {
            ended[index] = true;
            waiters[index] = None;
        }
    }
    (polls, ended)
}

/// Runs `scenario` uncancelled, and then with each waiter cancelled at each of its polls; `check` gets who came
/// to an end.
fn at_every_step(scenario: impl Fn() -> Scenario) {
    at_every_step_of(usize::MAX, scenario);
}

type Scenario = (Vec<Waiter>, Box<dyn Fn(&[bool])>);

/// As `at_every_step`, cancelling only the first `victims` waiters.
fn at_every_step_of(victims: usize, scenario: impl Fn() -> Scenario) {
    let (waiters, check) = scenario();
    let count = victims.min(waiters.len());
    let (polls, ended) = drive(waiters, usize::MAX, 0);
    assert!(ended.iter().all(|ended| *ended), "uncancelled: {ended:?}");
    check(&ended);
    let cancels = AtomicUsize::new(0);
    for (victim, polls) in polls.into_iter().enumerate().take(count) {
        for at in 0..polls {
            let (waiters, check) = scenario();
            let (_, ended) = drive(waiters, victim, at);
            for (index, ended) in ended.iter().enumerate() {
                assert!(
                    *ended || index == victim,
                    "waiter {index} hangs: {victim} was cancelled at step {at}"
                );
            }
            check(&ended);
            cancels.fetch_add(1, Ordering::Relaxed);
        }
    }
    assert!(cancels.into_inner() >= 2 * count, "too few steps to mean anything");
}

type Order = Rc<RefCell<Vec<usize>>>;

/// Everybody who ended is in the log, in order; one who was cancelled may be.
fn in_order(order: &Order, ended: &[bool]) {
    let order = order.borrow();
    assert!(order.is_sorted(), "{order:?}");
    assert!(ended.iter().enumerate().all(|(index, ended)| !ended || order.contains(&index)), "{order:?}");
}

#[test]
fn lock_04_lock_05_cancelled_at_every_step() {
    at_every_step(|| {
        let (lock, order) = (Rc::new(Lock::new(())), Order::default());
        let waiters = (0..4)
            .map(|index| {
                let (lock, order) = (lock.clone(), order.clone());
                Box::pin(async move {
                    let _guard = lock.acquire().await;
                    order.borrow_mut().push(index);
                    step().await;
                    step().await;
                }) as Waiter
            })
            .collect();
        let check = move |ended: &[bool]| {
            in_order(&order, ended);
            assert!(!lock.locked() && lock.try_acquire().is_some(), "{lock:?}");
        };
        (waiters, Box::new(check))
    });
}

#[test]
fn sem_05_sem_07_cancelled_at_every_step() {
    at_every_step(|| {
        let (semaphore, order, most) = (Rc::new(Semaphore::new(2)), Order::default(), Rc::new(Cell::new(0)));
        let waiters = (0..6)
            .map(|index| {
                let (semaphore, order, most) = (semaphore.clone(), order.clone(), most.clone());
                Box::pin(async move {
                    let _permit = semaphore.acquire().await;
                    most.set(most.get().max(2 - semaphore.available()));
                    order.borrow_mut().push(index);
                    step().await;
                }) as Waiter
            })
            .collect();
        let check = move |ended: &[bool]| {
            in_order(&order, ended);
            assert_eq!((semaphore.available(), semaphore.locked()), (2, false), "{semaphore:?}");
            assert!(most.get() <= 2);
        };
        (waiters, Box::new(check))
    });
}

#[test]
fn q_11_q_12_q_13_cancelled_at_every_step() {
    at_every_step(|| {
        const ITEMS: usize = 6;
        let (queue, got) = (Rc::new(Queue::new(2)), Order::default());
        let put = Rc::new(Cell::new(0));
        let mut waiters: Vec<Waiter> = Vec::new();
        for _ in 0..3 {
            let (queue, got) = (queue.clone(), got.clone());
            waiters.push(Box::pin(async move {
                while let Ok(item) = queue.get().await {
                    got.borrow_mut().push(item);
                    step().await;
                }
            }));
        }
        // Ends the queue also if the producer is cancelled, so that the getters end.
        struct End(Rc<Queue<usize>>);
        impl Drop for End {
            fn drop(&mut self) {
                self.0.shutdown(false);
            }
        }
        let (end, count) = (End(queue.clone()), put.clone());
        waiters.push(Box::pin(async move {
            let end = end;
            for item in 0..ITEMS {
                end.0.put(item).await.unwrap();
                count.set(item + 1);
                step().await;
            }
        }));
        let check = move |_: &[bool]| {
            // A getter has its item as soon as it has run.
            let mut all = got.borrow().clone();
            all.extend(std::iter::from_fn(|| queue.get_nowait().ok()));
            assert_eq!(all, (0..put.get()).collect::<Vec<_>>());
        };
        (waiters, Box::new(check))
    });
}

#[test]
fn cond_15_cond_16_cancelled_at_every_step() {
    at_every_step(|| {
        let condition = Rc::new(Condition::new(0));
        let mut waiters: Vec<Waiter> = Vec::new();
        for _ in 0..3 {
            let condition = condition.clone();
            waiters.push(Box::pin(async move {
                let mut jobs = condition.acquire().await.wait_for(|jobs| *jobs > 0).await;
                *jobs -= 1;
                step().await;
            }));
        }
        for _ in 0..4 {
            let condition = condition.clone();
            waiters.push(Box::pin(async move {
                step().await;
                let mut jobs = condition.acquire().await;
                *jobs += 1;
                jobs.notify(1);
                step().await;
            }));
        }
        let check = move |_: &[bool]| assert!(!condition.locked(), "{condition:?}");
        (waiters, Box::new(check))
    });
}

/// A queue of one place: whoever is cancelled, no side waits while it could go on.
#[test]
fn cond_11_cond_15_two_conditions_on_one_lock_cancelled_at_every_step() {
    at_every_step_of(5, || {
        let lock = Rc::new(Lock::new(0));
        let [filled, emptied] = [(); 2].map(|()| Rc::new(Condition::on(lock.clone())));
        let mut waiters: Vec<Waiter> = Vec::new();
        for filler in [false, true, false, true, false] {
            let (mine, theirs) = if filler { (&emptied, &filled) } else { (&filled, &emptied) };
            let (mine, theirs) = (mine.clone(), theirs.clone());
            waiters.push(Box::pin(async move {
                for _ in 0..2 {
                    let mut full = mine.acquire().await.wait_for(|full| (*full == 0) == filler).await;
                    *full = u32::from(filler);
                    theirs.notify(1);
                    step().await;
                }
            }));
        }
        // Whoever is left over at the end lacks a partner.
        let (mine, theirs) = (filled.clone(), emptied.clone());
        waiters.push(Box::pin(async move {
            for place in 0..20 {
                late().await;
                let mut full = mine.acquire().await;
                let could_go_on = if *full == 0 { &theirs } else { &mine };
                assert!(!format!("{could_go_on:?}").contains("waiters"), "{could_go_on:?} with {full:?}");
                *full = place % 2;
                mine.notify(1);
                theirs.notify(1);
            }
        }));
        let check = move |_: &[bool]| assert!(!lock.locked(), "{filled:?} {emptied:?}");
        (waiters, Box::new(check))
    });
}

#[test]
fn evt_03_cancelled_at_every_step() {
    at_every_step(|| {
        let (event, order) = (Rc::new(Event::new()), Order::default());
        let mut waiters: Vec<Waiter> = Vec::new();
        for index in 0..3 {
            let (event, order) = (event.clone(), order.clone());
            waiters.push(Box::pin(async move {
                event.wait().await;
                order.borrow_mut().push(index);
                step().await;
            }));
        }
        for index in 3..5 {
            let (event, order) = (event.clone(), order.clone());
            waiters.push(Box::pin(async move {
                step().await;
                event.set();
                step().await;
                order.borrow_mut().push(index);
            }));
        }
        let check = move |ended: &[bool]| {
            let order = order.borrow();
            assert!(ended.iter().enumerate().all(|(index, ended)| !ended || order.contains(&index)));
            assert!(event.is_set() && format!("{event:?}") == "<Event [set]>");
        };
        (waiters, Box::new(check))
    });
}

#[test]
fn bar_10_cancelled_at_every_step() {
    at_every_step(|| {
        let barrier = Rc::new(Barrier::new(2));
        let mut waiters: Vec<Waiter> = Vec::new();
        for _ in 0..4 {
            let barrier = barrier.clone();
            waiters.push(Box::pin(async move {
                let _ = barrier.wait().await;
                step().await;
            }));
        }
        // Breaks a round that lacks its second party.
        let last = barrier.clone();
        waiters.push(Box::pin(async move {
            for _ in 0..20 {
                step().await;
            }
            last.abort();
        }));
        let stuck = barrier.clone();
        let check = move |_: &[bool]| assert_eq!(stuck.n_waiting(), 0, "{stuck:?}");
        (waiters, Box::new(check))
    });
}

/// A long while later.
async fn late() {
    for _ in 0..30 {
        step().await;
    }
}

/// Two consumers and one job: whichever is cancelled, the other one has it before the second job comes.
#[test]
fn cond_15_cond_16_no_notification_is_lost_at_any_step() {
    at_every_step_of(2, || {
        let condition = Rc::new(Condition::new(0));
        let mut waiters: Vec<Waiter> = Vec::new();
        for _ in 0..2 {
            let condition = condition.clone();
            waiters.push(Box::pin(async move {
                let mut jobs = condition.acquire().await.wait_for(|jobs| *jobs > 0).await;
                *jobs -= 1;
            }));
        }
        waiters.push(Box::pin(async move {
            step().await;
            let mut jobs = condition.acquire().await;
            *jobs += 1;
            jobs.notify(1);
            step().await;
            drop(jobs);
            late().await;
            let mut jobs = condition.acquire().await;
            assert_eq!(*jobs, 0, "a job waits though a consumer does");
            *jobs += 1;
            jobs.notify(1);
        }));
        (waiters, Box::new(|_: &[bool]| ()))
    });
}

#[test]
fn q_11_q_12_no_item_waits_while_a_getter_does_at_any_step() {
    at_every_step_of(2, || {
        let queue = Rc::new(Queue::new(0));
        let mut waiters: Vec<Waiter> = Vec::new();
        for _ in 0..2 {
            let queue = queue.clone();
            waiters.push(Box::pin(async move { drop(queue.get().await.unwrap()) }));
        }
        waiters.push(Box::pin(async move {
            step().await;
            queue.put_nowait(Rc::new(1)).unwrap();
            late().await;
            assert_eq!(queue.qsize(), 0, "an item waits though a getter does");
            queue.put_nowait(Rc::new(2)).unwrap();
        }));
        (waiters, Box::new(|_: &[bool]| ()))
    });
}

#[test]
fn q_13_q_14_no_room_is_left_while_a_putter_waits_at_any_step() {
    at_every_step_of(2, || {
        let queue = Rc::new(Queue::new(1));
        queue.put_nowait(0).unwrap();
        let mut waiters: Vec<Waiter> = Vec::new();
        for n in 1..3 {
            let queue = queue.clone();
            waiters.push(Box::pin(async move { queue.put(n).await.unwrap() }));
        }
        waiters.push(Box::pin(async move {
            step().await;
            assert_eq!(queue.get_nowait(), Ok(0));
            late().await;
            assert_eq!(queue.qsize(), 1, "there is room though a putter waits");
            queue.get_nowait().unwrap();
        }));
        (waiters, Box::new(|_: &[bool]| ()))
    });
}
