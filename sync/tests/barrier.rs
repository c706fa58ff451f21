//! `Barrier`, as asyncio's.

mod common;

use std::rc::Rc;

use common::{Log, on_every, turns};
use corio_runtime::{Task, create_task};
use corio_sync::{Barrier, BrokenBarrier};

type Passed = Result<usize, BrokenBarrier>;

fn party(barrier: &Rc<Barrier>, log: &Log<Passed>) -> Task<Passed> {
    let (barrier, log) = (barrier.clone(), log.clone());
    create_task(async move {
        let passed = barrier.wait().await;
        log.push(passed);
        passed
    })
}

fn parties(n: usize, barrier: &Rc<Barrier>, log: &Log<Passed>) -> Vec<Task<Passed>> {
    (0..n).map(|_| party(barrier, log)).collect()
}

async fn all(tasks: Vec<Task<Passed>>) -> Vec<Passed> {
    let mut passed = Vec::new();
    for task in tasks {
        passed.push(task.await.unwrap());
    }
    passed
}

#[test]
#[should_panic(expected = "at least one party")]
fn bar_01_no_parties_are_refused() {
    let _ = Barrier::new(0);
}

#[test]
fn bar_02_each_gets_its_place() {
    on_every(async || {
        let (barrier, log) = (Rc::new(Barrier::new(3)), Log::new());
        assert_eq!(all(parties(3, &barrier, &log)).await, [Ok(0), Ok(1), Ok(2)]);
        assert_eq!((barrier.n_waiting(), barrier.broken(), barrier.parties()), (0, false, 3));
        assert_eq!(log.get(), [Ok(2), Ok(0), Ok(1)], "the last one goes on at once");
    });
}

#[test]
fn bar_03_bar_04_one_party_never_waits() {
    on_every(async || {
        let barrier = Barrier::new(1);
        let other = create_task(async {});
        assert_eq!((barrier.wait().await, barrier.wait().await), (Ok(0), Ok(0)));
        assert!(!other.done());
    });
}

#[test]
fn bar_05_bar_20_it_shows_how_many_wait() {
    on_every(async || {
        let (barrier, log) = (Rc::new(Barrier::new(3)), Log::new());
        let mut tasks = Vec::new();
        for n in 0..2 {
            assert_eq!(format!("{barrier:?}"), format!("<Barrier [filling, waiters:{n}/3]>"));
            tasks.push(party(&barrier, &log));
            turns(1).await;
            assert_eq!(barrier.n_waiting(), n + 1);
        }
        assert_eq!(barrier.wait().await, Ok(2));
        assert_eq!(format!("{barrier:?}"), "<Barrier [draining, waiters:0/3]>");
        assert_eq!(all(tasks).await, [Ok(0), Ok(1)]);
        assert_eq!(barrier.n_waiting(), 0);
    });
}

#[test]
fn bar_06_bar_07_rounds_follow_each_other() {
    on_every(async || {
        let barrier = Rc::new(Barrier::new(5));
        let tasks: Vec<_> = (0..5)
            .map(|_| {
                let barrier = barrier.clone();
                create_task(async move { (barrier.wait().await.unwrap(), barrier.wait().await.unwrap()) })
            })
            .collect();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for task in tasks {
            let (a, b) = task.await.unwrap();
            first.push(a);
            second.push(b);
        }
        first.sort_unstable();
        second.sort_unstable();
        assert_eq!((first, second), ((0..5).collect(), (0..5).collect()));
    });
}

#[test]
fn bar_08_all_but_the_last_to_leave_see_it_draining() {
    on_every(async || {
        let (barrier, log) = (Rc::new(Barrier::new(3)), Log::new());
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let (barrier, log) = (barrier.clone(), log.clone());
                create_task(async move {
                    barrier.wait().await.unwrap();
                    log.push(format!("{barrier:?}").contains("draining"));
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(log.get(), [true, true, false]);
    });
}

#[test]
fn bar_09_who_comes_while_others_leave_joins_the_next_round() {
    on_every(async || {
        let (barrier, log) = (Rc::new(Barrier::new(2)), Log::new());
        let first = party(&barrier, &log);
        turns(1).await;
        assert_eq!(barrier.wait().await, Ok(1));
        // One is still inside.
        let early = party(&barrier, &log);
        let ours = barrier.wait().await;
        assert!(first.done(), "not before everybody had left");
        let mut round = vec![ours.unwrap(), early.await.unwrap().unwrap()];
        round.sort_unstable();
        assert_eq!((first.await.unwrap(), round), (Ok(0), vec![0, 1]));
    });
}

#[test]
fn bar_10_a_cancelled_party_leaves_the_round() {
    on_every(async || {
        let (barrier, log) = (Rc::new(Barrier::new(4)), Log::new());
        let mut tasks = parties(2, &barrier, &log);
        turns(1).await;
        tasks.remove(0).cancel();
        turns(1).await;
        assert_eq!(barrier.n_waiting(), 1);
        tasks.extend(parties(3, &barrier, &log));
        assert_eq!(all(tasks).await.len(), 4);
        assert!(!barrier.broken());
    });
}

#[test]
fn bar_11_bar_12_bar_14_a_reset_breaks_those_inside_only() {
    on_every(async || {
        let (barrier, log) = (Rc::new(Barrier::new(3)), Log::new());
        barrier.reset();
        let tasks = parties(2, &barrier, &log);
        turns(1).await;
        barrier.reset();
        assert_eq!(format!("{barrier:?}"), "<Barrier [resetting, waiters:0/3]>");
        let again = party(&barrier, &log);
        assert!(all(tasks).await.iter().all(Result::is_err));
        let mut round = vec![again];
        round.extend(parties(2, &barrier, &log));
        assert_eq!(all(round).await, [Ok(0), Ok(1), Ok(2)]);
        assert!(!barrier.broken());
    });
}

#[test]
fn bar_13_bar_15_a_reset_while_a_round_leaves_breaks_who_has_not_left() {
    on_every(async || {
        let (barrier, log) = (Rc::new(Barrier::new(5)), Log::new());
        let resetting = (barrier.clone(), log.clone());
        let mut tasks = parties(2, &barrier, &log);
        tasks.push(create_task(async move {
            let passed = resetting.0.wait().await;
            resetting.0.reset();
            resetting.1.push(passed);
            passed
        }));
        tasks.extend(parties(2, &barrier, &log));
        let passed = all(tasks).await;
        assert_eq!(passed[..3], [Ok(0), Ok(1), Ok(2)]);
        assert!(passed[3].is_err() && passed[4] == Ok(4));
        barrier.reset();
        assert_eq!(all(parties(5, &barrier, &log)).await.iter().filter(|p| p.is_ok()).count(), 5);
    });
}

#[test]
fn bar_16_bar_19_an_aborted_barrier_is_broken_until_it_is_reset() {
    on_every(async || {
        let (barrier, log) = (Rc::new(Barrier::new(3)), Log::new());
        let tasks = parties(2, &barrier, &log);
        turns(1).await;
        barrier.abort();
        assert!(barrier.broken() && barrier.wait().await.is_err());
        assert!(all(tasks).await.iter().all(Result::is_err));
        assert_eq!(format!("{barrier:?}"), "<Barrier [broken]>");
        barrier.reset();
        assert_eq!(all(parties(3, &barrier, &log)).await, [Ok(0), Ok(1), Ok(2)]);
    });
}

#[test]
fn bar_17_an_abort_while_a_round_leaves_spares_those_who_left() {
    on_every(async || {
        let (barrier, log) = (Rc::new(Barrier::new(3)), Log::new());
        let aborting = barrier.clone();
        let first = create_task(async move {
            let passed = aborting.wait().await;
            aborting.abort();
            passed
        });
        let mut tasks = vec![first];
        tasks.extend(parties(2, &barrier, &log));
        let passed = all(tasks).await;
        assert_eq!((passed[0], passed[2]), (Ok(0), Ok(2)));
        assert!(passed[1].is_err() && barrier.broken() && barrier.wait().await.is_err());
    });
}

#[test]
fn bar_18_one_who_fails_between_two_rounds_breaks_the_second_for_all() {
    on_every(async || {
        let barrier = Rc::new(Barrier::new(5));
        let tasks: Vec<_> = (0..5)
            .map(|_| {
                let barrier = barrier.clone();
                create_task(async move {
                    if barrier.wait().await.unwrap() == 2 {
                        barrier.abort();
                        return None;
                    }
                    Some(barrier.wait().await)
                })
            })
            .collect();
        let mut broken = 0;
        for task in tasks {
            // A round that is still leaving is broken too.
            match task.await {
                Ok(Some(Ok(_))) => panic!("nobody passes twice"),
                Ok(Some(Err(_))) | Err(_) => broken += 1,
                Ok(None) => {}
            }
        }
        assert_eq!(broken, 4);
        assert!(barrier.broken());
    });
}
