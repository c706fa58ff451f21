//! Timeouts.

use std::{
    fmt::Display,
    future::{Future, pending},
    rc::Rc,
};

use corio::{
    Lock, Queue, sleep, task_group,
    time::{now, timeout, timeout_scope},
    wait_for,
};

use crate::scenario::{Trace, job, join, ms, none, result, sleep_in_guard, turns};

scenarios! {
    everywhere: a_timeout_that_is_not_needed, timeouts_in_timeouts;
    simulated: a_timeout_drops_its_body, a_timeout_of_nothing, the_outer_timeout_comes_first,
        three_timeouts_end_one_after_the_other, a_timeout_is_moved, a_timeout_is_taken_away,
        a_timeout_is_moved_into_the_past, an_error_leaves_a_timeout, a_timeout_around_a_group,
        a_timeout_in_a_child_of_a_group, a_cancel_in_a_timeout_is_a_cancel,
        timeouts_of_one_task_after_another, a_lock_that_does_not_come_in_time,
        an_item_that_does_not_come_in_time;
}

async fn a_timeout_that_is_not_needed(t: Trace) {
    let said = t.clone();
    let in_time = timeout(ms(60_000), async move {
        turns(2).await;
        said.say("in time");
    });
    assert!(in_time.await.is_ok());
    let value = async {
        turns(1).await;
        "value"
    };
    t.say(wait_for(value, ms(60_000)).await.unwrap());
}

async fn timeouts_in_timeouts(t: Trace) {
    let outer = timeout(ms(60_000), async move {
        if timeout(ms(10), sleep(ms(60_000))).await.is_err() {
            t.say("inner");
        }
        t.say("still here");
    });
    assert!(outer.await.is_ok());
}

async fn timed<T: Display>(t: &Trace, duration: u64, body: impl Future<Output = T>) {
    match timeout(ms(duration), body).await {
        Ok(value) => t.at(format!("value {value}")),
        Err(_) => t.at("timeout"),
    }
}

async fn a_timeout_drops_its_body(t: Trace) {
    timed(&t, 10, sleep_in_guard(&t, "body", 20)).await;
    timed(&t, 20, sleep_in_guard(&t, "body", 10)).await;
}

async fn a_timeout_of_nothing(t: Trace) {
    let body = async |n| {
        let guard = t.guard("body");
        t.say("begins");
        turns(n).await;
        guard.over();
        n
    };
    timed(&t, 0, body(0)).await;
    timed(&t, 0, body(2)).await;
}

async fn the_outer_timeout_comes_first(t: Trace) {
    let inner = async {
        let guard = t.guard("inner");
        timed(&t, 20, sleep_in_guard(&t, "body", 30)).await;
        guard.over();
        "None"
    };
    timed(&t, 10, inner).await;
}

async fn three_timeouts_end_one_after_the_other(t: Trace) {
    let third = async {
        let _guard = t.guard(3);
        pending::<&str>().await
    };
    let second = async {
        let _guard = t.guard(2);
        timed(&t, 20, third).await;
        pending::<&str>().await
    };
    let first = async {
        let _guard = t.guard(1);
        timed(&t, 30, second).await;
        pending::<&str>().await
    };
    timed(&t, 40, first).await;
}

async fn a_timeout_is_moved(t: Trace) {
    let moved = timeout_scope(ms(10), async |deadline| {
        sleep(ms(5)).await;
        deadline.reschedule(now() + ms(20));
        sleep(ms(15)).await;
        t.at("still here");
        sleep(ms(15)).await;
        t.say("never");
    });
    let expired = moved.await.is_err();
    t.at(if expired { "timeout" } else { "value" });
    t.say(expired);
}

async fn a_timeout_is_taken_away(t: Trace) {
    let in_time = timeout_scope(ms(10), async |deadline| {
        deadline.reschedule(None);
        t.say(deadline.when().is_none());
        sleep(ms(50)).await;
        t.at("in time");
        deadline.expired()
    });
    t.say(in_time.await.unwrap());
}

async fn a_timeout_is_moved_into_the_past(t: Trace) {
    let begun = now();
    let moved = timeout_scope(ms(100), async |deadline| {
        sleep(ms(20)).await;
        deadline.reschedule(begun + ms(10));
        let _guard = t.guard("body");
        sleep(ms(20)).await;
    });
    if moved.await.is_err() {
        t.at("timeout");
    }
}

async fn an_error_leaves_a_timeout(t: Trace) {
    let body = async {
        sleep(ms(10)).await;
        Err::<(), _>("bad")
    };
    if let Ok(Err(e)) = timeout(ms(20), body).await {
        t.at(e);
    }
    sleep(ms(20)).await;
    t.at("main");
}

async fn a_timeout_around_a_group(t: Trace) {
    let body = task_group::<&str, ()>(async |group| {
        for n in [5, 20, 30] {
            let t = t.clone();
            drop(group.create_task(async move {
                sleep_in_guard(&t, n, n).await;
                Ok(())
            }));
        }
        let _guard = t.guard("body");
        pending().await
    });
    timed(&t, 10, async { body.await.unwrap() }).await;
}

async fn a_timeout_in_a_child_of_a_group(t: Trace) {
    let over = task_group::<(), ()>(async |group| {
        let (child, sibling) = (t.clone(), t.clone());
        drop(group.create_task(async move {
            timed(&child, 10, sleep_in_guard(&child, "late", 20)).await;
            sleep(ms(10)).await;
            child.at("child ends");
            Ok(())
        }));
        drop(group.create_task(async move {
            sleep_in_guard(&sibling, "sibling", 15).await;
            Ok(())
        }));
        Ok(())
    });
    over.await.unwrap();
    t.at("group over");
}

async fn a_cancel_in_a_timeout_is_a_cancel(t: Trace) {
    let body = t.clone();
    let task = job(async move { timed(&body, 50, sleep_in_guard(&body, "body", 30)).await });
    sleep(ms(10)).await;
    task.cancel();
    t.at(result(task).await);
}

async fn timeouts_of_one_task_after_another(t: Trace) {
    let body = async {
        for duration in [30, 10, 20] {
            timed(&t, 15, none(sleep(ms(duration)))).await;
        }
    };
    timed(&t, 35, none(body)).await;
}

async fn a_lock_that_does_not_come_in_time(t: Trace) {
    let lock = Rc::new(Lock::new(()));
    let guard = lock.clone().acquire_owned().await;
    let give = job(async move {
        sleep(ms(20)).await;
        drop(guard);
    });
    let (late, wanted) = (t.clone(), lock.clone());
    let late = job(async move {
        let acquire = async {
            let _guard = late.guard("late");
            let _lock = wanted.acquire().await;
            "never"
        };
        timed(&late, 10, acquire).await;
    });
    let (other, wanted) = (t.clone(), lock.clone());
    let other = job(async move {
        let _guard = wanted.acquire().await;
        other.at("other has it");
    });
    join([give, late, other]).await;
    t.say(lock.locked());
}

async fn an_item_that_does_not_come_in_time(t: Trace) {
    let queue = Queue::new(0);
    timed(&t, 10, async { queue.get().await.unwrap() }).await;
    queue.put_nowait("item").unwrap();
    timed(&t, 10, async { queue.get().await.unwrap() }).await;
    t.say(queue.qsize());
}
