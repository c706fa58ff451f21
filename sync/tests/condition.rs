//! `Condition`, as asyncio's.

mod common;

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    time::Duration,
};

use common::{Log, on_every, turns};
use corio_runtime::{Task, TaskError, create_task, time};
use corio_sync::{Condition, Event, Lock};

fn waiter(condition: &Rc<Condition<u32>>, log: &Log<u32>, name: u32) -> Task<()> {
    let (condition, log) = (condition.clone(), log.clone());
    create_task(async move {
        let guard = condition.acquire().await.wait().await;
        assert!(condition.locked());
        log.push(name);
        drop(guard);
    })
}

fn panic_message(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).unwrap_err();
    payload.downcast_ref::<&str>().map(|text| (*text).to_owned()).unwrap_or_default()
}

#[test]
fn cond_01_nobody_goes_on_before_the_notifier_lets_go() {
    on_every(async || {
        let (condition, log) = (Rc::new(Condition::new(0)), Log::new());
        let tasks: Vec<_> = (1..4).map(|n| waiter(&condition, &log, n)).collect();
        turns(2).await;
        assert_eq!(format!("{condition:?}"), "<Condition [unlocked, waiters:3]>");
        for round in 1..4 {
            let guard = condition.acquire().await;
            guard.notify(1);
            turns(2).await;
            assert_eq!(log.get().len(), round - 1, "the lock is held");
            drop(guard);
            turns(3).await;
            assert_eq!(log.get(), (1..=round as u32).collect::<Vec<_>>());
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn cond_02_cond_04_a_cancelled_wait_leaves_the_lock_free() {
    on_every(async || {
        let (condition, log) = (Rc::new(Condition::new(0)), Log::new());
        for notified in [false, true] {
            let task = waiter(&condition, &log, 1);
            turns(1).await;
            if notified {
                condition.acquire().await.notify(1);
            }
            task.cancel();
            assert!(matches!(task.await, Err(TaskError::Cancelled)));
            assert_eq!(format!("{condition:?}"), "<Condition [unlocked]>");
        }
        assert!(log.get().is_empty());
    });
}

#[test]
fn cond_03_a_wait_cancelled_while_another_holds_the_lock_leaves_the_queue() {
    on_every(async || {
        let (condition, log) = (Rc::new(Condition::new(0)), Log::new());
        let task = waiter(&condition, &log, 1);
        turns(1).await;
        let guard = condition.acquire().await;
        guard.notify(1);
        turns(1).await;
        task.cancel();
        assert!(matches!(task.await, Err(TaskError::Cancelled)));
        let theirs = condition.clone();
        let behind = create_task(async move { drop(theirs.acquire().await) });
        turns(1).await;
        drop(guard);
        turns(2).await;
        assert!(behind.done() && log.get().is_empty());
    });
}

#[test]
fn cond_06_cond_07_wait_for_waits_until_the_predicate_holds() {
    on_every(async || {
        let condition = Rc::new(Condition::new(0));
        let theirs = condition.clone();
        let task = create_task(async move {
            let guard = theirs.acquire().await.wait_for(|n| *n >= 2).await;
            *guard
        });
        for n in 1..3 {
            turns(3).await;
            assert!(!task.done());
            let mut guard = condition.acquire().await;
            *guard = n;
            guard.notify(1);
        }
        assert_eq!(task.await.unwrap(), 2);
        let other = create_task(async {});
        drop(condition.acquire().await.wait_for(|n| *n == 2).await);
        assert!(!other.done(), "a predicate that holds waits not at all");
    });
}

#[test]
fn cond_08_counts_beyond_those_who_wait_are_ignored() {
    on_every(async || {
        let (condition, log) = (Rc::new(Condition::new(0)), Log::new());
        let tasks: Vec<_> = (1..4).map(|n| waiter(&condition, &log, n)).collect();
        turns(2).await;
        condition.acquire().await.notify(1);
        turns(3).await;
        assert_eq!(log.get(), [1]);
        let guard = condition.acquire().await;
        guard.notify(1);
        guard.notify(2048);
        drop(guard);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(log.get(), [1, 2, 3]);
    });
}

#[test]
fn cond_09_notify_all_lets_them_go_on_one_after_the_other() {
    on_every(async || {
        let (condition, log) = (Rc::new(Condition::new(0)), Log::new());
        let tasks: Vec<_> = (1..3).map(|n| waiter(&condition, &log, n)).collect();
        turns(2).await;
        condition.acquire().await.notify_all();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(log.get(), [1, 2]);
    });
}

#[test]
fn cond_10_notify_without_the_lock_panics() {
    on_every(async || {
        let lock = Rc::new(Lock::new(0));
        let (own, shared) = (Rc::new(Condition::new(0)), Rc::new(Condition::on(lock.clone())));
        for condition in [own, shared] {
            let notifies: [fn(&Condition<u32>); 2] = [|c| c.notify(1), |c| c.notify_all()];
            let all_panic = || {
                for notify in notifies {
                    let text = panic_message(|| notify(&condition));
                    assert_eq!(text, "cannot notify on un-acquired lock");
                }
            };
            all_panic();
            let task = waiter(&condition, &Log::new(), 1);
            turns(2).await;
            all_panic();
            turns(3).await;
            assert!(!task.done(), "nobody was notified");
            let guard = condition.acquire().await;
            condition.notify(1);
            drop(guard);
            task.await.unwrap();
        }
    });
}

#[test]
fn cond_11_a_condition_on_a_lock_is_locked_when_the_lock_is() {
    on_every(async || {
        let lock = Rc::new(Lock::new(5));
        let (first, second) = (Condition::on(lock.clone()), Condition::on(lock.clone()));
        let locked = || (lock.locked(), first.locked(), second.locked());
        assert_eq!(locked(), (false, false, false));
        let held = lock.acquire().await;
        assert_eq!(locked(), (true, true, true));
        drop(held);
        let mut held = first.acquire().await;
        *held += 1;
        assert_eq!(locked(), (true, true, true));
        assert!(lock.try_acquire().is_none());
        drop(held);
        assert_eq!((locked(), *second.acquire().await), ((false, false, false), 6));
    });
}

#[test]
fn cond_11_conditions_on_one_lock_have_waiters_of_their_own() {
    on_every(async || {
        let (lock, log) = (Rc::new(Lock::new(0)), Log::new());
        let conditions = [(); 2].map(|()| Rc::new(Condition::on(lock.clone())));
        let names = [1, 2, 3, 4];
        let tasks = names.map(|name| waiter(&conditions[name as usize % 2], &log, name));
        turns(2).await;
        // Through a guard of the other condition, through the lock, through its own guard.
        let held = conditions[0].acquire().await;
        conditions[1].notify(1);
        drop(held);
        turns(3).await;
        assert_eq!(log.get(), [1]);
        let held = lock.acquire().await;
        conditions[0].notify_all();
        drop(held);
        turns(4).await;
        assert_eq!(log.get(), [1, 2, 4]);
        conditions[1].acquire().await.notify_all();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(log.get(), [1, 2, 4, 3]);
    });
}

/// asyncio's form of a queue: neither side waits while it could go on.
#[test]
fn cond_11_a_queue_of_not_empty_and_not_full() {
    on_every(async || {
        let items = Rc::new(Lock::new(VecDeque::new()));
        let [not_empty, not_full] = [(); 2].map(|()| Rc::new(Condition::on(items.clone())));
        let got = Log::new();
        let producers = [0, 100].map(|first| {
            let (not_empty, not_full) = (not_empty.clone(), not_full.clone());
            create_task(async move {
                for n in first..first + 20 {
                    let mut items = not_full.acquire().await.wait_for(|items| items.len() < 3).await;
                    items.push_back(n);
                    not_empty.notify(1);
                }
            })
        });
        let consumers = [(); 2].map(|()| {
            let (not_empty, not_full, got) = (not_empty.clone(), not_full.clone(), got.clone());
            create_task(async move {
                for _ in 0..20 {
                    let mut items = not_empty.acquire().await.wait_for(|items| !items.is_empty()).await;
                    assert!(items.len() <= 3);
                    got.push(items.pop_front().unwrap());
                    not_full.notify(1);
                }
            })
        });
        for task in producers.into_iter().chain(consumers) {
            task.await.unwrap();
        }
        let of = |first: u32| got.get().into_iter().filter(|n| n / 100 == first / 100).collect::<Vec<_>>();
        assert_eq!((of(0), of(100)), ((0..20).collect(), (100..120).collect()));
    });
}

#[test]
fn cond_17_the_guard_is_the_lock() {
    on_every(async || {
        let condition = Condition::new(1);
        {
            let mut guard = condition.acquire().await;
            *guard += 1;
            assert!(condition.locked());
        }
        assert!(!condition.locked());
        assert_eq!(*condition.acquire().await, 2);
    });
}

#[test]
fn cond_12_after_a_timeout_the_lock_is_held_again() {
    on_every(async || {
        let condition = Rc::new(Condition::new(0));
        let guard = condition.acquire().await;
        let (guard, notified) = guard.wait_timeout(Duration::from_millis(2)).await;
        assert!(!notified && condition.locked());
        let theirs = condition.clone();
        let task = create_task(async move { theirs.acquire().await.notify(1) });
        let (guard, notified) = guard.wait_timeout(Duration::from_secs(60)).await;
        assert!(notified && condition.locked());
        drop(guard);
        task.await.unwrap();
        assert!(!condition.locked());
    });
}

#[test]
fn cond_12_a_wait_that_another_holds_up_returns_late_but_with_the_lock() {
    on_every(async || {
        let condition = Rc::new(Condition::new(0));
        let (go, theirs) = (Rc::new(Event::new()), condition.clone());
        let hold = go.clone();
        let guard = condition.acquire().await;
        let holder = create_task(async move {
            let _guard = theirs.acquire().await;
            hold.wait().await;
        });
        let releaser = create_task(async move {
            time::sleep(Duration::from_millis(10)).await;
            go.set();
        });
        let started = time::now();
        let (_guard, notified) = guard.wait_timeout(Duration::from_millis(1)).await;
        assert!(!notified && time::now() - started >= Duration::from_millis(10));
        holder.await.unwrap();
        releaser.await.unwrap();
    });
}

#[test]
fn cond_15_a_notification_of_a_cancelled_waiter_goes_to_the_next() {
    on_every(async || {
        let (condition, log) = (Rc::new(Condition::new(0)), Log::new());
        let first = waiter(&condition, &log, 1);
        let second = waiter(&condition, &log, 2);
        turns(2).await;
        condition.acquire().await.notify(1);
        first.cancel();
        second.await.unwrap();
        assert_eq!(log.get(), [2]);
    });
}

#[test]
fn cond_16_also_if_it_is_cancelled_while_it_waits_for_the_lock() {
    on_every(async || {
        let (condition, log) = (Rc::new(Condition::new(0)), Log::new());
        let first = waiter(&condition, &log, 1);
        let second = waiter(&condition, &log, 2);
        turns(2).await;
        let guard = condition.acquire().await;
        guard.notify(1);
        turns(2).await;
        first.cancel();
        turns(2).await;
        drop(guard);
        second.await.unwrap();
        assert_eq!(log.get(), [2]);
    });
}
