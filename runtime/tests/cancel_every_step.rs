//! Every way to wait for several futures, with the waiting task cancelled at each step: every child ends or continues
//! as in asyncio, every value and every child is dropped once, and nothing remains on the loop.

mod common;

use std::{
    cell::Cell,
    future::{Future, pending, poll_fn},
    pin::Pin,
    rc::Rc,
    task::Poll,
};

use common::{OnDrop, ms, on_every, on_sim, turns};
use corio_runtime::{
    ReturnWhen, TaskGroupError, TryGatherError, all_tasks, as_completed, as_completed_tasks, create_task,
    current_task, gather, metrics, scope, set_exception_handler, shield, shield_future, task_group,
    time::{self, timeout, timeout_scope},
    try_gather, try_gather_tasks, wait, with_cleanup,
};

type Count = Rc<Cell<u32>>;

fn add_one(count: &Count) {
    count.set(count.get() + 1);
}

/// The children of one run, counted.
#[derive(Clone, Default)]
struct Children {
    made: Count,
    ended: Count,
    dropped: Count,
    values_dropped: Count,
}

impl Children {
    /// Suspends `steps` times, and gives a value that counts its drop.
    fn child(&self, steps: usize) -> impl Future<Output = OnDrop> + use<> {
        add_one(&self.made);
        let (guard, ended) = (OnDrop(self.dropped.clone()), self.ended.clone());
        let values_dropped = self.values_dropped.clone();
        async move {
            let _guard = guard;
            turns(steps).await;
            add_one(&ended);
            OnDrop(values_dropped)
        }
    }

    fn three(&self) -> [Pin<Box<dyn Future<Output = OnDrop>>>; 3] {
        [3, 1, 2].map(|steps| Box::pin(self.child(steps)) as Pin<Box<dyn Future<Output = OnDrop>>>)
    }
}

/// What becomes of the children of a waiter that is cancelled.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// They are gone with it.
    End,
    /// They are gone after another turn.
    Cancelled,
    /// They run to their end.
    GoOn,
}

#[derive(Clone, Copy)]
enum Way {
    /// The future is dropped where it is.
    Drop,
    /// It is the future of a task that is cancelled.
    Cancel,
}

/// Polls `waiter` `limit` times and ends it then. Gives the polls that it took, and whether it came to its end.
async fn end_at(waiter: impl Future<Output = ()> + 'static, way: Way, limit: usize) -> (usize, bool) {
    let count = Rc::new(Cell::new(0));
    let mut waiter = Box::pin(waiter);
    let polls = count.clone();
    let limited = async move {
        poll_fn(|cx| match way {
            Way::Drop if count.get() == limit => Poll::Ready(false),
            Way::Cancel if count.get() == limit => {
                current_task().unwrap().cancel();
                Poll::Pending
            }
            _ => {
                count.set(count.get() + 1);
                waiter.as_mut().poll(cx).map(|()| true)
            }
        })
        .await
    };
    let ended = match way {
        Way::Drop => limited.await,
        Way::Cancel => create_task(limited).await.unwrap_or(false),
    };
    (polls.get(), ended)
}

/// Runs what `scenario` makes, and then again with its end at each of its polls.
async fn at_every_step<F: Future<Output = ()> + 'static>(fate: Fate, scenario: impl Fn(Children) -> F) {
    let run = async |way, limit| {
        let children = Children::default();
        let (polls, ended) = end_at(scenario(children.clone()), way, limit).await;
        let (made, ended_then) = (children.made.get(), children.ended.get());
        if fate == Fate::Cancelled {
            turns(1).await;
        }
        if fate != Fate::GoOn || ended {
            assert_eq!(children.dropped.get(), made, "left running after {polls} polls");
        }
        turns(20).await;
        let expected = if fate == Fate::GoOn { made } else { ended_then };
        assert_eq!(children.ended.get(), expected, "of {made} after {polls} polls");
        assert_eq!(children.dropped.get(), made, "children dropped after {polls} polls");
        assert_eq!(children.values_dropped.get(), expected, "values dropped after {polls} polls");
        assert_eq!((all_tasks().len(), metrics().timers), (1, 0), "left on the loop after {polls} polls");
        (polls, ended)
    };
    let (steps, ended) = run(Way::Drop, usize::MAX).await;
    assert!(ended && steps >= 2, "too few steps to mean anything: {steps}");
    for way in [Way::Drop, Way::Cancel] {
        for limit in 0..steps {
            assert_eq!(run(way, limit).await, (limit, false));
        }
    }
}

#[test]
fn gath_12_gathered_futures_end_with_who_waits_at_every_step() {
    on_every(async || {
        at_every_step(Fate::End, async |children| assert_eq!(gather(children.three()).await.len(), 3)).await;
        at_every_step(Fate::End, async |children| {
            let fallible = children.three().map(async |child| Ok::<_, ()>(child.await));
            assert_eq!(try_gather(fallible).await.unwrap().len(), 3);
        })
        .await;
        at_every_step(Fate::End, async |children| {
            let failing = children.child(2);
            let failing = async move {
                let _value = failing.await;
                Err::<OnDrop, _>("bad")
            };
            let good = children.child(9);
            let good = async move { Ok(good.await) };
            let both: [Pin<Box<dyn Future<Output = _>>>; 2] = [Box::pin(good), Box::pin(failing)];
            assert_eq!(try_gather(both).await.err(), Some("bad"));
        })
        .await;
    });
}

#[test]
fn gath_09_gathered_tasks_are_cancelled_with_who_waits_at_every_step() {
    on_every(async || {
        at_every_step(Fate::Cancelled, async |children| {
            assert_eq!(gather(children.three().map(create_task)).await.len(), 3);
        })
        .await;
        at_every_step(Fate::Cancelled, async |children| {
            let mut tasks =
                children.three().map(|child| create_task(async move { Ok::<_, ()>(child.await) }));
            assert_eq!(try_gather_tasks(&mut tasks).await.unwrap().len(), 3);
        })
        .await;
        at_every_step(Fate::Cancelled, async |children| {
            let owned = children.three().map(|child| create_task(child).cancel_on_drop());
            assert_eq!(gather(owned).await.len(), 3);
        })
        .await;
    });
}

#[test]
fn gath_02_a_failure_leaves_the_siblings_running_also_if_their_handles_are_dropped_then() {
    on_every(async || {
        let children = Children::default();
        let mut tasks = children.three().map(|child| create_task(async move { Ok(child.await) }));
        let mut bad = create_task(async { Err("bad") });
        let failed = try_gather_tasks(tasks.iter_mut().chain([&mut bad])).await;
        assert!(matches!(failed, Err(TryGatherError::Failed("bad"))));
        drop(tasks);
        turns(20).await;
        assert_eq!(children.ended.get(), 3);
    });
}

#[test]
fn task_28_tasks_waited_for_run_on_without_who_waits_at_every_step() {
    on_every(async || {
        for limit in [None, Some(ms(60_000))] {
            at_every_step(Fate::GoOn, |children| async move {
                let tasks = children.three().map(create_task).into();
                let (done, pending) = wait(tasks, ReturnWhen::AllCompleted, limit).await;
                assert_eq!((done.len(), pending.len()), (3, 0));
            })
            .await;
        }
    });
}

#[test]
fn gath_26_gath_28_outputs_as_they_come_with_who_waits_ended_at_every_step() {
    on_every(async || {
        at_every_step(Fate::End, async |children| {
            let mut outputs = as_completed(children.three());
            while outputs.next().await.is_some() {}
        })
        .await;
        at_every_step(Fate::Cancelled, async |children| {
            let mut outputs = as_completed(children.three().map(create_task));
            while outputs.next().await.is_some() {}
        })
        .await;
        at_every_step(Fate::GoOn, async |children| {
            let mut ended = as_completed_tasks(children.three().map(create_task).into());
            while let Some(task) = ended.next().await {
                drop(task.await.unwrap());
            }
        })
        .await;
    });
}

#[test]
fn gath_30_a_cancelled_next_loses_no_output_at_any_step() {
    on_every(async || {
        for limit in 0..8 {
            let mut outputs = as_completed([3, 1, 2].map(async |steps| {
                turns(steps).await;
                steps
            }));
            let mut got = Vec::new();
            let mut left = limit;
            {
                let mut first = Box::pin(async {
                    while let Some(output) = outputs.next().await {
                        got.push(output);
                    }
                });
                poll_fn(|cx| {
                    if left == 0 {
                        return Poll::Ready(());
                    }
                    left -= 1;
                    first.as_mut().poll(cx)
                })
                .await;
            }
            while let Some(output) = outputs.next().await {
                got.push(output);
            }
            assert_eq!(got, [1, 2, 3], "cancelled after {limit} polls");
        }
    });
}

#[test]
fn gath_37_gath_39_gath_40_what_a_shield_holds_runs_on_at_every_step() {
    on_every(async || {
        at_every_step(Fate::GoOn, async |children| {
            drop(shield(create_task(children.child(3))).await.unwrap());
        })
        .await;
        at_every_step(Fate::GoOn, async |children| {
            let all = shield_future(gather(children.three()));
            assert_eq!(all.await.unwrap().len(), 3);
        })
        .await;
    });
}

#[test]
fn scoped_children_end_with_who_waits_at_every_step() {
    on_every(async || {
        at_every_step(Fate::End, async |children| {
            let sum = Cell::new(0);
            scope(async |scope| {
                for (n, child) in children.three().into_iter().enumerate() {
                    let sum = &sum;
                    scope.spawn(async move {
                        let _value = child.await;
                        sum.set(sum.get() + n);
                    });
                }
                let last = scope.spawn(children.child(2));
                turns(1).await;
                drop(last.await);
            })
            .await;
            assert_eq!(sum.get(), 3);
        })
        .await;
    });
}

#[test]
fn wf_14_a_timed_body_ends_with_who_waits_at_every_step() {
    on_sim(async || {
        at_every_step(Fate::End, async |children| {
            drop(timeout(ms(60_000), children.child(3)).await.unwrap());
            let late = children.child(2);
            let late = async move {
                let _value = late.await;
                pending::<()>().await;
            };
            assert!(timeout(ms(1), late).await.is_err());
        })
        .await;
        at_every_step(Fate::End, async |children| {
            let body = timeout_scope(ms(1), async |deadline| {
                deadline.reschedule(time::now() + ms(60_000));
                let value = children.child(2).await;
                let inner = timeout_scope(ms(1), async |_| {
                    let _value = children.child(1).await;
                    pending::<()>().await;
                });
                assert!(inner.await.is_err());
                value
            });
            drop(body.await.unwrap());
        })
        .await;
        at_every_step(Fate::Cancelled, async |children| {
            let mut task = create_task(children.child(5));
            // The turns are steps at which the task still runs.
            let both = corio_runtime::gather!(turns(3), &mut task);
            drop(timeout(ms(60_000), both).await.unwrap());
        })
        .await;
    });
}

/// The error of a failed child is given to who waits or reported, but never both and never neither.
#[test]
fn tg_02_tg_06_tg_31_a_group_with_a_failing_child_cancelled_at_every_step() {
    on_every(async || {
        let [raised, given, reported] = [Count::default(), Count::default(), Count::default()];
        let reports = reported.clone();
        set_exception_handler(move |context| {
            assert!(context.message().contains("(1 sub-error), lost"), "{context:?}");
            add_one(&reports);
        });
        at_every_step(Fate::End, |children| {
            let (raised, given) = (raised.clone(), given.clone());
            async move {
                let failed: TaskGroupError<_> = task_group::<(), &str>(async |group| {
                    for child in children.three() {
                        drop(group.create_task(async move {
                            drop(child.await);
                            Ok(())
                        }));
                    }
                    let long = children.child(30);
                    drop(group.create_task(with_cleanup(
                        async move {
                            drop(long.await);
                            Ok(())
                        },
                        || turns(3),
                    )));
                    drop(group.create_task(async move {
                        turns(2).await;
                        add_one(&raised);
                        Err::<(), _>("bad")
                    }));
                    pending().await
                })
                .await
                .unwrap_err();
                assert_eq!(failed.errors(), ["bad"]);
                add_one(&given);
            }
        })
        .await;
        assert_eq!(raised.get(), given.get() + reported.get());
        assert!(given.get() == 1 && reported.get() > 0, "{given:?} given, {reported:?} reported");
    });
}
