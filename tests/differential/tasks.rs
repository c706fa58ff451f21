//! Tasks, callbacks and futures.

use std::{cell::Cell, future::pending, rc::Rc};

use corio::{
    create_eager_task, create_task,
    event_loop::{call_later, call_soon, create_future},
    sleep,
    task::TaskState,
};

use crate::scenario::{Trace, job, join, ms, result, turns};

scenarios! {
    everywhere: tasks_start_in_order, a_child_of_a_child_comes_last, callbacks_and_tasks_share_the_queue,
        a_callback_of_a_callback_waits_a_turn, a_cancelled_callback_does_not_run,
        a_done_task_cannot_be_cancelled, done_callbacks_come_in_order, a_future_is_set_once,
        sleeps_end_in_their_order;
    simulated: call_later_orders, a_cancelled_timer_does_not_run, a_timer_of_a_timer, tasks_of_a_callback,
        a_done_callback_of_a_done_task, a_done_callback_of_a_cancelled_task,
        a_future_wakes_two_turns_of_tasks, a_cancelled_future, callbacks_of_a_future, yields_take_turns,
        sleeps_of_one_instant, sleeps_that_do_not_sleep, a_failed_task_is_awaited_late,
        an_eager_task_runs_to_its_first_wait, an_eager_task_that_need_not_wait,
        an_eager_task_is_cancelled, eager_tasks_of_an_eager_task;
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

async fn call_later_orders(t: Trace) {
    for (delay, name) in [(30, "third"), (10, "first"), (20, "second"), (10, "first again")] {
        let t = t.clone();
        call_later(ms(delay), move || t.at(name));
    }
    sleep(ms(40)).await;
    t.at("main");
}

async fn a_cancelled_timer_does_not_run(t: Trace) {
    let (never, runs) = (t.clone(), t.clone());
    let timer = Rc::new(call_later(ms(10), move || never.say("never")));
    let cancels = timer.clone();
    call_later(ms(5), move || cancels.cancel());
    call_later(ms(10), move || runs.at("runs"));
    sleep(ms(20)).await;
    t.say(timer.cancelled());
}

async fn a_timer_of_a_timer(t: Trace) {
    let first = t.clone();
    call_later(ms(10), move || {
        first.at("first");
        call_later(ms(10), move || first.at("second"));
    });
    sleep(ms(30)).await;
    t.at("main");
}

async fn tasks_of_a_callback(t: Trace) {
    let callback = t.clone();
    call_soon(move || {
        callback.say("callback");
        let task = callback.clone();
        drop(create_task(async move { task.say("task") }));
        callback.say("created");
    });
    turns(3).await;
    t.say("main");
}

async fn a_done_callback_of_a_done_task(t: Trace) {
    let (body, callback) = (t.clone(), t.clone());
    let task = job(async move { body.say("job") });
    turns(2).await;
    task.add_done_callback(move |_| callback.say("callback"));
    t.say("added");
    turns(2).await;
}

async fn a_done_callback_of_a_cancelled_task(t: Trace) {
    let task = create_task(pending::<()>());
    let callback = t.clone();
    task.add_done_callback(move |info| callback.say(info.state() == TaskState::Cancelled));
    turns(1).await;
    task.cancel();
    t.say("asked");
    turns(3).await;
}

async fn a_future_wakes_two_turns_of_tasks(t: Trace) {
    let ((set_first, first), (set_second, second)) = (create_future(), create_future());
    let (relay, last) = (t.clone(), t.clone());
    let last = job(async move { last.say(second.await.unwrap()) });
    let relay = job(async move {
        relay.say(first.await.unwrap());
        set_second.set_result("second").unwrap();
        relay.say("relayed");
    });
    turns(1).await;
    set_first.set_result("first").unwrap();
    t.say("set");
    join([last, relay]).await;
}

async fn a_cancelled_future(t: Trace) {
    let (resolver, future) = create_future::<()>();
    let task = create_task(async move { future.await.map_or("cancelled", |()| "None") });
    turns(1).await;
    t.say(resolver.cancel());
    t.say(resolver.cancel());
    t.say(result(task).await);
    t.say(resolver.done());
}

async fn callbacks_of_a_future(t: Trace) {
    let (resolver, future) = create_future();
    for name in ["one", "two"] {
        let t = t.clone();
        future.add_done_callback(move || t.say(name));
    }
    resolver.set_result(()).unwrap();
    t.say("set");
    turns(1).await;
    t.say("main");
}

async fn yields_take_turns(t: Trace) {
    let tasks = ["a", "b", "c"].map(|name| {
        let t = t.clone();
        job(async move {
            for n in 0..3 {
                t.say(format!("{name} {n}"));
                turns(1).await;
            }
        })
    });
    join(tasks).await;
}

async fn sleeps_of_one_instant(t: Trace) {
    let tasks = [3, 1, 2].map(|n| {
        let t = t.clone();
        job(async move {
            sleep(ms(10 * n)).await;
            t.at(format!("{n} once"));
            sleep(ms(10 * (4 - n))).await;
            t.at(format!("{n} twice"));
        })
    });
    join(tasks).await;
}

async fn sleeps_that_do_not_sleep(t: Trace) {
    let other = t.clone();
    let task = job(async move { other.say("other") });
    sleep(ms(0)).await;
    t.say("main");
    join([task]).await;
}

async fn a_failed_task_is_awaited_late(t: Trace) {
    let task = create_task(async { Err::<(), _>("failed bad") });
    turns(2).await;
    t.say(task.done());
    t.say(task.await.unwrap().unwrap_err());
}

async fn an_eager_task_runs_to_its_first_wait(t: Trace) {
    let eager = t.clone();
    let task = create_eager_task(async move {
        eager.say("begins");
        turns(1).await;
        eager.say("goes on");
    });
    t.say(task.done());
    join([task]).await;
    t.say("main");
}

async fn an_eager_task_that_need_not_wait(t: Trace) {
    let eager = t.clone();
    let task = create_eager_task(async move {
        eager.say("job");
        7
    });
    t.say(task.done());
    t.say(result(task).await);
}

async fn an_eager_task_is_cancelled(t: Trace) {
    let eager = t.clone();
    let task = create_eager_task(async move {
        let _guard = eager.guard("eager");
        pending::<&str>().await
    });
    task.cancel();
    t.say("asked");
    t.say(result(task).await);
}

async fn eager_tasks_of_an_eager_task(t: Trace) {
    let outer = t.clone();
    let task = create_eager_task(async move {
        let tasks = [2, 0, 1].map(|n| {
            let t = outer.clone();
            create_eager_task(async move {
                t.say(format!("inner {n}"));
                turns(n).await;
                t.say(format!("inner {n} ends"));
            })
        });
        outer.say("made");
        join(tasks).await;
        outer.say("outer ends");
    });
    t.say("main");
    join([task]).await;
}
