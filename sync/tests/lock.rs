//! `Lock`, as asyncio's.

mod common;

use std::rc::Rc;

use common::{Log, on_every, turns};
use corio_runtime::{Task, TaskError, create_task};
use corio_sync::{Event, Lock};

/// A task that takes the lock, notes `name`, and keeps it until `release` is set.
fn taker(lock: &Rc<Lock>, log: &Log<u32>, name: u32, release: &Rc<Event>) -> Task<()> {
    let (lock, log, release) = (lock.clone(), log.clone(), release.clone());
    create_task(async move {
        let _guard = lock.acquire().await;
        log.push(name);
        release.wait().await;
    })
}

#[test]
fn lock_01_waiters_get_it_one_by_one_in_order() {
    on_every(async || {
        let (lock, log) = (Rc::new(Lock::new(())), Log::new());
        let guard = lock.acquire().await;
        let releases: Vec<_> = (0..3).map(|_| Rc::new(Event::new())).collect();
        let mut tasks: Vec<_> = (0..2).map(|n| taker(&lock, &log, n, &releases[n as usize])).collect();
        turns(2).await;
        assert!(log.get().is_empty() && lock.locked());
        assert_eq!(format!("{lock:?}"), "<Lock [locked, waiters:2]>");
        drop(guard);
        turns(2).await;
        assert_eq!(log.get(), [0]);
        tasks.push(taker(&lock, &log, 2, &releases[2]));
        turns(2).await;
        assert_eq!(log.get(), [0], "held");
        for (n, task) in tasks.into_iter().enumerate() {
            assert_eq!(log.get(), (0..=n as u32).collect::<Vec<_>>());
            releases[n].set();
            task.await.unwrap();
            turns(2).await;
        }
        assert_eq!(format!("{lock:?}"), "<Lock [unlocked]>");
    });
}

#[test]
fn lock_02_a_cancelled_waiter_leaves_the_queue() {
    on_every(async || {
        let (lock, log) = (Rc::new(Lock::new(())), Log::new());
        let guard = lock.acquire().await;
        let task = taker(&lock, &log, 1, &Rc::default());
        turns(1).await;
        task.cancel();
        assert!(matches!(task.await, Err(TaskError::Cancelled)));
        assert_eq!(format!("{lock:?}"), "<Lock [locked]>");
        let released = Rc::new(Event::new());
        released.set();
        let behind = taker(&lock, &log, 2, &released);
        turns(1).await;
        drop(guard);
        turns(2).await;
        assert!(behind.done() && !lock.locked());
        assert_eq!(log.get(), [2]);
    });
}

#[test]
fn lock_03_a_release_and_a_cancel_in_one_turn_leave_no_waiter_behind() {
    on_every(async || {
        let (lock, log, go) = (Rc::new(Lock::new(())), Log::new(), Rc::new(Event::new()));
        let holder = taker(&lock, &log, 0, &go);
        turns(1).await;
        let cancelled = taker(&lock, &log, 1, &go);
        let last = taker(&lock, &log, 2, &go);
        turns(1).await;
        go.set();
        cancelled.cancel();
        holder.await.unwrap();
        last.await.unwrap();
        assert_eq!(log.get(), [0, 2]);
        assert!(matches!(cancelled.await, Err(TaskError::Cancelled)) && !lock.locked());
    });
}

#[test]
fn lock_04_a_cancel_before_the_release_spares_the_others() {
    on_every(async || {
        let (lock, log, never) = (Rc::new(Lock::new(())), Log::new(), Rc::new(Event::new()));
        let guard = lock.acquire().await;
        let tasks: Vec<_> = (1..4).map(|n| taker(&lock, &log, n, &never)).collect();
        turns(1).await;
        tasks[0].cancel();
        drop(guard);
        turns(3).await;
        assert_eq!(log.get(), [2]);
        assert!(lock.locked());
    });
}

#[test]
fn lock_05_a_waiter_cancelled_after_it_was_woken_passes_the_lock_on() {
    on_every(async || {
        let (lock, log, never) = (Rc::new(Lock::new(())), Log::new(), Rc::new(Event::new()));
        let guard = lock.acquire().await;
        let tasks: Vec<_> = (1..3).map(|n| taker(&lock, &log, n, &never)).collect();
        turns(1).await;
        drop(guard);
        tasks[0].cancel();
        turns(3).await;
        assert_eq!(log.get(), [2]);
        assert!(lock.locked());
    });
}

#[test]
fn lock_07_lock_08_only_the_guard_releases() {
    on_every(async || {
        let mut lock = Lock::new(vec![1]);
        {
            let mut guard = lock.acquire().await;
            guard.push(2);
            assert!(lock.locked() && lock.try_acquire().is_none());
        }
        assert!(!lock.locked());
        assert_eq!(*lock.try_acquire().unwrap(), [1, 2]);
        lock.get_mut().push(3);
        assert_eq!(lock.into_inner(), [1, 2, 3]);
    });
}

#[test]
fn lock_09_a_newcomer_does_not_overtake() {
    on_every(async || {
        let (lock, log, go) = (Rc::new(Lock::new(())), Log::new(), Rc::new(Event::new()));
        go.set();
        let guard = lock.acquire().await;
        let waiter = taker(&lock, &log, 1, &go);
        turns(1).await;
        let late = taker(&lock, &log, 2, &go);
        drop(guard);
        assert!(!lock.locked(), "briefly free, as in asyncio");
        assert!(lock.try_acquire().is_none(), "but not for one who comes now");
        late.await.unwrap();
        waiter.await.unwrap();
        assert_eq!(log.get(), [1, 2]);
    });
}

#[test]
fn lock_10_a_free_lock_is_taken_without_a_turn() {
    on_every(async || {
        let lock = Lock::new(());
        let other = create_task(async {});
        drop(lock.acquire().await);
        assert!(!other.done(), "no other task ran meanwhile");
    });
}

#[test]
fn a_panic_of_the_holder_releases_and_keeps_the_value() {
    on_every(async || {
        let lock = Rc::new(Lock::new(1));
        for owned in [false, true] {
            let theirs = lock.clone();
            let task = create_task(async move {
                if owned {
                    let mut guard = theirs.acquire_owned().await;
                    *guard += 1;
                    panic!("in the middle");
                }
                let mut guard = theirs.acquire().await;
                *guard += 1;
                panic!("in the middle");
            });
            assert!(matches!(task.await, Err(TaskError::Panicked(_))));
        }
        assert_eq!(*lock.acquire().await, 3);
    });
}

#[test]
fn owned_guards_keep_the_order_too() {
    on_every(async || {
        let lock = Rc::new(Lock::new(Vec::new()));
        let first = lock.clone().acquire_owned().await;
        let tasks: Vec<_> = (0..4)
            .map(|n| {
                let lock = lock.clone();
                create_task(async move {
                    if n % 2 == 0 {
                        lock.acquire_owned().await.push(n);
                    } else {
                        lock.acquire().await.push(n);
                    }
                })
            })
            .collect();
        turns(2).await;
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*lock.acquire().await, [0, 1, 2, 3]);
    });
}
