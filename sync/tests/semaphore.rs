//! `Semaphore` and `BoundedSemaphore`, as asyncio's.

mod common;

use std::{rc::Rc, time::Duration};

use common::{Log, on_every, on_sim, turns};
use corio_runtime::{Task, create_task, time};
use corio_sync::{BoundedSemaphore, Semaphore};

/// A task that takes a permit for good, and notes `name`.
fn taker(semaphore: &Rc<Semaphore>, log: &Log<u32>, name: u32) -> Task<()> {
    let (semaphore, log) = (semaphore.clone(), log.clone());
    create_task(async move {
        semaphore.acquire().await.forget();
        log.push(name);
    })
}

#[test]
fn sem_01_sem_09_permits_are_counted() {
    on_every(async || {
        assert!(Semaphore::new(0).locked());
        let semaphore = Semaphore::new(1);
        drop(semaphore.acquire().await);
        assert!(!semaphore.locked());
        assert_eq!(format!("{semaphore:?}"), "<Semaphore [unlocked, value:1]>");
        assert!(semaphore.try_acquire().is_some());
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn sem_03_released_permits_are_handed_over_in_order() {
    on_every(async || {
        let (semaphore, log) = (Rc::new(Semaphore::new(3)), Log::new());
        semaphore.acquire().await.forget();
        semaphore.acquire().await.forget();
        let mut tasks: Vec<_> = (1..4).map(|n| taker(&semaphore, &log, n)).collect();
        turns(2).await;
        assert_eq!((log.get(), semaphore.available()), (vec![1], 0));
        assert_eq!(format!("{semaphore:?}"), "<Semaphore [locked, waiters:2]>");
        tasks.push(taker(&semaphore, &log, 4));
        semaphore.release();
        semaphore.release();
        assert_eq!(semaphore.available(), 0, "handed over, not floating");
        turns(2).await;
        assert_eq!((log.get(), semaphore.available()), (vec![1, 2, 3], 0));
        semaphore.release();
        for task in tasks {
            task.await.unwrap();
        }
        assert!(semaphore.locked());
    });
}

#[test]
fn sem_04_sem_05_sem_12_cancelled_waiters_are_skipped() {
    on_every(async || {
        let (semaphore, log) = (Rc::new(Semaphore::new(0)), Log::new());
        let tasks: Vec<_> = (1..5).map(|n| taker(&semaphore, &log, n)).collect();
        turns(1).await;
        tasks[0].cancel();
        tasks[1].cancel();
        turns(1).await;
        assert_eq!(format!("{semaphore:?}"), "<Semaphore [locked, waiters:2]>");
        semaphore.release();
        turns(2).await;
        assert_eq!(log.get(), [3]);
        semaphore.release();
        turns(2).await;
        assert_eq!(log.get(), [3, 4]);
    });
}

#[test]
fn sem_05_cancelled_before_they_are_woken_in_the_same_turn() {
    on_every(async || {
        let (semaphore, log) = (Rc::new(Semaphore::new(0)), Log::new());
        let tasks: Vec<_> = (1..5).map(|n| taker(&semaphore, &log, n)).collect();
        turns(1).await;
        tasks[0].cancel();
        tasks[1].cancel();
        semaphore.release();
        turns(3).await;
        assert_eq!(log.get(), [3]);
        assert!(semaphore.locked());
    });
}

#[test]
fn sem_06_a_cancel_and_a_release_in_one_turn_lose_no_permit() {
    on_every(async || {
        let (semaphore, log) = (Rc::new(Semaphore::new(1)), Log::new());
        let held = semaphore.acquire().await;
        let first = taker(&semaphore, &log, 1);
        let second = taker(&semaphore, &log, 2);
        turns(1).await;
        first.cancel();
        drop(held);
        second.await.unwrap();
        assert!(semaphore.locked());
    });
}

#[test]
fn sem_07_a_permit_of_a_waiter_cancelled_after_it_was_woken_comes_back() {
    on_every(async || {
        let (semaphore, log) = (Rc::new(Semaphore::new(1)), Log::new());
        let held = semaphore.acquire().await;
        let task = taker(&semaphore, &log, 1);
        turns(1).await;
        drop(held);
        task.cancel();
        let again = time::timeout(Duration::from_secs(1), semaphore.acquire()).await;
        assert!(again.is_ok() && log.get().is_empty());
    });
}

#[test]
fn sem_08_a_bounded_semaphore_refuses_to_grow() {
    on_every(async || {
        let semaphore = BoundedSemaphore::new(1);
        let error = semaphore.release().unwrap_err();
        assert!(error.to_string().contains("released too many times"), "{error}");
        semaphore.acquire().await.forget();
        assert!(semaphore.locked() && semaphore.try_acquire().is_none());
        semaphore.release().unwrap();
        assert_eq!(semaphore.available(), 1);
        let permit = semaphore.acquire().await;
        semaphore.release().unwrap();
        drop(permit);
        assert_eq!(semaphore.available(), 1, "never above the bound");
        assert_eq!(format!("{semaphore:?}"), "<BoundedSemaphore [unlocked, value:1]>");
    });
}

/// Takes and gives back twice.
fn twice(semaphore: &Rc<Semaphore>, log: &Log<String>, name: u32) -> Task<()> {
    let (semaphore, log) = (semaphore.clone(), log.clone());
    create_task(async move {
        for round in 1..3 {
            let permit = semaphore.acquire().await;
            log.push(format!("c{name}_{round}"));
            turns(1).await;
            drop(permit);
        }
    })
}

#[test]
fn sem_10_sem_11_who_comes_again_queues_behind_the_others() {
    on_every(async || {
        let (semaphore, log) = (Rc::new(Semaphore::new(1)), Log::new());
        for task in (1..4).map(|n| twice(&semaphore, &log, n)).collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert_eq!(log.get(), ["c1_1", "c2_1", "c3_1", "c1_2", "c2_2", "c3_2"]);
    });
}

#[test]
fn sem_13_several_releases_serve_those_who_wait_first() {
    on_every(async || {
        let (semaphore, log) = (Rc::new(Semaphore::new(0)), Log::new());
        let waiting = taker(&semaphore, &log, 1);
        let (theirs, names) = (semaphore.clone(), log.clone());
        let releaser = create_task(async move {
            for _ in 0..3 {
                theirs.release();
            }
            assert_eq!(theirs.available(), 2);
            assert!(theirs.locked(), "one is on its way to a waiter");
            theirs.acquire().await.forget();
            names.push(2);
        });
        let late = taker(&semaphore, &log, 3);
        for task in [waiting, releaser, late] {
            task.await.unwrap();
        }
        assert_eq!(log.get(), [1, 2, 3]);
    });
}

#[test]
fn sem_14_a_newcomer_queues_behind_one_who_is_about_to_get_it() {
    on_every(async || {
        let (semaphore, log) = (Rc::new(Semaphore::new(1)), Log::new());
        let held = semaphore.acquire().await;
        let waiter = taker(&semaphore, &log, 1);
        turns(1).await;
        let late = taker(&semaphore, &log, 2);
        drop(held);
        assert!(semaphore.locked() && semaphore.try_acquire().is_none());
        semaphore.release();
        let free = (semaphore.available(), semaphore.locked(), semaphore.try_acquire().is_none());
        assert_eq!(free, (1, true, true), "not even if there is another one");
        waiter.await.unwrap();
        late.await.unwrap();
        assert_eq!(log.get(), [1, 2]);
    });
}

#[test]
fn sem_15_three_at_a_time_in_the_order_of_their_start() {
    on_sim(async || {
        let (semaphore, log) = (Rc::new(Semaphore::new(3)), Log::new());
        let tick = Duration::from_secs(1);
        let start = time::now();
        let jobs: Vec<_> = (0..9)
            .map(|n| {
                let (semaphore, log) = (semaphore.clone(), log.clone());
                create_task(async move {
                    let _permit = semaphore.acquire_owned().await;
                    time::sleep(tick).await;
                    log.push((n, time::now() - start));
                })
            })
            .collect();
        for job in jobs {
            job.await.unwrap();
        }
        let expected: Vec<_> = (0..9).map(|n| (n, tick * (n / 3 + 1))).collect();
        assert_eq!(log.get(), expected);
    });
}

#[test]
fn an_owned_permit_can_be_forgotten() {
    on_every(async || {
        let semaphore = Rc::new(Semaphore::new(2));
        semaphore.clone().acquire_owned().await.forget();
        drop(semaphore.clone().acquire_owned().await);
        assert_eq!((semaphore.available(), Rc::strong_count(&semaphore)), (1, 1));
    });
}
