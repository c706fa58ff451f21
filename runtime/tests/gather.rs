//! `gather`, `try_gather`, `as_completed`, `shield`: as asyncio's.

mod common;

use std::{cell::Cell, rc::Rc, time::Duration};

use common::{Log, OnDrop, ms, on_every, on_sim, turns, until};
use corio_runtime::{
    Task, TaskError, TryGatherError, all_tasks, as_completed, as_completed_tasks, create_task, gather,
    shield, shield_future,
    time::{self, sleep, timeout},
    try_gather, try_gather_tasks, yield_now,
};

async fn after<T>(delay: Duration, value: T) -> T {
    sleep(delay).await;
    value
}

#[test]
fn gath_01_outputs_come_in_the_order_of_the_arguments() {
    on_every(async || {
        assert_eq!(gather([after(ms(2), 2), after(ms(1), 1), after(ms(3), 3)]).await, [2, 1, 3]);
        let mixed = corio_runtime::gather!(after(ms(2), 'a'), async { 1 }, after(ms(1), "b")).await;
        assert_eq!(mixed, ('a', 1, "b"));
    });
}

#[test]
fn gath_02_gath_10_the_first_error_is_there_at_once_and_the_tasks_run_on() {
    on_every(async || {
        let after_turns = async |n, result: Result<u32, &'static str>| {
            turns(n).await;
            result
        };
        let mut slow = create_task(after_turns(20, Ok(7)));
        let mut bad = create_task(after_turns(1, Err("division by zero")));
        let mut late = create_task(after_turns(10, Err("too late to matter")));
        let failed = try_gather_tasks([&mut slow, &mut bad, &mut late]).await;
        assert!(matches!(failed, Err(TryGatherError::Failed("division by zero"))));
        assert!(!slow.done() && !late.done());
        assert_eq!(slow.await.unwrap(), Ok(7));
    });
}

#[test]
fn gath_03_gath_04_gath_05_results_of_tasks_are_outputs() {
    on_every(async || {
        let cancelled = create_task(std::future::pending::<u32>());
        cancelled.cancel();
        let tasks = vec![create_task(after(ms(1), 3)), create_task(async { panic!("one") }), cancelled];
        let results = gather(tasks).await;
        assert!(matches!(results[0], Ok(3)));
        assert!(matches!(results[1], Err(TaskError::Panicked(_))));
        assert!(matches!(results[2], Err(TaskError::Cancelled)));
        let mut gone = create_task(std::future::pending::<Result<(), ()>>());
        gone.cancel();
        let failed = try_gather_tasks([&mut gone]).await;
        assert!(matches!(failed, Err(TryGatherError::Task(TaskError::Cancelled))));
    });
}

#[test]
fn gath_06_nothing_gathered_is_nothing() {
    on_every(async || {
        assert!(gather(Vec::<Task<()>>::new()).await.is_empty());
        assert_eq!(try_gather(Vec::<std::future::Ready<Result<u8, ()>>>::new()).await, Ok(vec![]));
    });
}

#[test]
fn gath_12_dropping_a_gather_drops_what_runs() {
    on_every(async || {
        let dropped = Rc::new(Cell::new(0));
        for count in [3, 100] {
            dropped.set(0);
            let guards: Vec<_> = (0..count).map(|_| OnDrop(dropped.clone())).collect();
            let task = create_task(async move {
                gather(guards.into_iter().map(|guard| async move {
                    std::future::pending::<()>().await;
                    drop(guard);
                }))
                .await;
            });
            turns(2).await;
            task.cancel();
            assert!(matches!(task.await, Err(TaskError::Cancelled)));
            assert_eq!(dropped.get(), count);
        }
    });
}

#[test]
fn gath_01_many_futures_that_wait_for_each_other_finish() {
    on_every(async || {
        for count in [2u32, 8, 9, 1000] {
            let turn = Cell::new(0);
            let outputs = gather((0..count).map(|n| {
                let turn = &turn;
                async move {
                    // In reverse order, so that each waits for those behind it.
                    while turn.get() != count - 1 - n {
                        yield_now().await;
                    }
                    turn.set(turn.get() + 1);
                    n
                }
            }));
            let outputs =
                if count == 1000 { gather((0..count).map(async |n| n)).await } else { outputs.await };
            assert_eq!(outputs, (0..count).collect::<Vec<_>>());
        }
    });
}

#[test]
fn yield_now_in_a_gathered_future_takes_exactly_one_turn() {
    on_every(async || {
        let log = Log::new();
        let turns_seen = log.clone();
        let ticker = create_task(async move {
            for turn in 0..4 {
                turns_seen.push(turn);
                yield_now().await;
            }
        });
        let gathered = log.clone();
        gather([0, 1].map(|n| {
            let log = gathered.clone();
            async move {
                yield_now().await;
                log.push(10 + n);
                yield_now().await;
                log.push(20 + n);
            }
        }))
        .await;
        ticker.await.unwrap();
        assert_eq!(log.get(), [0, 10, 11, 1, 20, 21, 2, 3]);
    });
}

#[test]
fn a_panic_that_is_caught_leaves_the_other_outputs() {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    on_every(async || {
        for waits in [false, true] {
            let mut outputs = as_completed((0..4).map(|n| async move {
                if waits {
                    yield_now().await;
                }
                assert!(n != 1, "the second one");
                n
            }));
            let mut got = Vec::new();
            let mut caught = 0;
            while let Some(output) = std::future::poll_fn(|cx| {
                let mut next = std::pin::pin!(outputs.next());
                match catch_unwind(AssertUnwindSafe(|| next.as_mut().poll(cx))) {
                    Ok(polled) => polled,
                    Err(_) => {
                        caught += 1;
                        cx.waker().wake_by_ref();
                        std::task::Poll::Pending
                    }
                }
            })
            .await
            {
                got.push(output);
            }
            assert_eq!((got, caught), (vec![0, 2, 3], 1), "waits: {waits}");
        }
    });
}

#[test]
fn try_gather_drops_the_others_at_the_first_error() {
    on_every(async || {
        let dropped = Rc::new(Cell::new(0));
        let futures = (0..20).map(|n| {
            let guard = OnDrop(dropped.clone());
            async move {
                let _guard = guard;
                sleep(ms(n)).await;
                if n == 3 { Err(n) } else { Ok(n) }
            }
        });
        assert_eq!(try_gather(futures).await, Err(3));
        assert_eq!(dropped.get(), 20);
    });
}

#[test]
fn a_panic_of_one_goes_on_in_the_gatherer() {
    on_every(async || {
        let task = create_task(async {
            gather([0, 1].map(|n| async move {
                yield_now().await;
                assert!(n == 0, "the second one");
            }))
            .await;
        });
        match task.await {
            Err(TaskError::Panicked(panic)) => assert!(panic.message().contains("the second one")),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn gath_26_gath_30_outputs_come_as_they_are_ready() {
    on_sim(async || {
        let mut outputs = as_completed([after(ms(1), 'b'), after(ms(15), 'c'), after(ms(1), 'a')]);
        let first = [outputs.next().await.unwrap(), outputs.next().await.unwrap()];
        assert!(first == ['b', 'a'] || first == ['a', 'b'], "{first:?}");
        assert!(timeout(ms(1), outputs.next()).await.is_err(), "a timeout loses nothing");
        assert_eq!(outputs.next().await, Some('c'));
        assert_eq!(outputs.next().await, None);
        let tasks = [after(ms(2), 1), after(ms(1), 2)].map(create_task);
        let mut results = as_completed(tasks);
        assert!(matches!(results.next().await, Some(Ok(2))));
    });
}

#[test]
fn gath_27_the_very_tasks_come_back_in_the_order_of_their_ends() {
    on_sim(async || {
        let tasks: Vec<_> = [5, 1, 3].map(|n| create_task(after(ms(n), n))).into();
        let ids: Vec<_> = tasks.iter().map(|task| task.id()).collect();
        let mut ended = as_completed_tasks(tasks);
        for (id, value) in [(ids[1], 1), (ids[2], 3), (ids[0], 5)] {
            let task = ended.next().await.unwrap();
            assert_eq!((task.id(), task.done()), (id, true));
            assert_eq!(task.await.unwrap(), value);
        }
        assert!(ended.next().await.is_none());
        let mut ended = as_completed_tasks([5, 1, 3].map(|n| create_task(after(ms(n), n))).into());
        assert!(timeout(Duration::ZERO, ended.next()).await.is_err());
        sleep(ms(10)).await;
        for value in [1, 3, 5] {
            let task = ended.next().await.unwrap();
            assert_eq!(task.await.unwrap(), value, "they ended while nobody waited");
        }
    });
}

#[test]
fn gath_28_after_a_timeout_the_slow_task_runs_on() {
    on_sim(async || {
        let quick = create_task(after(ms(1), 'a'));
        let slow = create_task(after(ms(20), 'b'));
        let deadline = time::now() + ms(10);
        let mut outputs = as_completed([quick, slow]);
        assert!(matches!(time::timeout_at(deadline, outputs.next()).await, Ok(Some(Ok('a')))));
        assert!(time::timeout_at(deadline, outputs.next()).await.is_err());
        assert!(matches!(outputs.next().await, Some(Ok('b'))), "it was still running");
    });
}

#[test]
fn gath_06_the_macro_takes_none_to_a_hundred_and_twenty_eight() {
    on_every(async || {
        let count = Cell::new(0);
        let one = || async {
            count.set(count.get() + 1);
            count.get()
        };
        let () = corio_runtime::gather!().await;
        assert_eq!(corio_runtime::gather!(one()).await, (1,));
        assert_eq!(
            corio_runtime::gather!(one(), async { 'b' }, one(), async { "d" }).await,
            (2, 'b', 3, "d")
        );
        assert_eq!(corio_runtime::gather!(one(), one(), one(), one(), one(),).await, (4, 5, 6, 7, 8));
        macro_rules! one_for_each {
            ($($x:tt)*) => { corio_runtime::gather!($({ stringify!($x); one() }),*) };
        }
        let all = one_for_each!(
            x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x
            x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x
            x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x
            x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x
        );
        let outputs = all.await;
        assert_eq!((outputs.0, outputs.127), (9, 136));
    });
}

#[test]
fn gath_29_a_timeout_that_is_not_needed_leaves_no_timer() {
    on_every(async || {
        let start = time::now();
        let mut outputs = as_completed([1, 2].map(async |n| {
            turns(n).await;
            n
        }));
        let all = timeout(Duration::from_secs(60), async {
            let first = outputs.next().await;
            assert_eq!(corio_runtime::metrics().timers, 1);
            (first, outputs.next().await, outputs.next().await)
        });
        assert_eq!(all.await.unwrap(), (Some(1), Some(2), None));
        assert_eq!(corio_runtime::metrics().timers, 0);
        assert!(time::now() - start < Duration::from_secs(60));
    });
}

#[test]
fn gath_34_gath_36_gath_38_a_shield_gives_what_is_inside() {
    on_every(async || {
        assert_eq!(shield_future(async { 42 }).await.unwrap(), 42);
        let done = create_task(async { 1 });
        turns(1).await;
        assert!(done.done());
        let other = create_task(async {});
        assert_eq!(shield(done).await.unwrap(), 1);
        assert!(!other.done(), "no turn for what is done");
        let inner = create_task(std::future::pending::<()>());
        inner.cancel();
        assert!(matches!(shield(inner).await, Err(TaskError::Cancelled)));
    });
}

#[test]
fn gath_35_a_panic_inside_comes_through() {
    on_every(async || {
        let failed = shield_future(async { panic!("inside") }).await;
        assert!(matches!(failed, Err::<(), _>(TaskError::Panicked(p)) if p.message() == "inside"));
    });
}

#[test]
fn gath_37_gath_39_wf_16_what_is_inside_outlives_who_waits() {
    on_every(async || {
        let log = Log::new();
        let theirs = log.clone();
        let outer = create_task(async move {
            let inner = async move {
                sleep(ms(2)).await;
                theirs.push(1);
            };
            shield_future(inner).await.unwrap();
        });
        turns(2).await;
        outer.cancel();
        assert!(matches!(outer.await, Err(TaskError::Cancelled)));
        sleep(ms(5)).await;
        assert_eq!(log.get(), [1]);
        assert_eq!(all_tasks().len(), 1);
    });
}

#[test]
fn gath_40_gath_41_a_shield_of_a_gather_and_a_gather_of_shields() {
    on_every(async || {
        let log = Log::new();
        let children = || {
            [1, 2].map(|n| {
                let log = log.clone();
                async move {
                    sleep(ms(2)).await;
                    log.push(n);
                }
            })
        };
        drop(timeout(Duration::ZERO, shield_future(gather(children()))).await);
        drop(timeout(Duration::ZERO, gather(children().map(shield_future))).await);
        until(|| log.get().len() == 4).await;
        let mut finished = log.get();
        finished.sort_unstable();
        assert_eq!(finished, [1, 1, 2, 2]);
    });
}

#[test]
fn gath_42_a_panic_inside_is_reported_if_nobody_will_see_it() {
    on_every(async || {
        let heard = Rc::new(Cell::new(0));
        let count = heard.clone();
        corio_runtime::set_exception_handler(move |context| {
            assert!(context.message().contains("late"), "{context}");
            count.set(count.get() + 1);
        });
        let inner = async {
            yield_now().await;
            panic!("late");
        };
        drop(timeout(Duration::ZERO, shield_future::<_>(inner)).await);
        turns(4).await;
        assert_eq!(heard.get(), 1);
    });
}
