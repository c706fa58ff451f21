//! Locks, events and semaphores.

use std::rc::Rc;

use corio::{BoundedSemaphore, Event, Lock, Semaphore, Task, sleep, time::timeout};

use crate::scenario::{Trace, job, join, ms, result, turns};

scenarios! {
    everywhere: locks_are_handed_on_in_order, a_cancelled_waiter_of_a_lock,
        a_woken_waiter_of_a_lock_is_cancelled, an_event_wakes_all_in_order, a_semaphore_of_two,
        a_released_permit_is_handed_over, a_bounded_semaphore_refuses;
    simulated: a_newcomer_does_not_overtake, waiters_of_a_lock_leave_one_by_one,
        a_cancelled_waiter_of_an_event, an_event_is_cleared_and_set_again, a_set_event_does_not_wait,
        a_woken_waiter_of_a_semaphore_is_cancelled, permits_and_timeouts, a_lock_in_a_lock;
}

async fn locks_are_handed_on_in_order(t: Trace) {
    let lock = Rc::new(Lock::new(()));
    let tasks: Vec<_> = (0..3)
        .map(|n| {
            let (t, lock) = (t.clone(), lock.clone());
            job(async move {
                let guard = lock.acquire().await;
                t.say(format!("{n} has it"));
                turns(1).await;
                drop(guard);
                t.say(format!("{n} gave it back"));
            })
        })
        .collect();
    join(tasks).await;
    t.say(lock.locked());
}

/// Three tasks that want the lock, and say so when they have it.
fn lockers(t: &Trace, lock: &Rc<Lock>) -> Vec<Task<&'static str>> {
    let locker = |n| {
        let (t, lock) = (t.clone(), lock.clone());
        job(async move {
            let _guard = lock.acquire().await;
            t.say(format!("{n} has it"));
        })
    };
    (0..3).map(locker).collect()
}

async fn a_cancelled_waiter_of_a_lock(t: Trace) {
    let lock = Rc::new(Lock::new(()));
    let guard = lock.acquire().await;
    let tasks = lockers(&t, &lock);
    turns(1).await;
    tasks[0].cancel();
    drop(guard);
    for task in tasks {
        t.say(result(task).await);
    }
}

async fn a_woken_waiter_of_a_lock_is_cancelled(t: Trace) {
    let lock = Rc::new(Lock::new(()));
    let guard = lock.acquire().await;
    let tasks = lockers(&t, &lock);
    turns(1).await;
    drop(guard);
    tasks[0].cancel();
    for task in tasks {
        t.say(result(task).await);
    }
}

async fn an_event_wakes_all_in_order(t: Trace) {
    let event = Rc::new(Event::new());
    let waiter = |n| {
        let (t, event) = (t.clone(), event.clone());
        job(async move {
            event.wait().await;
            t.say(n);
        })
    };
    let tasks: Vec<_> = (0..3).map(waiter).collect();
    turns(1).await;
    let late = waiter(9);
    event.set();
    event.clear();
    turns(2).await;
    t.list(tasks.iter().map(Task::done));
    t.say(late.done());
    event.set();
    join([late]).await;
}

async fn a_semaphore_of_two(t: Trace) {
    let semaphore = Rc::new(Semaphore::new(2));
    let tasks: Vec<_> = (0..5)
        .map(|n| {
            let (t, semaphore) = (t.clone(), semaphore.clone());
            job(async move {
                let permit = semaphore.acquire().await;
                t.say(format!("{n} in"));
                turns(2).await;
                t.say(format!("{n} out"));
                drop(permit);
            })
        })
        .collect();
    join(tasks).await;
    t.say(semaphore.locked());
}

async fn a_released_permit_is_handed_over(t: Trace) {
    let semaphore = Rc::new(Semaphore::new(0));
    let mut tasks: Vec<_> = (0..3)
        .map(|n| {
            let (t, semaphore) = (t.clone(), semaphore.clone());
            job(async move {
                semaphore.acquire().await.forget();
                t.say(n);
            })
        })
        .collect();
    turns(1).await;
    semaphore.release();
    t.say(semaphore.locked());
    semaphore.release();
    turns(2).await;
    t.list(tasks.iter().map(Task::done));
    semaphore.release();
    join(tasks.pop()).await;
}

async fn a_bounded_semaphore_refuses(t: Trace) {
    t.say(if BoundedSemaphore::new(1).release().is_ok() { "released" } else { "refused" });
}

async fn a_newcomer_does_not_overtake(t: Trace) {
    let lock = Rc::new(Lock::new(()));
    let guard = lock.acquire().await;
    let task = job(has_it(t.clone(), lock.clone(), 0));
    turns(1).await;
    drop(guard);
    has_it(t, lock, 1).await;
    join([task]).await;
}

async fn has_it(t: Trace, lock: Rc<Lock>, n: u32) {
    let _guard = lock.acquire().await;
    t.say(format!("{n} has it"));
}

async fn waiters_of_a_lock_leave_one_by_one(t: Trace) {
    let lock = Rc::new(Lock::new(()));
    let tasks = [0, 1, 2, 3].map(|n| {
        let (t, lock) = (t.clone(), lock.clone());
        job(async move {
            let _guard = lock.acquire().await;
            t.at(format!("{n} has it"));
            sleep(ms(20)).await;
        })
    });
    sleep(ms(10)).await;
    tasks[2].cancel();
    sleep(ms(20)).await;
    tasks[1].cancel();
    for task in tasks {
        t.at(result(task).await);
    }
}

async fn a_cancelled_waiter_of_an_event(t: Trace) {
    let event = Rc::new(Event::new());
    let tasks = [0, 1, 2].map(|n| {
        let (t, event) = (t.clone(), event.clone());
        job(async move {
            event.wait().await;
            t.say(n);
        })
    });
    turns(1).await;
    tasks[1].cancel();
    event.set();
    for task in tasks {
        t.say(result(task).await);
    }
}

async fn an_event_is_cleared_and_set_again(t: Trace) {
    let event = Rc::new(Event::new());
    let tasks = [1, 2].map(|n| {
        let (t, event) = (t.clone(), event.clone());
        job(async move {
            for _ in 0..2 {
                event.wait().await;
                t.at(format!("{n} woken"));
                sleep(ms(10 * n)).await;
            }
        })
    });
    sleep(ms(5)).await;
    event.set();
    event.clear();
    sleep(ms(12)).await;
    event.set();
    t.say(event.is_set());
    join(tasks).await;
}

async fn a_set_event_does_not_wait(t: Trace) {
    let event = Event::new();
    event.set();
    let other = t.clone();
    let task = job(async move { other.say("other") });
    event.wait().await;
    t.say("main");
    join([task]).await;
}

async fn a_woken_waiter_of_a_semaphore_is_cancelled(t: Trace) {
    let semaphore = Rc::new(Semaphore::new(1));
    semaphore.acquire().await.forget();
    let tasks = [0, 1, 2].map(|n| {
        let (t, semaphore) = (t.clone(), semaphore.clone());
        job(async move {
            let _permit = semaphore.acquire().await;
            t.say(format!("{n} in"));
            turns(1).await;
        })
    });
    turns(1).await;
    semaphore.release();
    tasks[0].cancel();
    for task in tasks {
        t.say(result(task).await);
    }
    t.say(semaphore.locked());
}

async fn permits_and_timeouts(t: Trace) {
    let semaphore = Rc::new(Semaphore::new(2));
    let tasks = [0, 1, 2, 3, 4].map(|n| {
        let (t, semaphore) = (t.clone(), semaphore.clone());
        job(async move {
            let body = async {
                let _permit = semaphore.acquire().await;
                t.at(format!("{n} in"));
                sleep(ms(10)).await;
            };
            if timeout(ms(13 + n), body).await.is_err() {
                t.at(format!("{n} late"));
            }
        })
    });
    join(tasks).await;
    t.say(semaphore.locked());
}

async fn a_lock_in_a_lock(t: Trace) {
    let locks = Rc::new((Lock::new(()), Lock::new(())));
    let tasks = [0, 1, 2].map(|n| {
        let (t, locks) = (t.clone(), locks.clone());
        job(async move {
            let outer = locks.0.acquire().await;
            let inner = locks.1.acquire().await;
            t.say(format!("{n} has both"));
            turns(2).await;
            drop(inner);
            t.say(format!("{n} has one"));
            drop(outer);
            t.say(format!("{n} has none"));
        })
    });
    join(tasks).await;
}
