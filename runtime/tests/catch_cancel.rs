//! `catch_cancel`: who catches a cancel, when, and what follows.

mod common;

use std::{
    cell::Cell,
    future::{Future, pending, poll_fn},
    pin::pin,
    rc::Rc,
    task::Poll,
};

use common::{Log, OnDrop, ms, on_every, on_sim, turns};
use corio_runtime::{
    Backend, Runner, TaskError, TaskState, all_tasks, catch_cancel, create_eager_task, create_task,
    current_task, gather, task_group,
    time::{self, sleep, timeout, timeout_scope},
    with_cleanup, yield_now,
};
use futures::{StreamExt, stream::FuturesUnordered};

#[test]
fn task_14_a_task_that_catches_its_cancel_gives_a_value() {
    on_every(async || {
        let dropped = Rc::default();
        let awaited = OnDrop(Rc::clone(&dropped));
        let body = async move {
            let _awaited = awaited;
            pending::<u32>().await
        };
        let seen = Rc::clone(&dropped);
        let mut task = create_task(async move {
            let mut scope = pin!(catch_cancel(body));
            let caught = scope.as_mut().await;
            assert_eq!(seen.get(), 1, "what it awaited is gone");
            caught.unwrap_or(42)
        });
        turns(1).await;
        assert!(task.cancel());
        assert_eq!((&mut task).await.unwrap(), 42);
        assert!(!task.cancelled());
    });
}

#[test]
fn task_15_one_cancel_is_delivered_once_and_the_task_goes_on() {
    on_every(async || {
        let log = Log::new();
        let told = log.clone();
        let task = create_task(async move {
            let caught = catch_cancel(pending::<()>()).await;
            told.push(caught.is_err());
            told.push(catch_cancel(turns(3)).await.is_err());
            turns(3).await;
            42
        });
        turns(1).await;
        task.cancel();
        assert_eq!(task.await.unwrap(), 42);
        assert_eq!(log.get(), [true, false]);
        let task = create_task(async {
            if let Err(cancelled) = catch_cancel(pending::<()>()).await {
                cancelled.resume().await
            }
        });
        turns(1).await;
        task.cancel();
        turns(1).await;
        assert!(task.cancelled(), "one that goes on with it ends in that step");
    });
}

#[test]
fn task_23_a_caught_cancel_can_be_taken_back_and_the_next_one_ends_the_task() {
    on_every(async || {
        let mut task = create_task(async {
            let me = current_task().unwrap();
            assert!(catch_cancel(pending::<()>()).await.is_err());
            assert_eq!((me.cancelling(), me.uncancel(), me.cancelling()), (1, 0, 0));
            pending::<()>().await;
        });
        turns(1).await;
        assert_eq!((task.cancel(), task.cancelling()), (true, 1));
        turns(2).await;
        assert_eq!((task.done(), task.cancelling()), (false, 0));
        assert_eq!((task.cancel(), task.cancelling()), (true, 1));
        assert!(matches!((&mut task).await, Err(TaskError::Cancelled)));
        assert_eq!((task.uncancel(), task.cancelled()), (0, true));
    });
}

/// A timeout made by hand, as structured code of others is built.
async fn timed_by_hand(limit: time::Duration, body: impl Future<Output = ()>) -> bool {
    let me = current_task().unwrap();
    let (canceller, fired) = (me.clone(), Rc::new(Cell::new(false)));
    let flag = fired.clone();
    let timer = corio_runtime::call_later(limit, move || {
        flag.set(true);
        canceller.cancel();
    });
    match catch_cancel(body).await {
        Ok(()) => {
            timer.cancel();
            false
        }
        Err(_) if fired.get() && me.uncancel() == 0 => true,
        Err(cancelled) => cancelled.resume().await,
    }
}

#[test]
fn task_24_structured_blocks_count_their_cancels() {
    on_sim(async || {
        let task = create_task(async {
            let me = current_task().unwrap();
            let start = time::now();
            assert!(timed_by_hand(ms(100), sleep(ms(10_000))).await);
            assert_eq!((time::now() - start, me.cancelling()), (ms(100), 0));
            assert!(!timed_by_hand(ms(10_000), yield_now()).await);
            assert_eq!(me.cancelling(), 0);
        });
        task.await.unwrap();
        let outside = create_task(timed_by_hand(ms(100), sleep(ms(10_000))));
        turns(2).await;
        outside.cancel();
        assert!(matches!(outside.await, Err(TaskError::Cancelled)), "a cancel from outside goes on");
    });
}

#[test]
fn task_25_a_cancel_that_is_taken_back_in_time_is_not_delivered() {
    on_every(async || {
        for scoped in [false, true] {
            let task = create_task(async move {
                if scoped {
                    assert!(catch_cancel(turns(3)).await.is_ok());
                } else {
                    turns(3).await;
                }
                42
            });
            turns(1).await;
            assert!(task.cancel());
            assert_eq!(task.uncancel(), 0);
            assert_eq!(task.await.unwrap(), 42);
        }
    });
}

#[test]
fn task_17_a_cancel_in_the_last_step_wins_over_the_value() {
    on_every(async || {
        let mut task = create_task(async {
            assert!(current_task().unwrap().cancel());
            12
        });
        assert!(matches!((&mut task).await, Err(TaskError::Cancelled)));
        assert!(task.cancelled());
        let mut eager = create_eager_task(async {
            current_task().unwrap().cancel();
            12
        });
        assert!(eager.done() && matches!((&mut eager).await, Err(TaskError::Cancelled)));
        let failed = task_group::<(), _>(async |group| {
            let child = group.create_task(async {
                current_task().unwrap().cancel();
                Err::<(), _>("an error is heard all the same")
            });
            assert!(matches!(child.await, Err(TaskError::Failed)));
            Ok(())
        });
        assert_eq!(failed.await.unwrap_err().errors().len(), 1);
    });
}

#[test]
fn cancelling_counts_and_shows() {
    on_every(async || {
        let task = create_task(async { catch_cancel(pending::<()>()).await.is_err() });
        turns(1).await;
        let state = || all_tasks().iter().map(|t| t.state()).collect::<Vec<_>>();
        assert_eq!((task.cancelling(), state()), (0, vec![TaskState::Running, TaskState::Pending]));
        assert!(task.cancel() && task.cancel());
        assert_eq!((task.cancelling(), state()), (2, vec![TaskState::Running, TaskState::Cancelling]));
        assert!(task.await.unwrap());
    });
}

#[test]
fn wf_09_wf_10_a_body_that_catches_the_timeout_and_gives_a_value_wins() {
    on_sim(async || {
        let start = time::now();
        let value = timeout(ms(10), async {
            let caught = catch_cancel(pending::<()>()).await;
            sleep(ms(5)).await;
            caught.map_or(1, |()| 0)
        });
        assert_eq!((value.await, time::now() - start), (Ok(1), ms(15)));
        let scoped = timeout_scope(ms(10), async |deadline| {
            assert!(catch_cancel(pending::<()>()).await.is_err());
            assert!(deadline.expired());
            42
        });
        assert_eq!(scoped.await, Ok(42));
        assert_eq!(current_task().unwrap().cancelling(), 0, "a timeout is no cancel of the task");
    });
}

#[test]
fn wf_13_to_11_an_error_of_the_clean_up_after_a_timeout_is_heard() {
    on_sim(async || {
        let failed = timeout(ms(10), async {
            match catch_cancel(sleep(ms(10_000))).await {
                Ok(()) => Ok(()),
                Err(_timed_out) => {
                    sleep(ms(1)).await;
                    Err("foo")
                }
            }
        });
        assert_eq!(failed.await, Ok(Err("foo")));
    });
}

#[test]
fn a_body_that_resumes_after_its_timeout_has_timed_out() {
    on_sim(async || {
        let (start, log) = (time::now(), Log::new());
        let told = log.clone();
        let late = timeout(ms(10), async move {
            if let Err(cancelled) = catch_cancel(pending::<()>()).await {
                sleep(ms(5)).await;
                told.push("cleaned");
                cancelled.resume().await
            }
        });
        assert!(late.await.is_err());
        assert_eq!((log.get(), time::now() - start), (vec!["cleaned"], ms(15)));
    });
}

#[test]
fn the_innermost_scope_catches_first_and_the_next_cancel_goes_further_out() {
    on_every(async || {
        let log = Log::new();
        let told = log.clone();
        let task = create_task(async move {
            let outer = catch_cancel(async {
                let inner = catch_cancel(pending::<()>()).await;
                told.push(if inner.is_err() { "inner" } else { "no" });
                pending::<()>().await;
            });
            told.push(if outer.await.is_err() { "outer" } else { "no" });
            pending::<()>().await;
        });
        for expected in [&["inner"][..], &["inner", "outer"]] {
            turns(2).await;
            assert!(task.cancel());
            turns(2).await;
            assert_eq!(log.get(), expected);
        }
        task.cancel();
        assert!(matches!(task.await, Err(TaskError::Cancelled)));
    });
}

#[test]
fn task_27_a_resumed_cancel_goes_to_the_next_scope_in_the_same_step() {
    on_every(async || {
        let task = create_task(async {
            catch_cancel(async {
                if let Err(cancelled) = catch_cancel(pending::<()>()).await {
                    cancelled.resume().await
                }
            })
            .await
            .is_err()
        });
        turns(1).await;
        task.cancel();
        turns(1).await;
        assert!(task.done());
        assert!(task.await.unwrap());
    });
}

#[test]
fn scopes_side_by_side_each_catch_it_and_others_go_on() {
    on_every(async || {
        let task = create_task(async {
            gather([1, 2].map(|n| async move { u32::from(catch_cancel(pending::<()>()).await.is_err()) * n }))
                .await
        });
        turns(2).await;
        task.cancel();
        assert_eq!(task.await.unwrap(), [1, 2]);
        let task = create_task(async {
            let caught = async { catch_cancel(pending::<()>()).await.is_err() };
            let goes_on = async {
                turns(9).await;
                7
            };
            corio_runtime::gather!(caught, goes_on).await
        });
        turns(2).await;
        task.cancel();
        assert_eq!(task.await.unwrap(), (true, 7));
    });
}

#[test]
fn a_scope_in_another_library_s_combinator_is_reached() {
    on_every(async || {
        let task = create_task(async {
            let scope = |n| async move { u32::from(catch_cancel(pending::<()>()).await.is_err()) + n };
            let mut many: FuturesUnordered<_> = (0..3).map(scope).collect();
            let mut sum = 0;
            while let Some(n) = many.next().await {
                sum += n;
            }
            sum
        });
        turns(2).await;
        task.cancel();
        assert_eq!(task.await.unwrap(), 6);
    });
}

#[test]
fn a_scope_that_is_put_aside_swallows_nothing() {
    on_every(async || {
        let task = create_task(async {
            let mut aside = pin!(catch_cancel(pending::<()>()));
            poll_fn(|cx| {
                assert!(aside.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            pending::<()>().await;
        });
        turns(2).await;
        assert!(task.cancel());
        assert!(matches!(task.await, Err(TaskError::Cancelled)));
    });
}

#[test]
fn a_scope_that_is_entered_in_the_delivering_step_catches_nothing() {
    on_every(async || {
        let task = create_task(async {
            assert!(catch_cancel(pending::<()>()).await.is_err());
            catch_cancel(turns(2)).await.is_err()
        });
        turns(1).await;
        task.cancel();
        assert!(!task.await.unwrap());
    });
}

#[test]
fn a_scope_that_moves_to_another_task_catches_there() {
    on_every(async || {
        let mut scope = Box::pin(catch_cancel(pending::<()>()));
        poll_fn(|cx| {
            assert!(scope.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        let task = create_task(async move { scope.await.is_err() });
        turns(2).await;
        assert!(!current_task().unwrap().cancel(), "main is in no scope any more");
        task.cancel();
        assert!(task.await.unwrap());
    });
}

#[test]
fn an_eager_child_is_not_in_the_scope_of_its_creator() {
    on_every(async || {
        let task = create_task(async move {
            let scope = catch_cancel(async {
                let inner = create_eager_task(async { catch_cancel(pending::<()>()).await.is_err() });
                inner.await
            });
            scope.await.map(|inner| inner.unwrap()).is_ok_and(|caught| caught)
        });
        turns(2).await;
        task.cancel();
        assert!(task.await.unwrap(), "the cancel went to the child, which gave a value");
        assert_eq!(all_tasks().len(), 1);
    });
}

#[test]
fn main_catches_a_cancel_of_itself() {
    on_every(async || {
        let me = current_task().unwrap();
        let caught = catch_cancel(async {
            assert!(me.cancel());
            pending::<()>().await
        });
        assert!(caught.await.is_err());
        assert!(!me.cancel(), "outside a scope the main future belongs to the run");
        yield_now().await;
    });
}

#[test]
fn a_second_cancel_while_cleanups_run_is_caught_with_the_first() {
    on_sim(async || {
        let log = Log::new();
        let told = log.clone();
        let task = create_task(async move {
            let body = with_cleanup(pending::<()>(), move || async move {
                sleep(ms(20)).await;
                told.push("cleaned");
            });
            let caught = catch_cancel(body).await.is_err();
            turns(3).await;
            (caught, current_task().unwrap().cancelling())
        });
        turns(2).await;
        task.cancel();
        sleep(ms(5)).await;
        task.cancel();
        assert_eq!(task.await.unwrap(), (true, 2));
        assert_eq!(log.get(), ["cleaned"]);
    });
}

#[test]
fn tg_06_tg_07_a_child_that_catches_is_awaited_by_its_group() {
    on_sim(async || {
        let log = Log::new();
        for (outside, body_waits) in [(false, false), (true, false), (true, true)] {
            let (told, start) = (log.clone(), time::now());
            let task = create_task(async move {
                task_group::<(), &str>(async |group| {
                    drop(group.create_task(async move {
                        if let Err(cancelled) = catch_cancel(pending::<()>()).await {
                            sleep(ms(10)).await;
                            told.push((outside, body_waits));
                            cancelled.resume().await
                        }
                        Ok(())
                    }));
                    yield_now().await;
                    match (outside, body_waits) {
                        (false, _) => Err("body"),
                        (true, false) => Ok(()),
                        (true, true) => pending().await,
                    }
                })
                .await
            });
            turns(3).await;
            if outside {
                task.cancel();
            }
            let ended = task.await;
            assert_eq!(matches!(ended, Err(TaskError::Cancelled)), outside, "{ended:?}");
            assert_eq!((log.get().last(), time::now() - start), (Some(&(outside, body_waits)), ms(10)));
        }
    });
}

#[test]
fn tg_26_tg_18_a_body_that_fails_while_it_cleans_up_adds_its_error() {
    on_sim(async || {
        let failed = task_group::<(), _>(async |group| {
            drop(group.create_task(async { Err::<(), _>("child") }));
            assert!(catch_cancel(pending::<()>()).await.is_err());
            sleep(ms(1)).await;
            Err("body")
        });
        assert_eq!(failed.await.unwrap_err().errors(), ["child", "body"]);
        assert_eq!(current_task().unwrap().cancelling(), 0);
    });
}

#[test]
fn tg_17_a_body_turns_its_cancel_into_an_error() {
    on_every(async || {
        let task = create_task(task_group::<(), _>(async |_| {
            assert!(catch_cancel(pending::<()>()).await.is_err());
            Err("mine")
        }));
        turns(2).await;
        task.cancel();
        assert_eq!(task.await.unwrap().unwrap_err().errors(), ["mine"]);
    });
}

#[test]
fn tg_14_tg_15_a_child_that_fails_while_the_body_delays_its_cancel_is_heard() {
    for deeper in [false, true] {
        on_sim(async || {
            let group = task_group::<(), _>(async |group| {
                drop(group.create_task(async {
                    sleep(ms(300)).await;
                    Err::<(), _>("crash")
                }));
                if let Err(cancelled) = catch_cancel(sleep(ms(10_000))).await {
                    sleep(ms(500)).await;
                    cancelled.resume().await
                }
                Ok(())
            });
            let task =
                create_task(
                    async move { if deeper { create_task(group).await.unwrap() } else { group.await } },
                );
            sleep(ms(100)).await;
            task.cancel();
            assert_eq!(task.await.unwrap().unwrap_err().errors(), ["crash"]);
        });
    }
}

#[test]
fn a_task_that_catches_has_as_much_time_at_the_end_of_run_as_a_cleanup() {
    for (lasts, finishes) in [(ms(9_000), true), (ms(11_000), false)] {
        let log = Log::new();
        let told = log.clone();
        let mut runner = Runner::builder().backend(Backend::Sim { seed: 3 }).build().unwrap();
        runner.run(async move {
            drop(create_task(async move {
                if catch_cancel(pending::<()>()).await.is_err() {
                    told.push("caught");
                    sleep(lasts).await;
                    told.push("finished");
                }
            }));
            turns(2).await;
        });
        runner.close();
        assert_eq!(log.get().len(), if finishes { 2 } else { 1 }, "{:?}", log.get());
    }
}

#[test]
fn a_task_that_refuses_every_cancel_ends_with_the_run() {
    let caught = Rc::new(Cell::new(0));
    let count = caught.clone();
    let mut runner = Runner::builder().backend(Backend::Sim { seed: 3 }).build().unwrap();
    runner.run(async move {
        drop(create_task(async move {
            loop {
                if catch_cancel(sleep(ms(1000))).await.is_err() {
                    count.set(count.get() + 1);
                }
            }
        }));
        turns(2).await;
    });
    runner.close();
    assert_eq!(caught.get(), 1);
}

/// Each scope knows its place among those of its task: leaving does not look through all of them.
#[test]
fn scopes_of_one_task_leave_in_any_order() {
    on_every(async || {
        let scopes = (0..2_000_u64).map(|n| async move {
            // Half of them are over before the cancel, in an order of their own.
            let wait =
                async { if n % 2 == 0 { turns((n * 7919 % 13) as usize).await } else { pending().await } };
            catch_cancel(wait).await.is_err()
        });
        let task = create_task(gather(scopes));
        turns(20).await;
        task.cancel();
        let caught = task.await.unwrap();
        assert!(caught.iter().enumerate().all(|(n, caught)| *caught == (n % 2 == 1)));
    });
}

#[test]
fn what_catches_is_send_if_its_future_is() {
    fn is_send<T: Send>(_: &T) {}
    is_send(&catch_cancel(async {}));
    is_send(&timeout(ms(1), async {}));
    is_send(&catch_cancel(timeout(ms(1), catch_cancel(sleep(ms(1))))));
}
