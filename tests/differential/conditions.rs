//! Conditions and barriers.

use std::rc::Rc;

use corio::{Barrier, Condition, Task};

use crate::scenario::{Trace, job, join, turns};

scenarios! {
    everywhere: a_condition_lets_them_go_one_by_one, a_condition_with_a_predicate, a_barrier_of_three;
    simulated: ;
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
