//! Cancels that are caught, and what ends by awaiting.

use std::{
    cell::RefCell,
    fmt::Display,
    future::{Future, pending},
    pin::Pin,
};

use corio::{
    Task, create_task,
    event_loop::{call_later, create_future},
    gather, shield, sleep,
    task::{catch_cancel, with_cleanup},
    task_group,
    time::timeout,
};

use crate::scenario::{Trace, job, ms, none, result, sleep_in_guard, sleeper, turns, waiter};

scenarios! {
    everywhere: ;
    simulated: a_cancel_is_caught, a_cancel_is_caught_by_a_long_handler, a_cancel_is_resumed,
        a_task_goes_on_after_a_cancel, nested_scopes_inner_first, only_the_inner_scope_catches,
        a_second_cancel_goes_to_the_outer_scope, a_second_cancel_ends_a_handler,
        a_scope_that_is_over_catches_nothing, a_caught_timeout_is_a_value, a_resumed_timeout_is_a_timeout,
        a_child_catches_the_failure_of_a_sibling, a_cancel_passes_through_an_awaited_task,
        a_cancel_passes_through_three_tasks, an_awaited_task_catches_the_cancel,
        a_cancelled_gather_cancels_its_tasks, a_timeout_cancels_the_awaited_task, a_shield_under_a_cancel,
        a_timeout_waits_for_a_cleanup, nested_cleanups_inner_first,
        a_group_waits_for_the_cleanups_of_its_children, who_cancels_waits_for_the_cleanup,
        siblings_fail_in_one_turn, cancels_are_counted, a_cancel_is_taken_once,
        a_cancel_beats_the_end_of_an_awaited_task, a_resumed_task_ends_at_once,
        a_cancel_while_a_timeout_is_handled, a_cancel_after_a_caught_timeout,
        an_inner_timeout_while_an_outer_is_handled, a_cancelled_group_waits_for_a_cleanup_that_has_begun,
        a_failed_group_is_cancelled_while_a_child_handles, the_children_of_a_cancelled_group_are_done;
}

type Boxed = Pin<Box<dyn Future<Output = String>>>;

/// Cancels a task of this after so many milliseconds, and tells how it ends.
async fn cancelled_at(t: &Trace, duration: u64, future: impl Future<Output = String> + 'static) {
    let mut task = create_task(future);
    sleep(ms(duration)).await;
    t.at(format!("cancel: {}", task.cancel()));
    t.at((&mut task).await.unwrap_or_else(|_| "cancelled".to_owned()));
}

async fn timed<T: Display>(t: &Trace, duration: u64, future: impl Future<Output = T>) -> String {
    match timeout(ms(duration), future).await {
        Ok(value) => t.at(format!("value {value}")),
        Err(_) => t.at("timeout"),
    }
    "None".to_owned()
}

/// What goes on with the cancel after its handler, or does not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    GoesOn,
    Resumes,
}

fn caught(t: &Trace, name: &'static str, body: Boxed, handler: Option<Boxed>, then: Then) -> Boxed {
    let t = t.clone();
    Box::pin(async move {
        let cancelled = match catch_cancel(body).await {
            Ok(value) => return value,
            Err(cancelled) => cancelled,
        };
        t.at(format!("{name} caught"));
        if let Some(handler) = handler {
            handler.await;
            t.at(format!("{name} handled"));
        }
        if then == Then::Resumes {
            cancelled.resume().await;
        }
        format!("{name} caught it")
    })
}

fn cleaned(t: &Trace, name: impl Display, body: Boxed, duration: u64) -> Boxed {
    let line = format!("{name} cleaned");
    let t = t.clone();
    Box::pin(with_cleanup(body, move || async move {
        sleep(ms(duration)).await;
        t.at(line);
    }))
}

fn forever() -> Boxed {
    Box::pin(pending())
}

fn slept(duration: u64) -> Boxed {
    Box::pin(async move { none(sleep(ms(duration))).await.to_owned() })
}

async fn a_cancel_is_caught(t: Trace) {
    cancelled_at(&t, 10, caught(&t, "task", forever(), None, Then::GoesOn)).await;
}

async fn a_cancel_is_caught_by_a_long_handler(t: Trace) {
    cancelled_at(&t, 10, caught(&t, "task", forever(), Some(slept(20)), Then::GoesOn)).await;
}

async fn a_cancel_is_resumed(t: Trace) {
    cancelled_at(&t, 10, caught(&t, "task", forever(), Some(slept(20)), Then::Resumes)).await;
}

async fn a_task_goes_on_after_a_cancel(t: Trace) {
    let said = t.clone();
    let job = async move {
        said.say(caught(&said, "first", forever(), None, Then::GoesOn).await);
        let body = said.clone();
        let body = Box::pin(async move { sleep_in_guard(&body, "body", 20).await.to_owned() });
        said.say(caught(&said, "second", body, None, Then::GoesOn).await);
        "the end".to_owned()
    };
    cancelled_at(&t, 10, job).await;
}

async fn nested_scopes_inner_first(t: Trace) {
    let inner = caught(&t, "inner", forever(), Some(slept(10)), Then::Resumes);
    cancelled_at(&t, 10, caught(&t, "outer", inner, Some(slept(10)), Then::GoesOn)).await;
}

async fn only_the_inner_scope_catches(t: Trace) {
    let said = t.clone();
    let body = Box::pin(async move {
        said.say(caught(&said, "inner", forever(), None, Then::GoesOn).await);
        sleep(ms(10)).await;
        "body over".to_owned()
    });
    cancelled_at(&t, 10, caught(&t, "outer", body, None, Then::GoesOn)).await;
}

async fn a_second_cancel_goes_to_the_outer_scope(t: Trace) {
    let inner = caught(&t, "inner", forever(), Some(forever()), Then::GoesOn);
    let task = create_task(caught(&t, "outer", inner, None, Then::GoesOn));
    for _ in 0..2 {
        sleep(ms(10)).await;
        t.at(task.cancel());
    }
    t.at(result(task).await);
}

async fn a_second_cancel_ends_a_handler(t: Trace) {
    let said = t.clone();
    let handler = Box::pin(async move {
        let _guard = said.guard("handler");
        pending().await
    });
    let task = create_task(caught(&t, "task", forever(), Some(handler), Then::GoesOn));
    for _ in 0..2 {
        sleep(ms(10)).await;
        t.at(task.cancel());
    }
    t.at(result(task).await);
}

async fn a_scope_that_is_over_catches_nothing(t: Trace) {
    let said = t.clone();
    let job = async move {
        let value = Box::pin(async {
            sleep(ms(5)).await;
            "value".to_owned()
        });
        said.say(caught(&said, "scope", value, None, Then::GoesOn).await);
        pending().await
    };
    cancelled_at(&t, 10, job).await;
}

async fn a_caught_timeout_is_a_value(t: Trace) {
    timed(&t, 10, caught(&t, "body", forever(), Some(slept(20)), Then::GoesOn)).await;
}

async fn a_resumed_timeout_is_a_timeout(t: Trace) {
    timed(&t, 10, caught(&t, "body", forever(), Some(slept(20)), Then::Resumes)).await;
}

async fn a_child_catches_the_failure_of_a_sibling(t: Trace) {
    let failed = task_group::<(), _>(async |group| {
        drop(group.create_task(async {
            sleep(ms(10)).await;
            Err::<(), _>("bad")
        }));
        let good = caught(&t, "child", forever(), Some(slept(10)), Then::GoesOn);
        drop(group.create_task(async { Ok(good.await) }));
        Ok(())
    });
    t.at(format!("failed with {}", failed.await.unwrap_err().errors()[0]));
}

async fn a_cancel_passes_through_an_awaited_task(t: Trace) {
    let said = t.clone();
    let job = async move {
        let _guard = said.guard("outer");
        result(waiter(&said, "inner")).await
    };
    cancelled_at(&t, 10, job).await;
}

async fn a_cancel_passes_through_three_tasks(t: Trace) {
    let said = t.clone();
    let job = async move {
        let _guard = said.guard(1);
        let second = said.clone();
        let task = job(async move {
            let _guard = second.guard(2);
            drop(waiter(&second, 3).await);
        });
        result(task).await
    };
    cancelled_at(&t, 10, job).await;
}

async fn an_awaited_task_catches_the_cancel(t: Trace) {
    let said = t.clone();
    let job = async move {
        let task = create_task(caught(&said, "inner", forever(), Some(slept(10)), Then::GoesOn));
        said.say(result(task).await);
        sleep(ms(10)).await;
        "goes on".to_owned()
    };
    cancelled_at(&t, 10, job).await;
}

async fn a_cancelled_gather_cancels_its_tasks(t: Trace) {
    let said = t.clone();
    let job = async move {
        gather([5, 20, 30].map(|n| sleeper(&said, n, n))).await;
        "never".to_owned()
    };
    cancelled_at(&t, 10, job).await;
}

async fn a_timeout_cancels_the_awaited_task(t: Trace) {
    let task = waiter(&t, "task");
    let done = t.clone();
    let told = create_task(async move {
        sleep(ms(15)).await;
        done.say(true);
    });
    timed(&t, 10, result(task)).await;
    told.await.unwrap();
}

async fn a_shield_under_a_cancel(t: Trace) {
    let (said, task) = (t.clone(), sleeper(&t, "inner", 20));
    let job = async move {
        let _guard = said.guard("outer");
        shield(task).await.unwrap().to_owned()
    };
    cancelled_at(&t, 10, job).await;
    sleep(ms(20)).await;
}

async fn a_timeout_waits_for_a_cleanup(t: Trace) {
    timed(&t, 10, cleaned(&t, "body", forever(), 20)).await;
}

async fn nested_cleanups_inner_first(t: Trace) {
    let inner = cleaned(&t, "inner", forever(), 20);
    cancelled_at(&t, 10, cleaned(&t, "outer", inner, 10)).await;
}

async fn a_group_waits_for_the_cleanups_of_its_children(t: Trace) {
    let failed = task_group::<(), _>(async |group| {
        for n in [30, 20] {
            let child = cleaned(&t, n, forever(), n);
            drop(group.create_task(async { Ok(child.await) }));
        }
        drop(group.create_task(async {
            sleep(ms(10)).await;
            Err::<(), _>("bad")
        }));
        Ok(())
    });
    t.at(format!("failed with {}", failed.await.unwrap_err().errors()[0]));
}

async fn who_cancels_waits_for_the_cleanup(t: Trace) {
    cancelled_at(&t, 10, cleaned(&t, "task", forever(), 20)).await;
    let inner = timed(&t, 50, cleaned(&t, "body", forever(), 20));
    timed(&t, 10, inner).await;
}

async fn siblings_fail_in_one_turn(t: Trace) {
    for late in [1, 3] {
        let failed = task_group::<(), _>(async |group| {
            for (n, turn) in [(1, 1), (2, late), (3, 1)] {
                drop(group.create_task(async move {
                    turns(turn).await;
                    Err::<(), _>(n.to_string())
                }));
            }
            Ok(())
        });
        t.say(format!("failed with {}", failed.await.unwrap_err().errors().join(", ")));
    }
}

async fn cancels_are_counted(t: Trace) {
    let task = create_task(caught(&t, "task", forever(), Some(slept(20)), Then::GoesOn));
    sleep(ms(10)).await;
    t.say(task.cancelling());
    task.cancel();
    t.say(task.cancelling());
    sleep(ms(10)).await;
    t.say(task.uncancel());
    t.say(task.uncancel());
    t.at(result(task).await);
}

async fn a_cancel_is_taken_once(t: Trace) {
    let said = t.clone();
    let job = async move {
        said.say(caught(&said, "scope", forever(), None, Then::GoesOn).await);
        let value = create_task(async {
            turns(2).await;
            "value"
        });
        said.say(result(value).await);
        "goes on".to_owned()
    };
    cancelled_at(&t, 10, job).await;
}

async fn a_cancel_beats_the_end_of_an_awaited_task(t: Trace) {
    let (resolver, future) = create_future::<&str>();
    let inner = async { future.await.unwrap() };
    let task = create_task(async { create_task(inner).await.unwrap() });
    turns(2).await;
    resolver.set_result("value").unwrap();
    turns(1).await;
    t.say(task.cancel());
    t.say(result(task).await);
}

async fn a_resumed_task_ends_at_once(t: Trace) {
    let child = t.clone();
    let handler = Box::pin(async move {
        drop(job(async move {
            turns(1).await;
            child.say("child");
        }));
        "None".to_owned()
    });
    cancelled_at(&t, 10, caught(&t, "task", forever(), Some(handler), Then::Resumes)).await;
    turns(1).await;
}

async fn a_cancel_while_a_timeout_is_handled(t: Trace) {
    let body = caught(&t, "body", forever(), Some(slept(50)), Then::Resumes);
    let said = t.clone();
    cancelled_at(&t, 20, async move { timed(&said, 10, body).await }).await;
}

async fn an_inner_timeout_while_an_outer_is_handled(t: Trace) {
    let body = caught(&t, "body", forever(), Some(slept(50)), Then::Resumes);
    timed(&t, 10, timed(&t, 20, body)).await;
}

async fn a_cancel_after_a_caught_timeout(t: Trace) {
    let said = t.clone();
    let body = Box::pin(async move {
        said.say(caught(&said, "inner", forever(), None, Then::GoesOn).await);
        pending().await
    });
    let body = caught(&t, "outer", body, None, Then::Resumes);
    let said = t.clone();
    cancelled_at(&t, 20, async move { timed(&said, 10, body).await }).await;
}

async fn a_cancelled_group_waits_for_a_cleanup_that_has_begun(t: Trace) {
    let said = t.clone();
    let job = async move {
        let ended = task_group::<String, ()>(async |group| {
            let child = cleaned(&said, "child", forever(), 30);
            let child = group.create_task(async { Ok(child.await) });
            call_later(ms(10), move || assert!(child.cancel()));
            Ok("never".to_owned())
        });
        ended.await.unwrap()
    };
    cancelled_at(&t, 20, job).await;
}

async fn a_failed_group_is_cancelled_while_a_child_handles(t: Trace) {
    let said = t.clone();
    let mut task = job(async move {
        let failed = task_group::<(), _>(async |group| {
            let child = caught(&said, "child", forever(), Some(slept(30)), Then::GoesOn);
            drop(group.create_task(async { Ok(child.await) }));
            drop(group.create_task(async {
                sleep(ms(10)).await;
                Err::<(), _>("bad")
            }));
            Ok(())
        });
        drop(failed.await);
    });
    sleep(ms(20)).await;
    t.at(task.cancel());
    drop((&mut task).await);
    t.at("over");
}

async fn the_children_of_a_cancelled_group_are_done(t: Trace) {
    let child = RefCell::new(None);
    let body = task_group::<&str, ()>(async |group| {
        child.replace(Some(group.create_task(pending::<Result<(), ()>>())));
        pending().await
    });
    timed(&t, 10, async { body.await.unwrap() }).await;
    t.say(child.borrow().as_ref().is_some_and(Task::done));
}
