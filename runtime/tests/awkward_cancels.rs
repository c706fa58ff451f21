//! Cancels of tasks that are awaited, lent, polled or dropped in unusual ways: none is lost, and none counts twice.

mod common;

use std::{
    cell::RefCell,
    future::{Future, pending, poll_fn},
    panic::catch_unwind,
    pin::Pin,
    rc::Rc,
    task::Poll,
};

use common::{Log, kernels, ms, on, on_every, on_sim, turns};
use corio_runtime::{
    RunError, Task, TaskError, TaskLocal, catch_cancel, create_eager_task, create_task, current_task,
    metrics, task_group,
    time::{now, sleep, timeout},
    try_gather_tasks, with_cleanup, yield_now,
};
use futures::future::{Either, join, select};

/// Polls once, in the running task.
async fn once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

/// Gives `true` once it was cancelled.
fn catching() -> Task<bool> {
    create_task(async { catch_cancel(sleep(ms(60_000))).await.is_err() })
}

#[test]
fn a_cancel_is_passed_on_whatever_the_step_before_has_polled() {
    on_every(async || {
        let (inner, mut other) = (catching(), create_task(sleep(ms(60_000))));
        turns(1).await;
        let ends = create_task(async move {
            assert!(once(&mut other).await.is_pending());
            other.detach();
        });
        let outer = create_task(async move { inner.await.unwrap() });
        turns(2).await;
        assert!(ends.done() && outer.cancel());
        assert!(matches!(outer.await, Ok(true)));
    });
}

#[test]
fn a_cancel_is_passed_on_to_a_task_that_was_polled_twice_in_a_step() {
    on_every(async || {
        let mut inner = catching();
        let outer = create_task(async move {
            assert!(once(&mut inner).await.is_pending());
            inner.await.unwrap()
        });
        turns(2).await;
        outer.cancel();
        assert!(matches!(outer.await, Ok(true)));
    });
}

#[test]
fn two_cancels_in_a_turn_are_one_also_for_the_awaited_task() {
    on_every(async || {
        let inner = catching();
        let outer = create_task(async move { inner.await.unwrap() });
        turns(2).await;
        outer.cancel();
        outer.cancel();
        assert_eq!(outer.cancelling(), 2);
        assert!(matches!(outer.await, Ok(true)));
    });
}

#[test]
fn an_awaited_task_that_is_cancelled_on_drop_is_cancelled_once() {
    on_every(async || {
        let (log, inner) = (Log::new(), catching());
        let told = log.clone();
        let outer = create_task(async move { told.push(inner.await.unwrap()) });
        let mut outer = outer.cancel_on_drop();
        turns(2).await;
        assert!(once(&mut outer).await.is_pending());
        drop(outer);
        turns(6).await;
        assert_eq!(log.get(), [true]);
    });
}

#[test]
fn a_task_that_holds_its_own_handle_ends_when_it_is_cancelled() {
    on_every(async || {
        for awaited in [false, true] {
            let place = Rc::new(RefCell::new((None, None)));
            let theirs = place.clone();
            let mut task = create_task(async move {
                let _theirs = theirs;
                pending::<()>().await
            });
            let cancel = task.cancel_handle();
            if awaited {
                assert!(once(&mut task).await.is_pending());
                place.borrow_mut().0 = Some(task);
            } else {
                place.borrow_mut().1 = Some(task.cancel_on_drop());
            }
            drop(place);
            turns(2).await;
            assert!(cancel.cancel());
            turns(3).await;
            assert_eq!(metrics().tasks, 1);
        }
    });
}

#[test]
fn a_cancel_that_comes_back_to_who_handles_a_timeout_is_no_timeout() {
    on_sim(async || {
        let inner = create_task(pending::<()>());
        let outer = create_task(timeout(ms(10), async move {
            _ = catch_cancel(pending::<()>()).await;
            _ = inner.await;
        }));
        sleep(ms(20)).await;
        outer.cancel();
        assert!(matches!(outer.await, Err(TaskError::Cancelled)));
    });
}

#[test]
fn a_scope_beside_an_awaited_task_gets_the_cancel_too() {
    on_every(async || {
        let (log, inner) = (Log::new(), create_task(pending::<()>()));
        let told = log.clone();
        let outer = create_task(async move {
            let beside = async { told.push(catch_cancel(pending::<()>()).await.is_err()) };
            let (inner, ()) = join(inner, beside).await;
            matches!(inner, Err(TaskError::Cancelled))
        });
        turns(2).await;
        outer.cancel();
        assert!(matches!(outer.await, Ok(true)));
        assert_eq!(log.get(), [true]);
    });
}

#[test]
fn to_20_a_timeout_in_a_clean_up_goes_on_with_a_cancel_that_was_caught_inside() {
    on_sim(async || {
        let start = now();
        let task = create_task(async {
            _ = catch_cancel(pending::<()>()).await;
            let body = async {
                _ = catch_cancel(pending::<()>()).await;
                pending::<()>().await
            };
            _ = timeout(ms(10), body).await;
            turns(3).await;
        });
        for _ in 0..2 {
            turns(2).await;
            assert!(task.cancel());
        }
        assert!(matches!(task.await, Err(TaskError::Cancelled)));
        assert_eq!(now() - start, ms(10), "its deadline drops the body");
    });
}

#[test]
fn task_18_a_cancel_that_was_passed_on_is_not_lost_if_the_task_was_only_lent() {
    for case in 0..8 {
        let (by_timeout, detaches, ends) = (case & 1 > 0, case & 2 > 0, case & 4 > 0);
        on_sim(async || {
            let mut inner = create_task(async {
                _ = catch_cancel(pending::<()>()).await;
                sleep(ms(1000)).await;
            });
            let outer = create_task(async move {
                if by_timeout {
                    _ = timeout(ms(10), &mut inner).await;
                } else {
                    _ = select(&mut inner, sleep(ms(10))).await;
                    yield_now().await;
                }
                let kept = if detaches {
                    inner.detach();
                    None
                } else {
                    Some(inner)
                };
                if !ends {
                    sleep(ms(10_000)).await;
                }
                if let Some(kept) = kept {
                    kept.detach();
                }
            });
            let start = now();
            turns(2).await;
            assert!(outer.cancel());
            assert!(matches!(outer.await, Err(TaskError::Cancelled)));
            assert_eq!(now() - start, ms(10), "it comes back when the other task is not awaited any more");
        });
    }
}

#[test]
fn task_18_a_cancel_that_was_passed_on_waits_while_the_task_is_awaited() {
    on_sim(async || {
        let mut inner = create_task(async {
            _ = catch_cancel(pending::<()>()).await;
            sleep(ms(1000)).await;
        });
        let outer = create_task(async move {
            let mut ticks = 0;
            while let Either::Right(_) = select(&mut inner, sleep(ms(10))).await {
                ticks += 1;
            }
            turns(3).await;
            ticks
        });
        turns(2).await;
        outer.cancel();
        assert!(matches!(outer.await, Ok(99)), "the inner task gave a value, so the outer one goes on");
    });
}

#[test]
fn a_scope_that_takes_a_timeout_in_the_delivering_step_does_not_take_the_cancel() {
    for eager in [false, true] {
        on_every(async || {
            let task = create_task(async move {
                let mut aside = Box::pin(catch_cancel(pending::<()>()));
                assert!(once(&mut aside).await.is_pending());
                yield_now().await;
                let times_out = timeout(ms(0), async { _ = catch_cancel(pending::<()>()).await });
                if eager {
                    create_eager_task(times_out).detach();
                } else {
                    _ = times_out.await;
                }
                turns(3).await;
            });
            turns(1).await;
            task.cancel();
            assert!(matches!(task.await, Err(TaskError::Cancelled)));
        });
    }
}

#[test]
fn a_scope_catches_where_it_is_polled_last() {
    on_every(async || {
        for elsewhere in [false, true] {
            let mut inner = Box::pin(catch_cancel(pending::<()>()));
            if elsewhere {
                assert!(once(&mut inner).await.is_pending());
            }
            let task = create_task(async move {
                // In a scope that it leaves, or in none.
                let first = async { elsewhere || once(&mut inner).await.is_pending() };
                assert_eq!(catch_cancel(first).await, Ok(true));
                catch_cancel(async { (&mut inner).await.is_err() }).await
            });
            turns(2).await;
            task.cancel();
            assert!(matches!(task.await, Ok(Ok(true))), "the inner one takes it");
        }
    });
}

#[test]
fn a_timeout_polls_once_more_only_for_a_scope_that_may_be_inside() {
    on_every(async || {
        assert!(timeout(ms(0), yield_now()).await.is_err());
        assert!(catch_cancel(timeout(ms(0), yield_now())).await.unwrap().is_err());
        assert!(catch_cancel(timeout(ms(0), catch_cancel(pending::<()>()))).await.unwrap().unwrap().is_err());
    });
}

#[test]
fn the_cleanup_of_a_child_whose_group_is_dropped_has_its_context() {
    static WHO: TaskLocal<&str> = TaskLocal::new();
    on_every(async || {
        let log = Log::new();
        let told = log.clone();
        let parent = create_task(async move {
            WHO.set("parent");
            let group = task_group::<(), ()>(async move |group| {
                group.create_task(async move {
                    WHO.set("child");
                    let tells = move || async move { told.push(WHO.with(|who| *who)) };
                    with_cleanup(pending::<Result<(), ()>>(), tells).await
                });
                pending().await
            });
            group.await
        });
        turns(3).await;
        parent.cancel();
        assert!(matches!(parent.await, Err(TaskError::Cancelled)));
        assert_eq!(log.get(), [Some("child")]);
    });
}

#[test]
fn the_cancel_at_the_end_of_a_run_is_a_request_like_any_other() {
    for backend in kernels() {
        let log = Log::new();
        let told = log.clone();
        on(backend).run(async move {
            create_task(async move {
                _ = catch_cancel(pending::<()>()).await;
                told.push(current_task().unwrap().cancelling());
            })
            .detach();
            turns(2).await;
        });
        assert_eq!(log.get(), [1]);
    }
}

#[test]
fn a_main_of_run_that_resumes_its_cancel_ends_the_run_by_a_panic() {
    let resumes = || {
        on_sim(async || {
            assert!(!current_task().unwrap().cancel(), "outside a scope it cannot be cancelled");
            let main = current_task().unwrap();
            create_task(async move { _ = main.cancel() }).detach();
            if let Err(cancelled) = catch_cancel(pending::<()>()).await {
                cancelled.resume().await;
            }
        });
    };
    let panic = catch_unwind(resumes).unwrap_err();
    assert!(panic.downcast_ref::<String>().unwrap().contains("the main future was cancelled"));
}

#[test]
fn a_main_whose_cancel_was_passed_to_a_lent_task_has_no_value() {
    for backend in kernels() {
        let ended = on(backend).try_run(async {
            let main = current_task().unwrap();
            let mut inner = create_task(async {
                _ = catch_cancel(pending::<()>()).await;
                pending::<()>().await
            });
            create_task(async move {
                turns(2).await;
                assert!(main.cancel());
            })
            .detach();
            _ = timeout(ms(5), &mut inner).await;
            inner.detach();
        });
        assert_eq!(ended, Err(RunError::Cancelled));
    }
}

#[test]
fn a_gather_of_tasks_that_is_dropped_in_another_loop_cancels_them() {
    for backend in kernels() {
        let (mut ours, mut other) = (on(backend), on(backend));
        let mut task = Box::new(ours.create_task(pending::<Result<(), ()>>()));
        let mut gathered = Box::pin(try_gather_tasks([&mut *task]));
        ours.run(async { assert!(once(&mut gathered).await.is_pending()) });
        other.run(async { drop(gathered) });
        assert!(matches!(ours.run(task), Err(TaskError::Cancelled)));
    }
}
