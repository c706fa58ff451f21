//! `create_future`, as asyncio's `Future`.

mod common;

use std::{cell::Cell, rc::Rc, task::Poll};

use common::{Log, OnDrop, on_every, poll_once, reports, turns};
use corio_runtime::{TaskError, TaskState, create_future, create_task};

#[test]
fn fut_01_fut_02_fut_14_pending_then_cancelled_for_good() {
    on_every(async || {
        let (resolver, future) = create_future::<u32>();
        assert!(!future.done() && !future.cancelled() && !resolver.done());
        assert!(future.cancel());
        assert!(future.done() && future.cancelled());
        let refused = resolver.set_result(1).unwrap_err();
        assert_eq!(
            (refused.to_string().as_str(), refused.into_inner()),
            ("invalid state: the future is done", 1)
        );
        assert!(!future.cancel() && !resolver.cancel());
        assert_eq!(format!("{future:?}"), "LoopFuture { state: \"cancelled\" }");
        assert!(future.await.is_err());
    });
}

#[test]
fn fut_03_a_result_is_set_once() {
    on_every(async || {
        let (resolver, future) = create_future();
        resolver.set_result(42).unwrap();
        assert!(resolver.set_result(43).is_err());
        assert!(!future.cancel() && future.done());
        let other = create_task(async {});
        assert_eq!(future.await, Ok(42));
        assert!(!other.done(), "what is done is awaited without a turn");
    });
}

#[test]
fn fut_04_an_error_is_a_value() {
    on_every(async || {
        let (resolver, future) = create_future::<Result<u32, String>>();
        resolver.set_result(Err("failed".into())).unwrap();
        assert_eq!(future.await, Ok(Err("failed".into())));
    });
}

#[test]
fn a_result_is_given_once_and_a_second_poll_says_so() {
    on_every(async || {
        let (resolver, mut future) = create_future();
        assert!(poll_once(&mut future).is_pending());
        resolver.set_result(42).unwrap();
        assert_eq!(poll_once(&mut future), Poll::Ready(Ok(42)));
        assert!(future.done() && !future.cancelled());
        let (_, mut cancelled) = create_future::<u32>();
        assert!(matches!(poll_once(&mut cancelled), Poll::Ready(Err(_))));
        for mut given in [future, cancelled] {
            let again = create_task(async move { poll_once(&mut given).is_ready() });
            let said = again.await.unwrap_err().to_string();
            assert!(said.contains("a LoopFuture was polled after it was ready"), "{said}");
        }
    });
}

#[test]
fn fut_05_callbacks_run_in_order_in_the_next_turn() {
    on_every(async || {
        let (resolver, future) = create_future();
        let log = Log::new();
        for n in 0..3 {
            let log = log.clone();
            future.add_done_callback(move || log.push(n));
        }
        resolver.set_result(()).unwrap();
        assert!(log.get().is_empty(), "never inside set_result");
        turns(1).await;
        assert_eq!(log.get(), [0, 1, 2]);
        let late = log.clone();
        future.add_done_callback(move || late.push(3));
        turns(1).await;
        assert_eq!(log.get(), [0, 1, 2, 3]);
    });
}

#[test]
fn fut_07_a_callback_may_add_callbacks_and_drop_the_future() {
    on_every(async || {
        let (resolver, future) = create_future::<()>();
        let (log, future) = (Log::new(), Rc::new(future));
        let (theirs, added) = (log.clone(), Rc::downgrade(&future));
        future.add_done_callback(move || {
            let (future, late) = (added.upgrade().unwrap(), theirs.clone());
            future.add_done_callback(move || late.push("added"));
            theirs.push("first");
        });
        let (theirs, mut last) = (log.clone(), Some(future.clone()));
        future.add_done_callback(move || {
            drop(last.take());
            theirs.push("second");
        });
        drop(future);
        resolver.set_result(()).unwrap();
        turns(2).await;
        assert_eq!(log.get(), ["first", "second", "added"]);
    });
}

#[test]
fn a_cancelled_future_wakes_who_awaits_it() {
    on_every(async || {
        let (resolver, future) = create_future::<()>();
        let task = create_task(future);
        turns(1).await;
        assert!(resolver.cancel());
        turns(1).await;
        assert!(task.done());
        assert_eq!(task.await.unwrap().unwrap_err().to_string(), "the future was cancelled");
    });
}

#[test]
fn task_13_a_task_and_its_future_cancelled_in_one_turn_end_in_one_clean_cancel() {
    on_every(async || {
        let heard = reports();
        for future_first in [true, false] {
            let (resolver, future) = create_future::<()>();
            let (log, drops) = (Log::new(), Rc::new(Cell::new(0)));
            let (theirs, held) = (log.clone(), OnDrop(drops.clone()));
            let task = create_task(async move {
                let _held = held;
                theirs.push(future.await.is_ok());
            });
            let ends = log.clone();
            task.add_done_callback(move |info| ends.push(info.state() == TaskState::Cancelled));
            turns(1).await;
            if future_first {
                assert!(resolver.cancel() && task.cancel());
            } else {
                assert!(task.cancel() && resolver.cancel());
            }
            assert!(matches!(task.await, Err(TaskError::Cancelled)));
            turns(2).await;
            assert_eq!((log.get(), drops.get()), (vec![true], 1), "it ended once, and did not go on before");
        }
        assert!(heard.borrow().is_empty(), "{heard:?}");
    });
}

#[test]
fn task_30_a_cancelled_task_lets_go_of_its_future() {
    on_every(async || {
        let (resolver, future) = create_future();
        let dropped = Rc::new(Cell::new(0));
        let task = create_task(async move { drop(future.await) });
        turns(1).await;
        task.cancel();
        assert!(matches!(task.await, Err(TaskError::Cancelled)));
        // Nobody waits: the result is dropped with the resolver.
        resolver.set_result(OnDrop(dropped.clone())).unwrap();
        drop(resolver);
        assert_eq!(dropped.get(), 1);
    });
}

#[test]
fn task_12_a_dropped_resolver_is_an_error_to_who_awaits() {
    on_every(async || {
        let (resolver, future) = create_future::<u32>();
        let task = create_task(future);
        turns(1).await;
        drop(resolver);
        assert!(task.await.unwrap().is_err());
    });
}

#[test]
fn a_resolver_may_outlive_its_loop() {
    let (resolver, future) = corio_runtime::run(async {
        let (resolver, future) = create_future::<()>();
        future.add_done_callback(|| unreachable!("there is no loop to call it"));
        (resolver, future)
    });
    drop(resolver);
    assert!(future.cancelled());
}
