//! Locks, events and semaphores.

use std::rc::Rc;

use corio::{BoundedSemaphore, Event, Lock, Semaphore, Task};

use crate::scenario::{Trace, job, join, result, turns};

scenarios! {
    everywhere: locks_are_handed_on_in_order, a_cancelled_waiter_of_a_lock, a_woken_waiter_of_a_lock_is_cancelled, an_event_wakes_all_in_order, a_semaphore_of_two, a_released_permit_is_handed_over, a_bounded_semaphore_refuses;
    simulated: ;
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
