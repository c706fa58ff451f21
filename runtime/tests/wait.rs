//! `wait`, `wait_try`, `wait_for`: as asyncio's.

mod common;

use std::{cell::Cell, rc::Rc, time::Duration};

use common::{Log, OnDrop, ms, on_every, on_sim, turns};
use corio_runtime::{
    ReturnWhen, Task, TaskError, TaskState, create_task, shield,
    time::{self, sleep, wait_for},
    wait, wait_try,
};

fn sleeper(millis: u64) -> Task<u64> {
    create_task(async move {
        sleep(ms(millis)).await;
        millis
    })
}

#[test]
fn gath_14_gath_25_all_completed_waits_for_all_and_a_second_wait_returns_at_once() {
    on_every(async || {
        let (done, pending) = wait(vec![sleeper(3), sleeper(2)], ReturnWhen::AllCompleted, None).await;
        assert_eq!((done.len(), pending.len()), (2, 0));
        let other = create_task(async {});
        let (done, _) = wait(done, ReturnWhen::AllCompleted, None).await;
        assert!(!other.done());
        let mut values = Vec::new();
        for task in done {
            values.push(task.await.unwrap());
        }
        assert_eq!(values, [3, 2], "in the order given");
    });
}

#[test]
fn gath_16_nothing_to_wait_for_is_done() {
    on_every(async || {
        let (done, pending) = wait(Vec::<Task<()>>::new(), ReturnWhen::FirstCompleted, None).await;
        assert!(done.is_empty() && pending.is_empty());
    });
}

#[test]
fn gath_18_first_completed_leaves_the_others_alone() {
    on_every(async || {
        let start = time::now();
        let (done, pending) = wait(vec![sleeper(10_000), sleeper(1)], ReturnWhen::FirstCompleted, None).await;
        assert!(time::now() - start < ms(10_000));
        assert_eq!((done.len(), pending.len()), (1, 1));
        assert!(!pending[0].done());
    });
}

#[test]
fn gath_19_who_is_done_is_looked_at_when_the_waiter_runs() {
    on_every(async || {
        // The second one ends first and wakes the waiter; the other one ends a turn later, before the waiter runs.
        let tasks = [2, 1].map(|n| create_task(turns(n))).into();
        let (done, pending) = wait(tasks, ReturnWhen::FirstCompleted, None).await;
        assert_eq!((done.len(), pending.len()), (2, 0));
        assert!(done.iter().all(Task::done));
        let tasks = [1, 1].map(|n| create_task(turns(n))).into();
        let (done, _) = wait(tasks, ReturnWhen::FirstCompleted, None).await;
        assert_eq!(done.len(), 2);
        // One that ends behind the waiter is pending.
        let tasks = [1, 3].map(|n| create_task(turns(n))).into();
        let (done, pending) = wait(tasks, ReturnWhen::FirstCompleted, None).await;
        assert_eq!((done.len(), pending.len()), (1, 1));
        assert!(!pending[0].done());
    });
}

#[test]
fn gath_20_gath_21_gath_22_the_first_failure_ends_it() {
    on_every(async || {
        let bad = create_task(async { panic!("failed") });
        let (done, pending) = wait(vec![sleeper(10_000), bad], ReturnWhen::FirstException, None).await;
        assert_eq!((done.len(), pending.len()), (1, 1));
        let bad = create_task(async {
            sleep(ms(1)).await;
            Err::<u64, _>("failed")
        });
        let slow = create_task(async {
            sleep(ms(10_000)).await;
            Ok(1)
        });
        let (mut done, pending) = wait_try(vec![slow, bad], ReturnWhen::FirstException, None).await;
        assert_eq!(pending.len(), 1);
        assert_eq!(done.remove(0).await.unwrap(), Err("failed"));
        let mixed = vec![create_task(async { Err(1) }), create_task(async { Ok(2) })];
        let (done, _) = wait_try(mixed, ReturnWhen::AllCompleted, None).await;
        assert_eq!(done.len(), 2, "a failure is no error of the wait");
        let good = vec![create_task(async { Ok::<_, ()>(1) }), create_task(async { Ok(2) })];
        let (done, _) = wait_try(good, ReturnWhen::FirstException, None).await;
        assert_eq!(done.len(), 2, "without a failure it waits for all");
    });
}

#[test]
fn gath_23_gath_24_a_timeout_is_no_error_and_cancels_nothing() {
    on_every(async || {
        let tasks = vec![create_task(async { 1 }), sleeper(10_000)];
        let (done, pending) = wait(tasks, ReturnWhen::AllCompleted, Some(ms(10))).await;
        assert_eq!((done.len(), pending.len()), (1, 1));
        assert!(!pending[0].done() && !pending[0].cancelled());
    });
}

#[test]
fn task_28_a_cancelled_wait_leaves_the_tasks_running() {
    on_every(async || {
        let log = Log::new();
        let theirs = log.clone();
        let inner = create_task(async move {
            sleep(ms(2)).await;
            theirs.push(1);
        });
        let outer = create_task(wait(vec![inner], ReturnWhen::AllCompleted, None));
        turns(2).await;
        outer.cancel();
        assert!(matches!(outer.await, Err(TaskError::Cancelled)));
        sleep(ms(5)).await;
        assert_eq!(log.get(), [1]);
    });
}

#[test]
fn wf_03_wf_07_wf_08_a_value_that_is_ready_beats_the_deadline() {
    on_every(async || {
        let done = create_task(async { "done" });
        turns(1).await;
        assert_eq!(wait_for(done, Duration::ZERO).await.unwrap().unwrap(), "done");
        let next = create_task(async { "ok" });
        assert_eq!(wait_for(next, ms(200)).await.unwrap().unwrap(), "ok");
        assert_eq!(wait_for(async { 1 }, Duration::MAX).await, Ok(1));
    });
}

#[test]
fn time_that_is_up_drops_what_ran() {
    on_every(async || {
        let dropped = Rc::new(Cell::new(0));
        for limit in [Duration::ZERO, ms(1)] {
            let guard = OnDrop(dropped.clone());
            let future = async move {
                let _guard = guard;
                std::future::pending::<()>().await;
            };
            let error = wait_for(future, limit).await.unwrap_err();
            assert_eq!(error.to_string(), "deadline has elapsed");
        }
        assert_eq!(dropped.get(), 2, "before the error is seen");
        let task = create_task(std::future::pending::<()>()).cancel_on_drop();
        let cancel = task.cancel_handle();
        assert!(wait_for(task, ms(1)).await.is_err());
        turns(1).await;
        assert!(!cancel.cancel());
    });
}

#[test]
fn a_panic_of_a_destructor_wins_over_the_timeout() {
    on_every(async || {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("in its finally");
            }
        }
        let task = create_task(async {
            let future = async {
                let _bad = Bad;
                std::future::pending::<()>().await;
            };
            let _ = wait_for(future, ms(1)).await;
        });
        assert!(task.await.unwrap_err().to_string().contains("in its finally"));
    });
}

#[test]
fn a_cancelled_wait_for_drops_what_is_inside() {
    on_every(async || {
        let dropped = Rc::new(Cell::new(0));
        let guard = OnDrop(dropped.clone());
        let outer = create_task(wait_for(
            async move {
                let _guard = guard;
                std::future::pending::<()>().await;
            },
            ms(60_000),
        ));
        turns(2).await;
        outer.cancel();
        assert!(matches!(outer.await, Err(TaskError::Cancelled)));
        assert_eq!(dropped.get(), 1);
        let inner = create_task(async { "done" });
        let after = Rc::new(Cell::new(0));
        let reached = after.clone();
        let outer = create_task(async move {
            let mut inner = inner;
            let _ = wait_for(&mut inner, ms(60_000)).await;
            turns(1).await;
            reached.set(1);
        });
        turns(1).await;
        outer.cancel();
        assert!(matches!(outer.await, Err(TaskError::Cancelled)));
        assert_eq!(after.get(), 0, "the cancel is not lost");
    });
}

#[test]
fn wf_17_a_shielded_task_gives_its_value_without_a_limit_and_after_one() {
    on_sim(async || {
        let start = time::now();
        let said = Log::new();
        let job = |said: &Log<&'static str>| {
            let said = said.clone();
            create_task(async move {
                sleep(ms(100)).await;
                said.push("done");
                "done"
            })
        };
        assert_eq!(wait_for(shield(job(&said)), Duration::MAX).await.unwrap().unwrap(), "done");
        assert_eq!(time::now() - start, ms(100));
        let task = job(&said);
        let ended = Rc::new(Cell::new(None));
        let state = ended.clone();
        task.add_done_callback(move |info| state.set(Some(info.state())));
        assert!(wait_for(shield(task), ms(10)).await.is_err());
        assert_eq!((time::now() - start, said.get().len()), (ms(110), 1));
        sleep(ms(89)).await;
        assert_eq!(ended.get(), None, "it goes on");
        sleep(ms(2)).await;
        assert_eq!((said.get().len(), ended.get()), (2, Some(TaskState::Finished)));
    });
}

#[test]
fn wf_16_a_shielded_task_is_unharmed() {
    on_every(async || {
        let mut inner = sleeper(10_000);
        assert!(wait_for(&mut inner, ms(1)).await.is_err(), "waiting by reference cancels nothing");
        let cancel = inner.cancel_handle();
        assert!(wait_for(shield(inner), Duration::ZERO).await.is_err());
        sleep(ms(1)).await;
        assert!(cancel.cancel(), "it ran on");
    });
}
