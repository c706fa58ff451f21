//! `scope`: children that borrow from the caller.

mod common;

use std::{
    cell::{Cell, RefCell},
    future::{Future, pending, poll_fn},
    pin::Pin,
    rc::Rc,
};

use common::{DropCount, Log, ms, on_every, resident_kib, turns};
use corio_runtime::{
    TaskError, all_tasks, create_future, create_task, scope,
    time::{self, sleep},
    yield_now,
};

#[test]
fn a_scope_runs_children_that_borrow() {
    on_every(async || {
        let words = ["a", "bb", "ccc"];
        let total = Cell::new(0);
        let start = time::now();
        let first = scope(async |scope| {
            let tasks = words.each_ref().map(|word| {
                let total = &total;
                scope.spawn(async move {
                    sleep(ms(2)).await;
                    total.set(total.get() + word.len());
                    word.len()
                })
            });
            let [first, ..] = tasks;
            first.await
        })
        .await;
        assert_eq!((first, total.get()), (1, 6));
        assert!(time::now() - start >= ms(2));
        let nested = scope(async |scope| {
            let inner = scope.clone();
            scope.spawn(async move { inner.spawn(async { 7 }).await }).await
        });
        assert_eq!(nested.await, 7);
    });
}

/// Says when it is dropped.
struct Says(Log<&'static str>, &'static str);

impl Drop for Says {
    fn drop(&mut self) {
        self.0.push(self.1);
    }
}

#[test]
fn children_are_dropped_before_what_they_borrow() {
    on_every(async || {
        let log = Log::new();
        let theirs = log.clone();
        let task = create_task(async move {
            let lent = Says(theirs.clone(), "lent");
            let (reads, ours) = (&lent, theirs);
            scope(async |scope| {
                scope.spawn(async {
                    let _child = Says(reads.0.clone(), "child");
                    pending::<()>().await;
                });
                let _body = Says(ours, "body");
                pending::<()>().await;
            })
            .await;
        });
        turns(2).await;
        task.cancel();
        assert!(matches!(task.await, Err(TaskError::Cancelled)));
        assert_eq!(log.get(), ["body", "child", "lent"]);
        assert_eq!(all_tasks().len(), 1);
    });
}

#[test]
fn what_was_lent_is_free_again_after_the_scope() {
    on_every(async || {
        let mut words = vec![String::from("a")];
        let first = &mut words[0];
        scope(async |scope| {
            scope.spawn(async {
                yield_now().await;
                first.push('b');
            });
        })
        .await;
        words.push("c".into());
        assert_eq!(words, ["ab", "c"]);
    });
}

#[test]
fn a_panic_of_a_child_goes_on_in_the_caller_and_drops_the_others() {
    on_every(async || {
        let drops = DropCount::default();
        let probes = [drops.probe(), drops.probe()];
        let task = create_task(async move {
            let lent = Cell::new(0);
            scope(async |scope| {
                for probe in probes {
                    let lent = &lent;
                    scope.spawn(async move {
                        let _probe = probe;
                        lent.set(lent.get() + 1);
                        pending::<()>().await;
                    });
                }
                scope.spawn(async {
                    yield_now().await;
                    panic!("a child panics");
                });
                pending::<()>().await;
            })
            .await;
        });
        assert!(task.await.unwrap_err().to_string().contains("a child panics"));
        assert_eq!(drops.get(), 2);
    });
}

#[test]
fn children_that_were_started_but_never_ran_are_dropped() {
    on_every(async || {
        let drops = DropCount::default();
        let probe = drops.probe();
        let task = create_task(async move {
            scope(async |scope| {
                // It holds the scope that holds it.
                let inner = scope.clone();
                scope.spawn(async move { drop((inner, probe)) });
                panic!("the body panics");
            })
            .await
        });
        assert!(task.await.is_err());
        assert_eq!(drops.get(), 1);
        // A scope that is over takes no children.
        let over = scope(async |scope| scope.clone()).await;
        let (late, probe) = (over.clone(), drops.probe());
        let mut refused = over.spawn(async move { drop((late, probe)) });
        assert_eq!(drops.get(), 2);
        assert!(common::poll_once(&mut refused).is_pending());
    });
}

#[test]
fn a_scope_without_children_takes_no_turn() {
    on_every(async || {
        let other = create_task(async {});
        assert_eq!(scope(async |_| 7).await, 7);
        assert!(!other.done());
    });
}

/// Each child starts the next one: they take turns with the tasks of the loop.
#[test]
fn a_chain_of_children_lets_others_run() {
    on_every(async || {
        fn link<'env>(scope: &corio_runtime::Scope<'env>, left: u32, seen: Rc<Cell<u32>>) {
            let next = scope.clone();
            scope.spawn(async move {
                if left > 0 && seen.get() < 3 {
                    link(&next, left - 1, seen);
                }
            });
        }
        let seen = Rc::new(Cell::new(0));
        let theirs = seen.clone();
        let other = create_task(async move {
            while theirs.get() < 3 {
                theirs.set(theirs.get() + 1);
                yield_now().await;
            }
        });
        scope(async |scope| link(scope, 10_000, seen.clone())).await;
        assert_eq!(seen.get(), 3, "the chain ran to its end first");
        other.await.unwrap();
    });
}

#[test]
fn an_output_is_given_once_and_a_second_poll_says_so() {
    on_every(async || {
        let mut child = scope(async |scope| scope.spawn(async { 7 })).await;
        assert_eq!((&mut child).await, 7);
        let again = create_task(child).await.unwrap_err();
        assert!(again.to_string().contains("a ScopedTask was polled after it was ready"));
    });
}

#[test]
fn a_wake_polls_only_the_child_that_it_is_for() {
    on_every(async || {
        let polls = Cell::new(0);
        let (resolver, mut future) = create_future();
        scope(async |scope| {
            scope.spawn(poll_fn(|cx| {
                polls.set(polls.get() + 1);
                Pin::new(&mut future).poll(cx).map(drop)
            }));
            turns(50).await;
            assert_eq!(polls.get(), 1);
            resolver.set_result(()).unwrap();
        })
        .await;
        assert_eq!(polls.get(), 2);
    });
}

#[test]
fn memory_is_flat_over_a_hundred_thousand_children() {
    if !common::in_own_process("memory_is_flat_over_a_hundred_thousand_children") {
        return;
    }
    on_every(async || {
        let sum = RefCell::new(0u64);
        scope(async |scope| {
            let one = async |n| {
                let sum = &sum;
                scope
                    .spawn(async move {
                        let _memory = [n as u8; 256];
                        yield_now().await;
                        *sum.borrow_mut() += n;
                    })
                    .await;
            };
            for n in 0..1000 {
                one(n).await;
            }
            let before = resident_kib();
            for n in 0..100_000 {
                one(n).await;
            }
            let grown = resident_kib().saturating_sub(before);
            // What AddressSanitizer keeps back is among it; a child leaked is 256 bytes at least.
            assert!(grown < 8192, "{grown} KiB more after 1e5 children");
        })
        .await;
        assert_eq!(*sum.borrow(), (0..1000).sum::<u64>() + (0..100_000).sum::<u64>());
    });
}
