//! Waiting for several tasks, and protecting them.

use corio::{
    ReturnWhen, Task, as_completed, create_task,
    event_loop::create_future,
    gather, shield, sleep,
    task::{TaskState, try_gather_tasks},
    time::timeout,
    wait, wait_try,
};

use crate::scenario::{Trace, job, ms, result, sleeper, turns, waiter};

scenarios! {
    everywhere: gather_keeps_the_order_of_the_arguments, gather_of_what_is_ready,
        shield_outlives_its_waiter, wait_for_the_first, wait_for_all;
    simulated: wait_for_the_first_exception, wait_until_a_timeout, a_cancelled_wait_cancels_nothing,
        as_completed_in_the_order_of_their_ends, gather_of_one_that_fails,
        siblings_of_one_that_fails_go_on, gathers_in_a_gather, shield_of_a_done_task,
        the_task_in_a_shield_is_cancelled, shields_under_a_timeout, a_shield_is_left_and_its_task_awaited;
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

/// A task that fails, or does not, after so many milliseconds.
fn failing(n: u64, fails: bool) -> Task<Result<u64, u64>> {
    create_task(async move {
        sleep(ms(n)).await;
        if fails { Err(n) } else { Ok(n) }
    })
}

async fn wait_for_the_first_exception(t: Trace) {
    let tasks = [(10, false), (20, true), (30, false)].map(|(n, fails)| failing(n, fails));
    let (done, pending) = wait_try(tasks.into(), ReturnWhen::FirstException, None).await;
    t.at(format!("[{}, {}, {}]", done[0].done(), done[1].done(), pending[0].done()));
    let (done, _) = wait(pending, ReturnWhen::AllCompleted, None).await;
    t.at(done.len());
}

async fn wait_until_a_timeout(t: Trace) {
    let tasks = [10, 30].map(|n| sleeper(&t, n, n));
    let (done, pending) = wait(tasks.into(), ReturnWhen::AllCompleted, Some(ms(20))).await;
    t.at(format!("[{}, {}]", done[0].done(), pending[0].done()));
    let (_, pending) = wait(pending, ReturnWhen::AllCompleted, Some(ms(20))).await;
    t.at(pending.len());
}

async fn a_cancelled_wait_cancels_nothing(t: Trace) {
    let tasks = [20, 30].map(|n| sleeper(&t, n, n));
    let said = t.clone();
    let task = job(async move {
        let _guard = said.guard("waiter");
        let _ = wait(tasks.into(), ReturnWhen::AllCompleted, None).await;
    });
    sleep(ms(10)).await;
    task.cancel();
    t.at(result(task).await);
    sleep(ms(50)).await;
}

async fn as_completed_in_the_order_of_their_ends(t: Trace) {
    let mut ends = as_completed([30, 10, 20].map(|n| async move {
        sleep(ms(n)).await;
        n
    }));
    while let Some(n) = ends.next().await {
        t.at(n);
    }
}

async fn gather_of_one_that_fails(t: Trace) {
    let outcomes = gather([10, 20, 30].map(|n| failing(n, n == 20))).await;
    let shown = outcomes.into_iter().map(|outcome| match outcome.unwrap() {
        Ok(n) => n.to_string(),
        Err(_) => "failed".to_owned(),
    });
    t.at(format!("[{}]", shown.collect::<Vec<_>>().join(", ")));
}

async fn siblings_of_one_that_fails_go_on(t: Trace) {
    let mut tasks = [(10, false), (20, true), (30, false)].map(|(n, fails)| {
        let t = t.clone();
        create_task(async move {
            let guard = t.guard(n);
            sleep(ms(n)).await;
            guard.over();
            t.at(n);
            if fails { Err(n) } else { Ok(()) }
        })
    });
    if let Err(e) = try_gather_tasks(&mut tasks).await {
        t.at(format!("failed {e}"));
    }
    sleep(ms(20)).await;
    let done: Vec<_> = tasks.iter().map(|task| task.done().to_string()).collect();
    t.at(format!("[{}]", done.join(", ")));
}

async fn gathers_in_a_gather(t: Trace) {
    let job = |n: usize| {
        let t = t.clone();
        async move {
            turns(n).await;
            t.say(n);
            n
        }
    };
    let gathered = gather([[4, 1], [3, 2]].map(|numbers| gather(numbers.map(job)))).await;
    t.list(gathered.into_iter().map(|numbers| format!("{numbers:?}")));
}

async fn shield_of_a_done_task(t: Trace) {
    let task = create_task(async { 7 });
    turns(2).await;
    t.say(shield(task).await.unwrap());
}

async fn the_task_in_a_shield_is_cancelled(t: Trace) {
    let task = waiter(&t, "inner");
    let handle = task.cancel_handle();
    let outer = create_task(async move { shield(task).await.unwrap_or("cancelled") });
    turns(2).await;
    handle.cancel();
    t.say(result(outer).await);
}

async fn shields_under_a_timeout(t: Trace) {
    let mut task = shield(sleeper(&t, "task", 30));
    for duration in [10, 10, 20] {
        t.at(if timeout(ms(duration), &mut task).await.is_ok() { "value" } else { "timeout" });
    }
}

async fn a_shield_is_left_and_its_task_awaited(t: Trace) {
    let task = sleeper(&t, "inner", 30);
    let said = t.clone();
    let (tell, told) = create_future();
    task.add_done_callback(move |info| tell.set_result(info.state() == TaskState::Finished).unwrap());
    let outer = job(async move {
        let _guard = said.guard("outer");
        drop(shield(task).await);
    });
    sleep(ms(10)).await;
    outer.cancel();
    t.at(result(outer).await);
    sleep(ms(30)).await;
    t.at(told.await.unwrap());
}
