//! Tasks, callbacks and futures.

use std::{cell::Cell, rc::Rc};

use corio::{
    create_task,
    event_loop::{call_soon, create_future},
    sleep,
};

use crate::scenario::{Trace, job, join, ms, result, turns};

scenarios! {
    everywhere: tasks_start_in_order, a_child_of_a_child_comes_last, callbacks_and_tasks_share_the_queue, a_callback_of_a_callback_waits_a_turn, a_cancelled_callback_does_not_run, a_done_task_cannot_be_cancelled, done_callbacks_come_in_order, a_future_is_set_once, sleeps_end_in_their_order;
    simulated: ;
}

async fn tasks_start_in_order(t: Trace) {
    let tasks: Vec<_> = (0..3)
        .map(|n| {
            let t = t.clone();
            job(async move {
                t.say(format!("start {n}"));
                turns(1).await;
                t.say(format!("end {n}"));
            })
        })
        .collect();
    t.say("created");
    join(tasks).await;
}

async fn a_child_of_a_child_comes_last(t: Trace) {
    let (child, other) = (t.clone(), t.clone());
    let a = job(async move {
        child.say("child");
        let grand = child.clone();
        let task = job(async move { grand.say("grandchild") });
        turns(1).await;
        child.say("child again");
        join([task]).await;
    });
    join([a, job(async move { other.say("other") })]).await;
}

async fn callbacks_and_tasks_share_the_queue(t: Trace) {
    let (one, two, three) = (t.clone(), t.clone(), t.clone());
    call_soon(move || one.say("callback 1"));
    let task = job(async move { two.say("task") });
    call_soon(move || three.say("callback 2"));
    join([task]).await;
    t.say("main");
}

async fn a_callback_of_a_callback_waits_a_turn(t: Trace) {
    let (first, second) = (t.clone(), t.clone());
    call_soon(move || {
        first.say("first");
        call_soon(move || first.say("inner"));
    });
    call_soon(move || second.say("second"));
    turns(3).await;
    t.say("main");
}

async fn a_cancelled_callback_does_not_run(t: Trace) {
    let never = t.clone();
    call_soon(move || t.say("runs"));
    call_soon(move || never.say("never")).cancel();
    turns(2).await;
}

async fn a_done_task_cannot_be_cancelled(t: Trace) {
    let task = create_task(async { 7 });
    turns(2).await;
    t.say(task.cancel());
    t.say(result(task).await);
}

async fn done_callbacks_come_in_order(t: Trace) {
    let (body, one, two) = (t.clone(), t.clone(), t.clone());
    let task = job(async move { body.say("job") });
    task.add_done_callback(move |_| one.say("callback 1"));
    task.add_done_callback(move |_| two.say("callback 2"));
    turns(4).await;
    t.say("main");
}

async fn a_future_is_set_once(t: Trace) {
    let (resolver, future) = create_future();
    let told = Rc::new(Cell::new(""));
    let (said, place) = (t.clone(), told.clone());
    let task = job(async move {
        place.set(future.await.unwrap());
        said.say(place.get());
    });
    turns(1).await;
    resolver.set_result("set").unwrap();
    t.say(resolver.done());
    if resolver.set_result("again").is_err() {
        t.say("invalid");
    }
    join([task]).await;
    assert_eq!(told.get(), "set");
}

async fn sleeps_end_in_their_order(t: Trace) {
    let tasks = [3, 1, 2].map(|n| {
        let t = t.clone();
        job(async move {
            sleep(ms(50 * n)).await;
            t.say(n);
        })
    });
    join(tasks).await;
}
