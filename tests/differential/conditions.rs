//! Conditions and barriers.

use std::rc::Rc;

use corio::{Barrier, Condition, Task, sleep, time::timeout};

use crate::scenario::{Trace, job, join, ms, result, turns};

scenarios! {
    everywhere: a_condition_lets_them_go_one_by_one, a_condition_with_a_predicate, a_barrier_of_three;
    simulated: a_cancelled_waiter_of_a_condition, a_notification_of_nobody_is_lost,
        a_condition_under_a_timeout, a_barrier_twice, a_barrier_is_aborted, a_barrier_is_reset,
        one_at_a_barrier_is_cancelled;
}

async fn a_condition_lets_them_go_one_by_one(t: Trace) {
    let condition = Rc::new(Condition::new(()));
    let mut tasks: Vec<_> = (0..3)
        .map(|n| {
            let (t, condition) = (t.clone(), condition.clone());
            job(async move {
                let guard = condition.acquire().await.wait().await;
                t.say(format!("{n} woken"));
                turns(1).await;
                drop(guard);
                t.say(format!("{n} left"));
            })
        })
        .collect();
    turns(1).await;
    {
        let guard = condition.acquire().await;
        guard.notify(2);
        t.say("notified");
    }
    turns(6).await;
    t.list(tasks.iter().map(Task::done));
    condition.acquire().await.notify_all();
    join(tasks.pop()).await;
}

async fn a_condition_with_a_predicate(t: Trace) {
    let condition = Rc::new(Condition::new(0));
    let (theirs, said) = (condition.clone(), t.clone());
    let task = job(async move {
        let state = theirs.acquire().await.wait_for(|state| *state >= 2).await;
        said.say(*state);
    });
    for n in [1, 2] {
        turns(3).await;
        t.say(task.done());
        let mut state = condition.acquire().await;
        *state = n;
        state.notify(1);
    }
    join([task]).await;
}

async fn a_barrier_of_three(t: Trace) {
    let barrier = Rc::new(Barrier::new(3));
    let tasks: Vec<_> = (0..3)
        .map(|n| {
            let (t, barrier) = (t.clone(), barrier.clone());
            job(async move {
                if let Ok(place) = barrier.wait().await {
                    t.say(format!("{n} at {place}"));
                }
            })
        })
        .collect();
    join(tasks).await;
    t.say(barrier.n_waiting());
}

fn waiters<const N: usize>(
    t: &Trace,
    condition: &Rc<Condition>,
    names: [&'static str; N],
) -> [Task<&'static str>; N] {
    names.map(|name| {
        let (t, condition) = (t.clone(), condition.clone());
        job(async move {
            let _guard = condition.acquire().await.wait().await;
            t.say(format!("{name} woken"));
        })
    })
}

async fn a_cancelled_waiter_of_a_condition(t: Trace) {
    let condition = Rc::new(Condition::new(false));
    let [a, b] = ["a", "b"].map(|name| {
        let (t, condition) = (t.clone(), condition.clone());
        job(async move {
            let _guard = condition.acquire().await.wait_for(|state| *state).await;
            t.say(format!("{name} woken"));
        })
    });
    turns(2).await;
    a.cancel();
    turns(3).await;
    t.say(result(a).await);
    {
        let mut state = condition.acquire().await;
        *state = true;
        state.notify(1);
    }
    t.say(result(b).await);
}

async fn a_notification_of_nobody_is_lost(t: Trace) {
    let condition = Rc::new(Condition::new(()));
    condition.acquire().await.notify_all();
    let [task] = waiters(&t, &condition, ["a"]);
    turns(3).await;
    t.say(task.done());
    condition.acquire().await.notify(5);
    join([task]).await;
}

async fn a_condition_under_a_timeout(t: Trace) {
    let condition = Condition::new(());
    let wait = async { drop(condition.acquire().await.wait().await) };
    if timeout(ms(10), wait).await.is_err() {
        t.at("timeout");
    }
    t.say(condition.locked());
}

async fn a_barrier_twice(t: Trace) {
    let barrier = Rc::new(Barrier::new(2));
    let tasks = [2, 1].map(|n| {
        let (t, barrier) = (t.clone(), barrier.clone());
        job(async move {
            for _ in 0..2 {
                sleep(ms(10 * n)).await;
                let place = barrier.wait().await.unwrap();
                t.at(format!("{n} at {place}"));
            }
        })
    });
    join(tasks).await;
    t.say(barrier.n_waiting());
}

fn at_barrier<const N: usize>(
    t: &Trace,
    barrier: &Rc<Barrier>,
    names: [&'static str; N],
) -> [Task<&'static str>; N] {
    names.map(|name| {
        let (t, barrier) = (t.clone(), barrier.clone());
        job(async move {
            match barrier.wait().await {
                Ok(place) => t.say(format!("{name} at {place}")),
                Err(_) => t.say(format!("{name} broken")),
            }
        })
    })
}

async fn a_barrier_is_aborted(t: Trace) {
    let barrier = Rc::new(Barrier::new(3));
    let tasks = at_barrier(&t, &barrier, ["a", "b"]);
    turns(1).await;
    t.say(barrier.n_waiting());
    barrier.abort();
    t.say(barrier.broken());
    let late = at_barrier(&t, &barrier, ["c"]);
    join(tasks.into_iter().chain(late)).await;
}

async fn a_barrier_is_reset(t: Trace) {
    let barrier = Rc::new(Barrier::new(2));
    let tasks = at_barrier(&t, &barrier, ["a"]);
    turns(1).await;
    barrier.reset();
    turns(3).await;
    t.say(barrier.broken());
    let late = at_barrier(&t, &barrier, ["b", "c"]);
    join(tasks.into_iter().chain(late)).await;
}

async fn one_at_a_barrier_is_cancelled(t: Trace) {
    let barrier = Rc::new(Barrier::new(2));
    let [a] = at_barrier(&t, &barrier, ["a"]);
    turns(1).await;
    a.cancel();
    t.say(result(a).await);
    t.say(barrier.n_waiting());
    join(at_barrier(&t, &barrier, ["c", "d"])).await;
}
