//! `task_group`, as asyncio's `TaskGroup`.

mod common;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use common::{Log, OnDrop, in_own_process, ms, on_every, resident_kib, turns};
use corio_runtime::{
    TaskError, TaskGroup, TaskGroupError, TaskLocal, all_tasks, catch_cancel, create_future, create_task,
    current_task, task_group,
    time::{sleep, timeout},
    with_cleanup, yield_now,
};

type Failed = TaskGroupError<&'static str>;

async fn after<T>(millis: u64, value: T) -> T {
    sleep(ms(millis)).await;
    value
}

/// A child that never ends, and counts its drop.
fn endless(group: &TaskGroup<&'static str>, dropped: &Rc<Cell<u32>>) {
    let guard = OnDrop(dropped.clone());
    drop(group.create_task(async move {
        let _guard = guard;
        std::future::pending::<Result<(), _>>().await
    }));
}

fn counter() -> Rc<Cell<u32>> {
    Rc::default()
}

#[test]
fn tg_01_tg_02_the_values_of_all_children() {
    on_every(async || {
        let sum = task_group(async |group| {
            let slow = group.create_task(after(3, Ok::<_, &str>(42)));
            yield_now().await;
            let quick = group.create_task(after(1, Ok(11)));
            Ok((slow.await.unwrap(), quick.await.unwrap()))
        });
        assert_eq!(sum.await.unwrap(), (42, 11));
        for count in [1, 3] {
            let ended = counter();
            let all = task_group::<_, &str>(async |group| {
                for n in 1..=count {
                    let ended = ended.clone();
                    drop(group.create_task(async move {
                        turns(n).await;
                        ended.set(ended.get() + 1);
                        Ok(())
                    }));
                }
                Ok(count)
            });
            assert_eq!(all.await.unwrap(), count);
            assert_eq!(ended.get() as usize, count, "it waits for those that nobody awaits");
        }
    });
}

#[test]
fn tg_03_a_child_cancelled_by_itself_is_no_failure() {
    on_every(async || {
        let kept = task_group::<_, &str>(async |group| {
            let gone = group.create_task(std::future::pending::<Result<(), _>>());
            let kept = group.create_task(after(1, Ok(11)));
            gone.cancel();
            assert!(matches!(gone.await, Err(TaskError::Cancelled)));
            Ok(kept.await.unwrap())
        });
        assert_eq!(kept.await.unwrap(), 11);
    });
}

#[test]
fn tg_04_the_first_failure_cancels_the_siblings_and_the_body() {
    on_every(async || {
        let (dropped, reached) = (counter(), counter());
        let failed: Result<(), Failed> = task_group(async |group| {
            drop(group.create_task(after(1, Err::<(), _>("division by zero"))));
            endless(group, &dropped);
            let _body = OnDrop(dropped.clone());
            sleep(ms(10_000)).await;
            reached.set(1);
            Ok(())
        })
        .await;
        let failed = failed.unwrap_err();
        assert_eq!(failed.errors(), ["division by zero"]);
        assert_eq!(failed.to_string(), "unhandled errors in a TaskGroup (1 sub-error)");
        assert_eq!((dropped.get(), reached.get()), (2, 0));
    });
}

#[test]
fn tg_05_failures_of_one_turn_are_all_collected() {
    on_every(async || {
        let dropped = counter();
        let failed = task_group::<(), _>(async |group| {
            for name in ["one", "two", "three"] {
                drop(group.create_task(async move {
                    yield_now().await;
                    Err::<(), _>(name)
                }));
            }
            endless(group, &dropped);
            std::future::pending().await
        });
        let errors = failed.await.unwrap_err().into_errors();
        assert_eq!((&errors[..], dropped.get()), (&["one", "two", "three"][..], 1));
    });
}

#[test]
fn tg_06_tg_07_tg_16_tg_20_an_outside_cancel_drops_the_children_at_once() {
    on_every(async || {
        for body_waits in [false, true] {
            let dropped = counter();
            let theirs = dropped.clone();
            let parent = create_task(async move {
                task_group::<(), _>(async |group| {
                    (0..5).for_each(|_| endless(group, &theirs));
                    if body_waits {
                        std::future::pending::<()>().await;
                    }
                    Ok(())
                })
                .await
            });
            turns(3).await;
            assert_eq!(dropped.get(), 0);
            parent.cancel();
            assert!(matches!(parent.await, Err(TaskError::Cancelled)));
            assert_eq!(dropped.get(), 5);
            turns(1).await;
            assert_eq!(all_tasks().len(), 1, "nothing is left");
        }
    });
}

#[test]
fn tg_08_a_panic_of_a_child_that_is_cancelled_is_collected() {
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("in its cleanup");
        }
    }
    on_every(async || {
        let failed = task_group::<(), _>(async |group| {
            drop(group.create_task(async {
                let _bad = Bad;
                std::future::pending::<Result<(), _>>().await
            }));
            yield_now().await;
            Err("the body")
        });
        let failed = failed.await.unwrap_err();
        assert_eq!((failed.errors(), failed.panics().len()), (&["the body"][..], 1));
        assert_eq!(failed.panics()[0].message(), "in its cleanup");
        assert_eq!(failed.to_string(), "unhandled errors in a TaskGroup (2 sub-errors)");
    });
}

#[test]
fn tg_09_tg_10_an_error_of_the_body_cancels_the_children() {
    on_every(async || {
        for waits in [false, true] {
            let (dropped, ran) = (counter(), counter());
            let failed = task_group::<(), _>(async |group| {
                let ran = ran.clone();
                drop(group.create_task(async move {
                    ran.set(1);
                    Ok(())
                }));
                endless(group, &dropped);
                if waits {
                    sleep(ms(1)).await;
                }
                Err("body")
            });
            assert_eq!(failed.await.unwrap_err().errors(), ["body"]);
            assert_eq!((dropped.get(), ran.get()), (1, u32::from(waits)), "no child begins after the end");
        }
    });
}

#[test]
fn tg_11_tg_13_groups_in_groups_give_errors_in_errors() {
    on_every(async || {
        #[derive(Debug)]
        enum Error {
            Inner(Failed),
        }
        let failed = task_group::<(), Error>(async |outer| {
            drop(outer.create_task(async {
                let inner = task_group::<(), _>(async |inner| {
                    drop(inner.create_task(after(1, Err::<(), _>("value"))));
                    std::future::pending().await
                });
                inner.await.map_err(Error::Inner)
            }));
            Ok(())
        });
        let Error::Inner(inner) = &failed.await.unwrap_err().into_errors()[0];
        assert_eq!(inner.errors(), ["value"]);
    });
}

#[test]
fn tg_12_an_inner_group_is_cancelled_cleanly_by_the_outer() {
    on_every(async || {
        let dropped = counter();
        let failed = task_group::<(), _>(async |outer| {
            drop(outer.create_task(after(1, Err::<(), _>("value"))));
            let inner: Result<(), Failed> = task_group(async |inner| {
                endless(inner, &dropped);
                sleep(ms(10_000)).await;
                Ok(())
            })
            .await;
            assert!(inner.is_ok(), "never reached");
            Ok(())
        });
        assert_eq!(failed.await.unwrap_err().errors(), ["value"]);
        assert_eq!(dropped.get(), 1);
    });
}

#[test]
fn cleanups_are_awaited_by_their_group() {
    on_every(async || {
        let log = Log::new();
        let (body_log, child_log) = (log.clone(), log.clone());
        let failed = task_group::<(), _>(async |group| {
            drop(group.create_task(after(1, Err::<(), _>("crash"))));
            drop(group.create_task(with_cleanup(
                std::future::pending::<Result<(), _>>(),
                move || async move {
                    sleep(ms(3)).await;
                    child_log.push("child");
                },
            )));
            with_cleanup(std::future::pending(), move || async move {
                sleep(ms(5)).await;
                body_log.push("body");
            })
            .await
        });
        assert_eq!(failed.await.unwrap_err().errors(), ["crash"]);
        let mut cleaned = log.get();
        cleaned.sort_unstable();
        assert_eq!(cleaned, ["body", "child"], "the group ended after its cleanups");
    });
}

#[test]
fn tg_18_a_body_that_fails_in_the_turn_of_its_child_adds_its_error() {
    on_every(async || {
        let failed = task_group::<(), _>(async |group| {
            drop(group.create_task(async { Err::<(), _>("child") }));
            yield_now().await;
            Err("body")
        });
        assert_eq!(failed.await.unwrap_err().into_errors(), ["child", "body"]);
        let unstarted = task_group::<(), _>(async |group| {
            drop(group.create_task(async { Err::<(), _>("child") }));
            Err("body")
        });
        assert_eq!(unstarted.await.unwrap_err().into_errors(), ["body"], "the child has not run");
    });
}

#[test]
fn tg_19_a_panic_of_the_body_comes_out_when_all_children_are_gone() {
    on_every(async || {
        let dropped = counter();
        let theirs = dropped.clone();
        let task = create_task(async move {
            task_group::<(), _>(async |group| {
                endless(group, &theirs);
                yield_now().await;
                panic!("the body")
            })
            .await
        });
        assert!(task.await.unwrap_err().to_string().contains("the body"));
        assert_eq!(dropped.get(), 1);
    });
}

#[test]
fn tg_21_finished_children_are_forgotten() {
    on_every(async || {
        task_group::<_, &str>(async |group| {
            for _ in 0..10 {
                drop(group.create_task(after(3, Ok(()))));
                sleep(ms(1)).await;
                assert!(all_tasks().len() < 6);
            }
            Ok(())
        })
        .await
        .unwrap();
    });
}

#[test]
fn tg_21_a_million_children_leave_memory_flat() {
    if !in_own_process("tg_21_a_million_children_leave_memory_flat") {
        return;
    }
    corio_runtime::run(async {
        task_group::<_, &str>(async |group| {
            let mut before = 0;
            for n in 0..1_000_000 {
                drop(group.create_task(async { Ok([0u64; 8]) }));
                if n % 100 == 0 {
                    yield_now().await;
                }
                if n == 100_000 {
                    before = resident_kib();
                }
            }
            let grown = resident_kib().saturating_sub(before);
            assert!(grown < 4096, "{grown} KiB for 900,000 finished children");
            Ok(())
        })
        .await
        .unwrap();
    });
}

#[test]
fn tg_22_tg_23_children_create_siblings() {
    on_every(async || {
        async fn hydra(group: TaskGroup<&'static str>, heads: Rc<Cell<u32>>) -> Result<(), &'static str> {
            heads.set(heads.get() + 1);
            if heads.get() >= 10 {
                return Err("cut off");
            }
            for _ in 0..2 {
                let next: std::pin::Pin<Box<dyn Future<Output = _>>> =
                    Box::pin(hydra(group.clone(), heads.clone()));
                drop(group.create_task(next));
            }
            yield_now().await;
            Ok(())
        }
        let heads = counter();
        let failed = task_group::<(), _>(async |group| {
            drop(group.create_task(hydra(group.clone(), heads.clone())));
            Ok(())
        });
        assert_eq!(failed.await.unwrap_err().errors()[0], "cut off");
        turns(1).await;
        assert_eq!(all_tasks().len(), 1);
    });
}

#[test]
fn tg_24_children_have_names_and_a_copy_of_the_task_locals() {
    static TENANT: TaskLocal<u32> = TaskLocal::new();
    on_every(async || {
        TENANT.set(7);
        let seen = task_group::<_, &str>(async |group| {
            let child = group.create_task(async {
                let theirs = TENANT.get();
                TENANT.set(8);
                Ok((current_task().unwrap().name(), theirs))
            });
            child.set_name("yolo");
            assert_eq!(child.name(), "yolo");
            Ok(child.await.unwrap())
        });
        assert_eq!(seen.await.unwrap(), ("yolo".to_owned(), Some(7)));
        assert_eq!(TENANT.get(), Some(7));
    });
}

#[test]
fn tg_25_tg_27_tg_28_a_group_that_ends_takes_nothing_more() {
    on_every(async || {
        let (ran, kept) = (counter(), Rc::new(RefCell::new(None)));
        let (theirs, count) = (kept.clone(), ran.clone());
        let failed = task_group::<(), _>(async |group| {
            *theirs.borrow_mut() = Some(group.clone());
            Err("closing")
        });
        assert!(failed.await.is_err());
        let group: TaskGroup<&str> = kept.take().unwrap();
        let guard = OnDrop(ran.clone());
        let refused = group.create_task(async move {
            let _guard = guard;
            count.set(100);
            Ok(())
        });
        assert!(matches!(refused.await, Err(TaskError::Cancelled)));
        assert_eq!(ran.get(), 1, "dropped without running");
        group.cancel();
        let failed = task_group::<(), _>(async |group| {
            drop(group.create_task(async { Err::<(), _>("child") }));
            assert!(catch_cancel(std::future::pending::<()>()).await.is_err());
            let refused = group.create_task(async { Ok(()) });
            assert!(matches!(refused.await, Err(TaskError::Cancelled)), "it is ending");
            Ok(())
        });
        assert_eq!(failed.await.unwrap_err().errors(), ["child"]);
    });
}

#[test]
fn tg_29_tg_30_a_failure_that_was_handled_leaves_no_cancel_behind() {
    on_every(async || {
        let outer = task_group::<(), _>(async |outer| {
            drop(outer.create_task(after(3, Err::<(), _>("outer"))));
            let inner: Result<(), Failed> = task_group(async |inner| {
                drop(inner.create_task(after(1, Err::<(), _>("inner"))));
                std::future::pending().await
            })
            .await;
            assert_eq!(inner.unwrap_err().errors(), ["inner"]);
            assert_eq!(current_task().unwrap().state(), corio_runtime::TaskState::Running);
            sleep(ms(10_000)).await;
            Ok(())
        });
        assert_eq!(outer.await.unwrap_err().errors(), ["outer"]);
        yield_now().await;
    });
}

#[test]
fn tg_31_an_outside_cancel_beside_an_error_is_not_eaten() {
    on_every(async || {
        let task = create_task(async {
            task_group::<(), _>(async |group| {
                drop(group.create_task(async { Err::<(), _>("error") }));
                std::future::pending().await
            })
            .await
            .unwrap_err();
            std::future::pending::<()>().await;
        });
        turns(1).await;
        task.cancel();
        assert!(matches!(task.await, Err(TaskError::Cancelled)));
    });
}

#[test]
fn tg_32_cancel_ends_the_group_without_an_error() {
    on_every(async || {
        let dropped = counter();
        let value = task_group::<_, &str>(async |group| {
            (0..3).for_each(|_| endless(group, &dropped));
            yield_now().await;
            group.cancel();
            group.cancel();
            let refused = group.create_task(async { Ok(()) });
            assert!(matches!(refused.await, Err(TaskError::Cancelled)));
            Ok("spared")
        });
        assert_eq!(value.await.unwrap(), "spared");
        assert_eq!(dropped.get(), 3);
    });
}

#[test]
fn to_03_timeouts_inside_and_outside_of_groups_keep_their_causes() {
    on_every(async || {
        let dropped = counter();
        let outside = timeout(
            ms(2),
            task_group::<(), _>(async |group| {
                endless(group, &dropped);
                std::future::pending().await
            }),
        );
        assert!(outside.await.is_err());
        assert_eq!(dropped.get(), 1);
        let inside = task_group::<_, &str>(async |group| {
            let child =
                group.create_task(async { Ok(timeout(ms(1), std::future::pending::<()>()).await.is_err()) });
            Ok(child.await.unwrap())
        });
        assert!(inside.await.unwrap());
    });
}

/// The group's own future, dropped at each of its suspension points: no child is left, nothing hangs.
#[test]
fn tg_06_tg_31_cancelled_at_every_step() {
    async fn scenario(dropped: Rc<Cell<u32>>) -> Result<u32, Failed> {
        task_group(async |group| {
            let sum = Rc::new(Cell::new(0));
            for n in 0..3 {
                let (sum, guard) = (sum.clone(), OnDrop(dropped.clone()));
                drop(group.create_task(async move {
                    let _guard = guard;
                    turns(n as usize + 1).await;
                    sum.set(sum.get() + n);
                    Ok(())
                }));
            }
            turns(2).await;
            Ok(sum.get())
        })
        .await
    }
    on_every(async || {
        let polls = async |limit: usize| {
            let dropped = counter();
            let mut future = Box::pin(scenario(dropped.clone()));
            let mut count = 0;
            let ended = std::future::poll_fn(|cx| {
                if count == limit {
                    return std::task::Poll::Ready(None);
                }
                count += 1;
                future.as_mut().poll(cx).map(Some)
            })
            .await;
            drop(future);
            // Created before the first poll or not at all.
            assert!(dropped.get() == 3 || count == 0, "{} dropped after {count} polls", dropped.get());
            turns(1).await;
            assert_eq!(all_tasks().len(), 1);
            (count, ended)
        };
        let (steps, ended) = polls(usize::MAX).await;
        assert!(ended.unwrap().is_ok() && steps >= 3);
        for limit in 0..steps {
            assert!(polls(limit).await.1.is_none());
        }
    });
}

#[test]
fn tg_08_errors_that_nobody_will_get_are_reported() {
    on_every(async || {
        let log = Log::new();
        let heard = log.clone();
        corio_runtime::set_exception_handler(move |context| heard.push(context.message().to_owned()));
        let (resolver, held) = create_future::<()>();
        let task = create_task(task_group::<(), _>(async |group| {
            let cleanup = || async { _ = held.await };
            drop(group.create_task(with_cleanup(std::future::pending::<Result<(), _>>(), cleanup)));
            drop(group.create_task(async { Err::<(), _>("lost") }));
            std::future::pending().await
        }));
        turns(3).await;
        // The group waits for the cleanup, with an error in its hands.
        task.cancel();
        turns(2).await;
        assert!(log.get().iter().any(|said| said.contains("1 sub-error), lost because it was cancelled")));
        assert!(!task.done(), "the cleanup still runs");
        drop(resolver);
        assert!(matches!(task.await, Err(TaskError::Cancelled)));
    });
}
