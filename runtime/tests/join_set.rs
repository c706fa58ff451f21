//! `JoinSet` behaves as tokio's does, on every kernel.

use std::{
    cell::{Cell, RefCell},
    future::{pending, poll_fn},
    pin::pin,
    rc::Rc,
    task::Poll,
};

use corio_runtime::{JoinSet, TaskError, all_tasks, create_task, time::timeout, with_cleanup, yield_now};

mod common;
use common::*;

/// Polls `future` once, and drops it.
async fn give_up<F: Future>(future: F) {
    let mut future = pin!(future);
    poll_fn(|cx| {
        assert!(future.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

fn value<T>(result: Option<Result<T, TaskError>>) -> T {
    result.expect("a task of the set").expect("a value")
}

#[test]
fn results_come_in_the_order_of_the_ends_also_of_tasks_added_later() {
    on_every(async || {
        let mut set = JoinSet::new();
        let after = |n: usize| async move {
            turns(n).await;
            n
        };
        for n in [9, 2, 5] {
            set.spawn(after(n));
        }
        assert_eq!(value(set.join_next().await), 2);
        set.spawn(after(1));
        assert_eq!(value(set.join_next().await), 1);
        assert_eq!(value(set.join_next().await), 5);
        assert_eq!(value(set.join_next().await), 9);
        assert!(set.join_next().await.is_none());
        set.spawn(after(0));
        assert_eq!(value(set.join_next().await), 0, "an empty set may be filled again");
    });
}

#[test]
fn tasks_that_end_in_one_turn_come_in_the_order_of_their_ends() {
    on_every(async || {
        let mut set = JoinSet::new();
        (0..100).for_each(|n| {
            set.spawn(async move { n });
        });
        yield_now().await;
        for n in 0..100 {
            assert_eq!(value(set.join_next().await), n);
        }
    });
}

#[test]
fn a_panic_and_a_cancel_are_results() {
    on_every(async || {
        let reports = reports();
        let mut set = JoinSet::<()>::new();
        set.spawn(async { panic!("in a task") });
        let Some(Err(TaskError::Panicked(payload))) = set.join_next().await else { panic!("it panicked") };
        assert_eq!(payload.message(), "in a task");
        let cancel = set.spawn(pending());
        yield_now().await;
        assert!(cancel.cancel());
        assert!(matches!(set.join_next().await, Some(Err(TaskError::Cancelled))));
        assert!(!cancel.cancel() && set.is_empty());
        assert!(reports.borrow().is_empty(), "{reports:?}");
    });
}

#[test]
fn a_join_next_that_is_given_up_loses_no_result() {
    on_every(async || {
        let mut set = JoinSet::new();
        set.spawn(async {
            yield_now().await;
            7
        });
        give_up(set.join_next()).await;
        turns(3).await;
        assert_eq!(set.len(), 1);
        assert_eq!(value(set.join_next().await), 7);
        // The result comes in the turn in which the wait is given up.
        set.spawn(async { 8 });
        let mut waits = Box::pin(set.join_next());
        poll_fn(|cx| {
            assert!(waits.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        yield_now().await;
        drop(waits);
        assert_eq!(value(set.join_next().await), 8);
    });
}

#[test]
fn a_given_up_join_next_cancels_no_task() {
    on_every(async || {
        let (mut set, finished) = (JoinSet::new(), Rc::new(Cell::new(0)));
        for _ in 0..3 {
            let finished = finished.clone();
            set.spawn(async move {
                turns(5).await;
                finished.set(finished.get() + 1);
            });
        }
        for _ in 0..3 {
            give_up(set.join_next()).await;
        }
        while let Some(result) = set.join_next().await {
            result.unwrap();
        }
        assert_eq!(finished.get(), 3);
    });
}

#[test]
fn dropping_the_set_cancels_its_tasks_also_those_that_have_not_begun() {
    on_every(async || {
        let dropped = Rc::new(Cell::new(0));
        let endless = || {
            let guard = OnDrop(dropped.clone());
            async move {
                let _guard = guard;
                pending::<()>().await;
            }
        };
        let mut set = JoinSet::new();
        set.spawn(endless());
        yield_now().await;
        set.spawn(endless());
        drop(set);
        turns(2).await;
        assert_eq!((dropped.get(), all_tasks().len()), (2, 1));
    });
}

#[test]
fn who_ends_the_owner_of_a_set_waits_for_the_cleanups_of_its_tasks() {
    on_every(async || {
        let cleaned = Rc::new(Cell::new(false));
        let flag = cleaned.clone();
        let owner = async move {
            let mut set = JoinSet::new();
            set.spawn(with_cleanup(pending::<()>(), || async move {
                turns(5).await;
                flag.set(true);
            }));
            set.join_next().await;
        };
        assert!(timeout(ms(1), owner).await.is_err());
        assert!(cleaned.get());
    });
}

#[test]
fn abort_all_leaves_the_cancelled_tasks_in_the_set() {
    on_every(async || {
        let mut set = JoinSet::new();
        set.spawn(async { 1 });
        yield_now().await;
        set.spawn(pending());
        set.spawn(pending());
        set.abort_all();
        assert_eq!(set.len(), 3);
        assert_eq!(value(set.join_next().await), 1, "it had ended before");
        for _ in 0..2 {
            assert!(matches!(set.join_next().await, Some(Err(TaskError::Cancelled))));
        }
        assert!(set.join_next().await.is_none());
    });
}

#[test]
fn shutdown_waits_for_cleanups_and_drops_results() {
    on_every(async || {
        let log = Log::new();
        let mut set = JoinSet::<()>::new();
        let theirs = log.clone();
        set.spawn(with_cleanup(pending(), || async move {
            turns(3).await;
            theirs.push("cleaned");
        }));
        set.spawn(async { panic!("nobody wants it") });
        yield_now().await;
        set.shutdown().await;
        log.push("shut down");
        assert_eq!((log.get(), set.len()), (vec!["cleaned", "shut down"], 0));
        set.shutdown().await;
    });
}

#[test]
fn detached_tasks_go_on_and_are_no_longer_of_the_set() {
    on_every(async || {
        let reports = reports();
        let finished = Rc::new(Cell::new(false));
        let flag = finished.clone();
        let mut set = JoinSet::new();
        set.spawn(async move {
            turns(3).await;
            flag.set(true);
        });
        set.spawn(async { panic!("in a detached task") });
        give_up(set.join_next()).await;
        set.detach_all();
        assert!(set.is_empty() && set.join_next().await.is_none());
        set.spawn(turns(6));
        value(set.join_next().await);
        assert!(finished.get() && set.is_empty());
        drop(set);
        assert!(matches!(&reports.borrow()[..], [one] if one.contains("in a detached task")));
    });
}

#[test]
fn try_join_next_takes_what_has_ended_and_waits_for_nothing() {
    on_every(async || {
        let mut set = JoinSet::new();
        assert!(set.try_join_next().is_none());
        set.spawn(async { 1 });
        set.spawn(pending());
        assert!(set.try_join_next().is_none());
        yield_now().await;
        assert_eq!(value(set.try_join_next()), 1);
        assert!(set.try_join_next().is_none());
        assert_eq!(set.len(), 1);
    });
}

#[test]
fn a_waiting_join_next_hears_of_a_task_that_another_one_cancels() {
    on_every(async || {
        let mut set = JoinSet::<()>::new();
        let cancel = set.spawn(pending());
        create_task(async move {
            turns(2).await;
            cancel.cancel();
        })
        .detach();
        assert!(matches!(set.join_next().await, Some(Err(TaskError::Cancelled))));
    });
}

#[test]
fn a_set_of_a_closed_loop_ends_with_errors() {
    for backend in kernels() {
        let mut runner = on(backend);
        let mut set = runner.run(async {
            let mut set = JoinSet::new();
            set.spawn(pending::<()>());
            yield_now().await;
            set
        });
        runner.close();
        on(backend).run(async move {
            assert!(matches!(set.join_next().await, Some(Err(TaskError::WrongLoop))));
            assert!(set.join_next().await.is_none());
        });
    }
}

#[test]
fn ten_thousand_tasks_in_one_set() {
    on_every(async || {
        let (mut set, mut sum) = (JoinSet::new(), 0);
        let started = RefCell::new(0);
        while *started.borrow() < 10_000 || !set.is_empty() {
            while set.len() < 100 && *started.borrow() < 10_000 {
                let n = started.replace_with(|n| *n + 1);
                set.spawn(async move {
                    turns(n % 7).await;
                    n
                });
            }
            sum += value(set.join_next().await);
        }
        assert_eq!(sum, 10_000 * 9_999 / 2);
    });
}
