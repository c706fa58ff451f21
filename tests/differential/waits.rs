//! Waiting for several tasks, and protecting them.

use corio::{ReturnWhen, create_task, event_loop::create_future, gather, shield, wait};

use crate::scenario::{Trace, job, result, turns};

scenarios! {
    everywhere: gather_keeps_the_order_of_the_arguments, gather_of_what_is_ready, shield_outlives_its_waiter, wait_for_the_first, wait_for_all;
    simulated: ;
}

async fn gather_keeps_the_order_of_the_arguments(t: Trace) {
    let job = |n, value: u32| {
        let t = t.clone();
        async move {
            turns(n).await;
            t.say(format!("end {value}"));
            value
        }
    };
    t.list(gather([job(3, 1), job(1, 2), job(2, 3)]).await);
}

async fn gather_of_what_is_ready(t: Trace) {
    t.list(gather([1, 2].map(async |value| value)).await);
}

async fn shield_outlives_its_waiter(t: Trace) {
    let (ended, (tell, told)) = (t.clone(), create_future());
    let inner = job(async move {
        turns(4).await;
        ended.say("inner ended");
        assert!(tell.set_result(()).is_ok());
    });
    let waiter = create_task(async move {
        drop(shield(inner).await);
        "never"
    });
    turns(2).await;
    waiter.cancel();
    t.say(result(waiter).await);
    assert!(told.await.is_ok());
}

async fn wait_for_the_first(t: Trace) {
    let tasks = [5, 1, 9].map(|n| job(turns(n)));
    let (done, pending) = wait(tasks.into(), ReturnWhen::FirstCompleted, None).await;
    t.say(done.len());
    t.say(pending.len());
    // In the order in which they were given.
    t.list([pending[0].done(), done[0].done(), pending[1].done()]);
}

async fn wait_for_all(t: Trace) {
    let tasks = [3, 1, 2].map(|n| {
        let t = t.clone();
        job(async move {
            turns(n).await;
            t.say(n);
        })
    });
    let (done, pending) = wait(tasks.into(), ReturnWhen::AllCompleted, None).await;
    t.say(done.len());
    t.say(pending.len());
}
