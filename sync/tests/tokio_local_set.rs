//! The primitives work without corio's loop: the main scenarios under tokio.

use std::rc::Rc;

use corio_sync::{Barrier, Condition, Event, Lock, Queue, Semaphore, oneshot};
use tokio::task::{LocalSet, spawn_local};

fn local(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn a_lock_is_handed_on_in_order() {
    local(async {
        let lock = Rc::new(Lock::new(Vec::new()));
        let guard = lock.clone().acquire_owned().await;
        let tasks: Vec<_> = (0..5)
            .map(|n| {
                let lock = lock.clone();
                spawn_local(async move { lock.acquire().await.push(n) })
            })
            .collect();
        tokio::task::yield_now().await;
        tasks[1].abort();
        drop(guard);
        for (n, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.is_err(), n == 1);
        }
        assert_eq!(*lock.acquire().await, [0, 2, 3, 4]);
    });
}

#[test]
fn a_queue_loses_nothing_to_timeouts() {
    local(async {
        let queue = Rc::new(Queue::new(3));
        let theirs = queue.clone();
        let producer = spawn_local(async move {
            for n in 0..1000 {
                theirs.put(n).await.unwrap();
                if n % 7 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            theirs.shutdown(false);
        });
        let mut expected = 0;
        loop {
            tokio::select! {
                biased;
                () = tokio::task::yield_now() => {}
                item = queue.get() => match item {
                    Ok(n) => {
                        assert_eq!(n, expected);
                        expected += 1;
                    }
                    Err(_) => break,
                }
            }
        }
        assert_eq!(expected, 1000);
        producer.await.unwrap();
    });
}

#[test]
fn events_conditions_semaphores_barriers_and_oneshots_work() {
    local(async {
        let event = Rc::new(Event::new());
        let condition = Rc::new(Condition::new(0));
        let semaphore = Rc::new(Semaphore::new(1));
        let barrier = Rc::new(Barrier::new(4));
        let tasks: Vec<_> = (0..3)
            .map(|n| {
                let (event, condition) = (event.clone(), condition.clone());
                let (semaphore, barrier) = (semaphore.clone(), barrier.clone());
                spawn_local(async move {
                    event.wait().await;
                    let _permit = semaphore.acquire().await;
                    drop(condition.acquire().await.wait_for(|turn| *turn == n).await);
                    let mut turn = condition.acquire().await;
                    *turn += 1;
                    turn.notify_all();
                    drop(turn);
                    drop(_permit);
                    barrier.wait().await.unwrap()
                })
            })
            .collect();
        event.set();
        assert!(barrier.wait().await.is_ok());
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*condition.acquire().await, 3);
        let (sender, receiver) = oneshot::channel();
        spawn_local(async move { sender.send(1).unwrap() });
        assert_eq!(receiver.await, Ok(1));
    });
}
