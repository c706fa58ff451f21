//! Scopes of `catch_cancel`, cleanups and groups, nested three deep, with the task cancelled at each of its steps, once
//! and again some steps later: everything that was begun ends before the task does, once, and nothing remains.

mod common;

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    rc::Rc,
};

use common::{OnDrop, ms, on_every, on_sim, reports, turns};
use corio_runtime::{
    Task, TaskError, all_tasks, catch_cancel, create_task, current_task, gather, metrics, task_group,
    time::timeout, with_cleanup,
};

/// What was begun and ended in one run.
#[derive(Clone, Default)]
struct Counts {
    begun: Rc<Cell<u32>>,
    dropped: Rc<Cell<u32>>,
    cleanups: Rc<Cell<u32>>,
    cleaned: Rc<Cell<u32>>,
    caught: Rc<Cell<u32>>,
}

fn add_one(count: &Cell<u32>) {
    count.set(count.get() + 1);
}

impl Counts {
    /// Suspends `steps` times; its drop is counted.
    fn work(&self, steps: usize) -> impl Future<Output = ()> + use<> {
        let counts = self.clone();
        async move {
            add_one(&counts.begun);
            let _end = OnDrop(counts.dropped.clone());
            turns(steps).await;
        }
    }

    /// Runs `body` with a cleanup that takes two turns.
    fn cleaned<F: Future>(&self, body: F) -> impl Future<Output = F::Output> + use<F> {
        let counts = self.clone();
        with_cleanup(body, move || {
            add_one(&counts.cleanups);
            async move {
                turns(2).await;
                add_one(&counts.cleaned);
            }
        })
    }

    /// Runs `body`; a cancel takes two turns to handle, and goes on then if it is to `resume`.
    async fn scope(&self, resume: bool, body: impl Future<Output = ()>) {
        if let Err(cancelled) = catch_cancel(body).await {
            add_one(&self.caught);
            self.work(2).await;
            if resume {
                cancelled.resume().await
            }
        }
    }

    /// A group with a child that lasts some steps and `body`, which may be cancelled by the group's failure.
    async fn group(&self, fails: bool, body: impl Future<Output = ()>) {
        let counts = self.clone();
        let ended = task_group::<(), ()>(async |group| {
            let child = counts.work(3);
            drop(group.create_task(async move {
                child.await;
                if fails { Err(()) } else { Ok(()) }
            }));
            let (counts, other) = (counts.clone(), counts.clone());
            drop(group.create_task(async move {
                counts.scope(true, other.cleaned(other.work(4))).await;
                Ok(())
            }));
            body.await;
            Ok(())
        });
        _ = ended.await;
    }

    fn assert_over(&self, what: &str) {
        assert_eq!(self.dropped.get(), self.begun.get(), "{what}: dropped of what was begun");
        assert_eq!(self.cleaned.get(), self.cleanups.get(), "{what}: cleanups over of those begun");
    }
}

/// Polls `body` in a task that is cancelled at these polls. Returns the task, and where its polls are counted.
fn cancelled_at(body: impl Future<Output = ()> + 'static, at: [usize; 2]) -> (Task<()>, Rc<Cell<usize>>) {
    let polls = Rc::new(Cell::new(0));
    let count = polls.clone();
    let task = create_task(async move {
        let mut body = Box::pin(body);
        poll_fn(|cx| {
            if at.contains(&count.get()) {
                assert!(current_task().unwrap().cancel());
            }
            count.set(count.get() + 1);
            body.as_mut().poll(cx)
        })
        .await;
    });
    (task, polls)
}

/// Runs what `scenario` makes, with a cancel at each of its polls, and a second one at each later poll.
async fn at_every_pair_of_steps<F: Future<Output = ()> + 'static>(scenario: impl Fn(Counts) -> F) {
    // Errors of cancelled groups are reported; printing them would take a timer.
    let _heard = reports();
    let run = async |at: [usize; 2]| {
        let counts = Counts::default();
        let (mut task, polls) = cancelled_at(scenario(counts.clone()), at);
        let ended = (&mut task).await;
        let what = format!("cancelled at {at:?}");
        assert!(matches!(ended, Ok(()) | Err(TaskError::Cancelled)), "{what}: {ended:?}");
        counts.assert_over(&what);
        turns(5).await;
        counts.assert_over(&what);
        assert_eq!((all_tasks().len(), metrics().timers), (1, 0), "{what}: left on the loop");
        (polls.get(), counts.caught.get(), ended.is_ok())
    };
    const NEVER: usize = usize::MAX;
    let (steps, _, ended) = run([NEVER, NEVER]).await;
    assert!(ended && steps >= 4, "too few steps to mean anything: {steps}");
    let (mut caught, mut refused) = (0, 0);
    for first in 0..steps {
        let (longer, catches, ended) = run([first, NEVER]).await;
        caught += catches;
        refused += u32::from(ended);
        for second in first + 1..longer {
            run([first, second]).await;
        }
    }
    assert!(caught > 0, "no scope was ever reached");
    assert!(refused < steps as u32, "no cancel ended the task");
}

#[test]
fn task_14_task_15_a_scope_in_a_cleanup_in_a_group_cancelled_at_every_step() {
    on_every(async || {
        for (resume, fails) in [(false, false), (true, false), (false, true), (true, true)] {
            at_every_pair_of_steps(|counts| async move {
                let inner = counts.cleaned(counts.work(4));
                let scoped = counts.scope(resume, inner);
                counts.group(fails, counts.cleaned(scoped)).await;
                counts.work(1).await;
            })
            .await;
        }
    });
}

#[test]
fn tg_14_a_group_in_a_scope_in_a_group_cancelled_at_every_step() {
    on_every(async || {
        for (resume, fails) in [(false, false), (true, true)] {
            at_every_pair_of_steps(|counts| async move {
                let innermost = counts.group(fails, counts.work(5));
                let scoped = counts.scope(resume, counts.cleaned(innermost));
                counts.group(fails, scoped).await;
                counts.work(1).await;
            })
            .await;
        }
    });
}

#[test]
fn task_18_an_awaited_task_with_a_scope_in_a_group_cancelled_at_every_step() {
    on_every(async || {
        for resume in [false, true] {
            at_every_pair_of_steps(|counts| async move {
                let (theirs, ours) = (counts.clone(), counts.clone());
                let task = create_task(async move {
                    let inner = theirs.cleaned(theirs.work(4));
                    theirs.scope(resume, inner).await;
                });
                let awaits = async move {
                    let other = ours.cleaned(ours.work(2));
                    let both: [std::pin::Pin<Box<dyn Future<Output = ()>>>; 2] =
                        [Box::pin(async { _ = task.await }), Box::pin(other)];
                    gather(both).await;
                };
                counts.group(false, counts.scope(resume, awaits)).await;
            })
            .await;
        }
    });
}

#[test]
fn wf_11_timeouts_that_pass_amid_scopes_and_cleanups_cancelled_at_every_step() {
    on_sim(async || {
        for resume in [false, true] {
            at_every_pair_of_steps(|counts| async move {
                let never = counts.cleaned(async { std::future::pending().await });
                let scoped = counts.scope(resume, never);
                let group = counts.group(false, async { _ = timeout(ms(1), scoped).await });
                _ = timeout(ms(2), counts.cleaned(group)).await;
                counts.work(1).await;
            })
            .await;
        }
    });
}
