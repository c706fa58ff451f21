//! Cancels of tasks.

use std::{cell::RefCell, future::pending, rc::Rc};

use corio::{Lock, Semaphore, Task, create_task, event_loop::create_future, sleep, task::CancelHandle};

use crate::scenario::{Trace, job, ms, result, sleeper, turns, waiter};

scenarios! {
    everywhere: cancel_before_the_first_step, cancel_while_waiting;
    simulated: two_cancels_are_one, a_cancel_beats_a_wake, a_cancel_after_the_last_step,
        a_sleeper_is_cancelled, inner_blocks_end_first, cancels_arrive_in_order,
        siblings_cancel_each_other, a_cancelled_task_gives_its_lock_back,
        a_cancelled_task_gives_its_permit_on, its_children_go_on, a_cancel_of_a_task_that_makes_a_task;
}

async fn cancel_before_the_first_step(t: Trace) {
    let never = t.clone();
    let mut task = job(async move { never.say("never") });
    t.say(task.cancel());
    t.say(if (&mut task).await.is_err() { "cancelled" } else { "None" });
    t.say(task.cancel());
}

async fn cancel_while_waiting(t: Trace) {
    let begun = t.clone();
    let mut task = job(async move {
        begun.say("begun");
        pending::<()>().await;
        begun.say("never");
    });
    turns(2).await;
    task.cancel();
    t.say(task.done());
    t.say(if (&mut task).await.is_err() { "cancelled" } else { "None" });
    t.say(task.cancelled());
}

async fn two_cancels_are_one(t: Trace) {
    let mut task = waiter(&t, "task");
    turns(1).await;
    t.say(task.cancel());
    t.say(task.cancel());
    t.say((&mut task).await.unwrap_or("cancelled"));
    t.say(task.cancel());
}

async fn a_cancel_beats_a_wake(t: Trace) {
    let (resolver, future) = create_future();
    let said = t.clone();
    let task = job(async move {
        let _guard = said.guard("task");
        let value: &str = future.await.unwrap();
        said.say(value);
    });
    turns(1).await;
    resolver.set_result("value").unwrap();
    t.say(task.cancel());
    t.say(result(task).await);
}

async fn a_cancel_after_the_last_step(t: Trace) {
    let task = create_task(async {
        turns(1).await;
        "value"
    });
    turns(3).await;
    t.say(task.cancel());
    t.say(result(task).await);
}

async fn a_sleeper_is_cancelled(t: Trace) {
    let task = sleeper(&t, "task", 50);
    sleep(ms(10)).await;
    task.cancel();
    t.at(result(task).await);
    sleep(ms(100)).await;
    t.at("main");
}

async fn inner_blocks_end_first(t: Trace) {
    let said = t.clone();
    let task = job(async move {
        let _outer = said.guard("outer");
        let _middle = said.guard("middle");
        async {
            let _inner = said.guard("inner");
            pending::<()>().await;
        }
        .await;
    });
    turns(1).await;
    task.cancel();
    t.say(result(task).await);
}

async fn cancels_arrive_in_order(t: Trace) {
    let tasks = ["a", "b", "c"].map(|name| waiter(&t, name));
    turns(1).await;
    for n in [1, 2, 0] {
        tasks[n].cancel();
    }
    t.say("asked");
    for task in tasks {
        t.say(result(task).await);
    }
}

async fn siblings_cancel_each_other(t: Trace) {
    let handles = Rc::new(RefCell::new(Vec::<CancelHandle>::new()));
    let tasks = [0, 1].map(|n| {
        let (t, handles) = (t.clone(), handles.clone());
        job(async move {
            let guard = t.guard(n);
            turns(1).await;
            let other = handles.borrow()[1 - n];
            t.say(other.cancel());
            turns(1).await;
            guard.over();
            t.say(format!("{n} goes on"));
        })
    });
    handles.borrow_mut().extend(tasks.iter().map(Task::cancel_handle));
    for task in tasks {
        t.say(result(task).await);
    }
}

async fn a_cancelled_task_gives_its_lock_back(t: Trace) {
    let lock = Rc::new(Lock::new(()));
    let (held, said) = (lock.clone(), t.clone());
    let task = job(async move {
        let _guard = held.acquire().await;
        said.say("has it");
        pending().await
    });
    turns(1).await;
    t.say(lock.locked());
    task.cancel();
    turns(1).await;
    t.say(lock.locked());
    t.say(result(task).await);
}

async fn a_cancelled_task_gives_its_permit_on(t: Trace) {
    let semaphore = Rc::new(Semaphore::new(1));
    let tasks = [0, 1, 2].map(|n| {
        let (t, semaphore) = (t.clone(), semaphore.clone());
        job(async move {
            let _permit = semaphore.acquire().await;
            t.say(format!("{n} has it"));
            pending().await
        })
    });
    turns(1).await;
    for task in tasks {
        t.say(task.cancel());
        turns(2).await;
    }
    t.say(semaphore.locked());
}

async fn its_children_go_on(t: Trace) {
    let parent = t.clone();
    let task = job(async move {
        drop(sleeper(&parent, "child", 30));
        let _guard = parent.guard("parent");
        pending().await
    });
    sleep(ms(10)).await;
    task.cancel();
    t.at(result(task).await);
    sleep(ms(50)).await;
}

async fn a_cancel_of_a_task_that_makes_a_task(t: Trace) {
    let parent = t.clone();
    let task = job(async move {
        let _guard = parent.guard("parent");
        turns(1).await;
        let child = parent.clone();
        drop(job(async move { child.say("child") }));
        turns(1).await;
        parent.say("never");
    });
    turns(2).await;
    task.cancel();
    t.say(result(task).await);
    turns(1).await;
}
