//! What an ending leaves behind: cleanups and awaited tasks end before who ended them goes on.

mod common;

use std::{
    cell::RefCell,
    future::{Future, pending},
    rc::Rc,
};

use common::{Log, OnDrop, ms, on_every, on_sim, reports, turns};
use corio_runtime::{
    Backend, Runner, Task, TaskError, catch_cancel, create_future, create_task, create_task_named, gather,
    shield, task_group,
    time::{self, Duration, sleep, timeout, timeout_scope, wait_for},
    try_gather_tasks, wait, with_cleanup, yield_now,
};

/// Never ends by itself; its cleanup takes 200 ms, and logs its name then.
async fn cleans(log: Log<&'static str>, name: &'static str) {
    with_cleanup(pending(), move || async move {
        sleep(ms(200)).await;
        log.push(name);
    })
    .await
}

/// A task that logs its end where it is cancelled.
fn cleaning_task(log: &Log<&'static str>) -> Task<()> {
    create_task(cleans(log.clone(), "cleaned"))
}

#[test]
fn wf_01_a_cancelled_wait_for_waits_until_the_task_inside_has_ended() {
    on_sim(async || {
        let (log, start) = (Log::new(), time::now());
        let inner = cleaning_task(&log);
        let outer = create_task(wait_for(inner, ms(10_000)));
        sleep(ms(100)).await;
        outer.cancel();
        assert!(matches!(outer.await, Err(TaskError::Cancelled)));
        assert_eq!((log.get(), time::now() - start), (vec!["cleaned"], ms(300)));
    });
}

#[test]
fn wf_02_a_timeout_waits_until_the_task_inside_has_ended() {
    on_sim(async || {
        let (log, start) = (Log::new(), time::now());
        let inner = create_task({
            let log = log.clone();
            async move {
                // Ignores every cancel for 200 ms, as asyncio's test does.
                while time::now() - start < ms(200) {
                    _ = catch_cancel(sleep(ms(200) - (time::now() - start))).await;
                }
                log.push("ended");
            }
        });
        assert!(wait_for(inner, ms(100)).await.is_err());
        assert_eq!((log.get(), time::now() - start), (vec!["ended"], ms(200)));
    });
}

#[test]
fn wf_05_wf_06_a_task_that_times_out_is_cancelled_and_over_before_the_error_is_seen() {
    on_every(async || {
        for limit in [Duration::ZERO, ms(1)] {
            let log = Log::new();
            let told = log.clone();
            let mut task = create_task(with_cleanup(pending::<()>(), move || async move {
                yield_now().await;
                told.push("finally");
            }));
            turns(1).await;
            let handle = task.cancel_handle();
            assert!(wait_for(&mut task, limit).await.is_err());
            assert!(!task.done(), "it is only lent: the caller may go on with it");
            assert!(wait_for(task, limit).await.is_err());
            assert_eq!(log.get(), ["finally"]);
            assert!(!handle.cancel(), "it has ended");
        }
    });
}

#[test]
fn wf_11_wf_12_a_timeout_waits_for_the_cleanup() {
    on_sim(async || {
        for limit in [ms(100), Duration::ZERO] {
            let (log, start) = (Log::new(), time::now());
            assert!(timeout(limit, cleans(log.clone(), "cleaned")).await.is_err());
            assert_eq!((log.get(), time::now() - start), (vec!["cleaned"], limit + ms(200)));
            let scoped = timeout_scope(limit, async |_| cleans(log.clone(), "again").await);
            assert!(scoped.await.is_err());
            assert_eq!(log.get(), ["cleaned", "again"]);
        }
    });
}

#[test]
fn wf_14_a_cancelled_wait_for_cancels_the_task_inside() {
    on_every(async || {
        for limit in [Duration::MAX, ms(60_000)] {
            let inner = create_task(pending::<()>());
            let handle = inner.cancel_handle();
            let outer = create_task(wait_for(inner, limit));
            turns(3).await;
            outer.cancel();
            assert!(matches!(outer.await, Err(TaskError::Cancelled)));
            assert!(!handle.cancel(), "the inner one has ended");
        }
    });
}

#[test]
fn wf_15_a_cancel_in_the_turn_in_which_the_task_inside_ends_is_not_lost() {
    on_every(async || {
        let (resolver, future) = create_future::<&str>();
        let inner = Rc::new(RefCell::new(create_task(future)));
        let (lent, reached) = (inner.clone(), Log::new());
        let told = reached.clone();
        #[expect(
            clippy::await_holding_refcell_ref,
            reason = "it is looked at again once this task has ended"
        )]
        let outer = create_task(async move {
            let mut lent = lent.borrow_mut();
            told.push(wait_for(&mut *lent, ms(60_000)).await.is_ok());
        });
        turns(2).await;
        // The inner task ends in the turn in which the outer one is cancelled.
        resolver.set_result("done").unwrap();
        turns(1).await;
        assert!(inner.try_borrow().is_err() && outer.cancel());
        assert!(matches!(outer.await, Err(TaskError::Cancelled)));
        assert!(reached.get().is_empty(), "it went on to its next statement");
        let inner = Rc::into_inner(inner).unwrap().into_inner();
        assert_eq!(inner.await.unwrap(), Ok("done"));
    });
}

#[test]
fn a_group_in_the_clean_up_after_a_timeout_gives_its_error() {
    on_sim(async || {
        let failed = timeout(ms(10), async {
            assert!(catch_cancel(pending::<()>()).await.is_err());
            task_group::<(), _>(async |group| {
                drop(group.create_task(async { Err::<(), _>("crash") }));
                Ok(())
            })
            .await
        });
        assert_eq!(failed.await.unwrap().unwrap_err().errors(), ["crash"]);
    });
}

#[test]
fn to_19_to_20_a_timeout_and_a_cancel_in_the_clean_up_of_a_cancelled_task() {
    on_sim(async || {
        let task = create_task(async {
            assert!(catch_cancel(pending::<()>()).await.is_err());
            timeout(Duration::ZERO, sleep(ms(1000))).await.is_err()
        });
        turns(2).await;
        task.cancel();
        assert!(task.await.unwrap(), "a timeout in the clean-up times out");
        let task = create_task(async {
            assert!(catch_cancel(pending::<()>()).await.is_err());
            timeout(ms(1000), sleep(ms(2000))).await.is_err()
        });
        turns(2).await;
        task.cancel();
        sleep(ms(10)).await;
        task.cancel();
        let start = time::now();
        assert!(matches!(task.await, Err(TaskError::Cancelled)));
        assert!(time::now() - start < ms(10));
    });
}

#[test]
fn task_18_a_cancel_travels_down_the_chain_of_awaited_tasks() {
    on_every(async || {
        let log = Log::new();
        let (inner_log, outer_log) = (log.clone(), log.clone());
        let mut child = create_task(async move {
            let _end = Said(inner_log, "child");
            pending::<()>().await;
        });
        let child_ends = child.cancel_handle();
        let parent = create_task(async move {
            let _end = Said(outer_log, "parent");
            let ended = (&mut child).await;
            drop((ended, child));
        });
        turns(2).await;
        assert!(parent.cancel());
        assert!(matches!(parent.await, Err(TaskError::Cancelled)));
        assert!(!child_ends.cancel());
        assert_eq!(log.get(), ["child", "parent"], "inner first");
    });
}

struct Said(Log<&'static str>, &'static str);

impl Drop for Said {
    fn drop(&mut self) {
        self.0.push(self.1);
    }
}

#[test]
fn a_child_that_catches_the_cancel_of_its_parent_and_gives_a_value_lets_it_go_on() {
    on_every(async || {
        let child = create_task(async { catch_cancel(pending::<()>()).await.map_or(7, |()| 0) });
        let parent = create_task(async move { child.await.unwrap() + 1 });
        turns(2).await;
        assert!(parent.cancel());
        assert_eq!(parent.await.unwrap(), 8);
    });
}

#[test]
fn a_cancel_that_was_passed_on_is_not_lost_if_the_await_is_given_up() {
    on_sim(async || {
        let child = create_task(async {
            _ = catch_cancel(pending::<()>()).await;
            sleep(ms(1000)).await;
        });
        let parent = create_task(async move {
            _ = timeout(ms(10), child).await;
            pending::<()>().await;
        });
        turns(2).await;
        parent.cancel();
        assert!(matches!(parent.await, Err(TaskError::Cancelled)));
    });
}

#[test]
fn a_run_ends_although_tasks_await_each_other() {
    let mut runner = Runner::builder().backend(Backend::Sim { seed: 7 }).build().unwrap();
    let handle = runner.run(async {
        let place: Rc<RefCell<Option<Task<()>>>> = Rc::default();
        let theirs = place.clone();
        let first = create_task(async move {
            yield_now().await;
            let second = theirs.take().unwrap();
            _ = second.await;
        });
        let handle = first.cancel_handle();
        place.replace(Some(create_task(async move { _ = first.await })));
        turns(5).await;
        // Each waits for the other's end then, which only the end of the run cuts short.
        assert!(handle.cancel());
        turns(5).await;
        handle
    });
    runner.close();
    assert!(!handle.cancel());
}

#[test]
fn gath_09_a_cancelled_gather_cancels_its_tasks_and_waits_for_them() {
    on_sim(async || {
        let log = Log::new();
        let tasks = [1, 2].map(|_| cleaning_task(&log));
        let handles = tasks.each_ref().map(Task::cancel_handle);
        let outer = create_task(gather(tasks));
        turns(2).await;
        outer.cancel();
        assert!(matches!(outer.await, Err(TaskError::Cancelled)));
        assert_eq!((log.get().len(), handles.map(|handle| handle.cancel())), (2, [false, false]));
        let mut tasks = [1, 2].map(|_| {
            let log = log.clone();
            create_task(async move {
                cleans(log, "cleaned").await;
                Ok::<_, ()>(())
            })
        });
        let start = time::now();
        assert!(timeout(ms(10), try_gather_tasks(&mut tasks)).await.is_err());
        assert_eq!((log.get().len(), time::now() - start), (4, ms(210)));
        assert!(tasks.iter().all(Task::done));
    });
}

#[test]
fn gath_37_a_shield_of_a_lent_task_leaves_it_running_and_its_handle_usable() {
    on_sim(async || {
        let log = Log::new();
        let slow = |name| {
            let log = log.clone();
            create_task(async move {
                sleep(ms(20)).await;
                log.push(name);
                name
            })
        };
        let mut task = slow("lent");
        assert!(timeout(ms(5), shield(&mut task)).await.is_err());
        assert_eq!(task.await.unwrap(), "lent");
        let mut task = slow("lent, then given");
        assert!(timeout(ms(5), shield(&mut task)).await.is_err());
        assert!(timeout(ms(5), shield(task)).await.is_err());
        let mut task = slow("awaited, then given");
        assert!(timeout(ms(5), &mut task).await.is_err());
        drop(shield(task));
        sleep(ms(30)).await;
        assert_eq!(log.get(), ["lent", "lent, then given", "awaited, then given"], "all ran on");
        assert_eq!(corio_runtime::metrics().tasks, 1);
    });
}

#[test]
fn an_awaited_task_that_is_dropped_is_cancelled_and_a_detached_one_goes_on() {
    on_sim(async || {
        for detach in [false, true] {
            let log = Log::new();
            let told = log.clone();
            let mut task = create_task(async move {
                sleep(ms(20)).await;
                told.push(());
            });
            assert!(timeout(ms(5), &mut task).await.is_err());
            if detach {
                task.detach()
            } else {
                drop(task)
            }
            sleep(ms(50)).await;
            assert_eq!(log.get().len(), usize::from(detach));
        }
        let log = Log::new();
        let told = log.clone();
        drop(create_task(async move { told.push(()) }));
        turns(2).await;
        assert_eq!(log.get().len(), 1, "nobody had awaited it");
    });
}

#[test]
fn waiting_for_an_awaited_task_does_not_cancel_it() {
    on_sim(async || {
        for polled in [false, true] {
            let log = Log::new();
            let told = log.clone();
            let mut task = create_task(async move {
                sleep(ms(20)).await;
                told.push(());
            });
            assert!(timeout(ms(5), &mut task).await.is_err());
            let waits = wait(vec![task], corio_runtime::ReturnWhen::AllCompleted, None);
            if polled {
                assert!(timeout(ms(5), waits).await.is_err());
            } else {
                drop(waits);
            }
            sleep(ms(50)).await;
            assert_eq!(log.get().len(), 1, "it runs on, with a wait that was polled: {polled}");
        }
    });
}

#[test]
fn debug_mode_reports_a_task_that_a_dropped_handle_cancels() {
    for (debug, expected) in [(true, 1), (false, 0)] {
        let mut runner = Runner::builder().debug(debug).build().unwrap();
        runner.run(async {
            let heard = reports();
            let mut task = create_task_named("lent", sleep(ms(10_000)));
            assert!(timeout(ms(1), &mut task).await.is_err());
            drop(task);
            let lost = create_task(sleep(ms(10_000)));
            assert!(timeout(ms(1), lost).await.is_err());
            let said = heard.borrow();
            let told = said.iter().filter(|said| said.contains("its handle was dropped"));
            assert_eq!(told.count(), expected, "{said:?}");
        });
    }
}

#[test]
fn nested_cleanups_run_inner_then_outer() {
    on_sim(async || {
        let (log, start) = (Log::new(), time::now());
        let (inner, outer) = (cleans(log.clone(), "inner"), log.clone());
        let nested = with_cleanup(inner, move || async move {
            sleep(ms(10)).await;
            outer.push("outer");
        });
        let task = create_task(nested);
        turns(2).await;
        task.cancel();
        assert!(matches!(task.await, Err(TaskError::Cancelled)));
        assert_eq!((log.get(), time::now() - start), (vec!["inner", "outer"], ms(210)));
    });
}

#[test]
fn if_who_waits_for_a_cleanup_is_dropped_the_next_one_out_takes_over() {
    on_sim(async || {
        let (log, start) = (Log::new(), time::now());
        let inner = timeout(ms(10), cleans(log.clone(), "cleaned"));
        assert!(timeout(ms(20), inner).await.is_err(), "the outer limit comes amid the cleanup");
        assert_eq!((log.get(), time::now() - start), (vec!["cleaned"], ms(210)));
        let group = task_group::<(), ()>(async |group| {
            let log = log.clone();
            drop(group.create_task(async move {
                _ = timeout(ms(10), cleans(log, "in the group")).await;
                Ok(())
            }));
            pending().await
        });
        assert!(timeout(ms(20), group).await.is_err());
        assert_eq!(log.get(), ["cleaned", "in the group"]);
    });
}

#[test]
fn a_join_of_a_cancelled_task_waits_for_its_cleanup() {
    on_sim(async || {
        let (log, start) = (Log::new(), time::now());
        let task = cleaning_task(&log);
        turns(2).await;
        task.cancel();
        assert!(matches!(task.await, Err(TaskError::Cancelled)));
        assert_eq!((log.get(), time::now() - start), (vec!["cleaned"], ms(200)));
    });
}

#[test]
fn nothing_is_left_of_a_hundred_nested_endings() {
    on_sim(async || {
        let dropped = Rc::default();
        let task = create_task(nest(100, OnDrop(Rc::clone(&dropped))));
        sleep(ms(50)).await;
        task.cancel();
        assert!(matches!(task.await, Err(TaskError::Cancelled)));
        assert_eq!(dropped.get(), 1);
        assert_eq!(corio_runtime::metrics().tasks, 1);
    });
}

fn nest(depth: u32, probe: OnDrop) -> std::pin::Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move {
        if depth == 0 {
            let _probe = probe;
            return pending().await;
        }
        match depth % 4 {
            0 => _ = timeout(ms(60_000), nest(depth - 1, probe)).await,
            1 => with_cleanup(nest(depth - 1, probe), || turns(2)).await,
            2 => _ = create_task(nest(depth - 1, probe)).await,
            _ => {
                if let Err(cancelled) = catch_cancel(nest(depth - 1, probe)).await {
                    cancelled.resume().await
                }
            }
        }
    })
}
