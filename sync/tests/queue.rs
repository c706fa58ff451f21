//! The queues, as asyncio's.

mod common;

use std::{cell::Cell, rc::Rc, time::Duration};

use common::{Log, on_every, turns};
use corio_runtime::{Task, TaskError, create_task, time};
use corio_sync::{GetError, LifoQueue, PriorityQueue, PutError, Queue, QueueShutDown};

fn getter(queue: &Rc<Queue<u32>>, log: &Log<u32>) -> Task<Result<u32, QueueShutDown>> {
    let (queue, log) = (queue.clone(), log.clone());
    create_task(async move {
        let item = queue.get().await;
        log.push(item.unwrap_or(0));
        item
    })
}

fn putter(queue: &Rc<Queue<u32>>, item: u32) -> Task<Result<(), PutError<u32>>> {
    let queue = queue.clone();
    create_task(async move { queue.put(item).await })
}

#[test]
fn q_01_empty_and_full_follow_the_contents() {
    on_every(async || {
        let queue = Queue::new(1);
        assert!(queue.empty() && !queue.full() && queue.maxsize() == 1);
        queue.put(1).await.unwrap();
        assert!(!queue.empty() && queue.full() && queue.qsize() == 1);
        let endless = Queue::new(0);
        (0..1000).for_each(|n| endless.put_nowait(n).unwrap());
        assert!(!endless.full());
    });
}

#[test]
fn q_02_q_21_q_22_each_queue_has_its_order() {
    let (queue, lifo, priority) = (Queue::new(0), LifoQueue::new(0), PriorityQueue::new(0));
    for n in [1, 3, 2] {
        queue.put_nowait(n).unwrap();
        lifo.put_nowait(n).unwrap();
        priority.put_nowait((n, 'z')).unwrap();
        priority.put_nowait((n, 'a')).unwrap();
    }
    assert_eq!([(); 3].map(|()| queue.get_nowait().unwrap()), [1, 3, 2]);
    assert_eq!([(); 3].map(|()| lifo.get_nowait().unwrap()), [2, 3, 1]);
    let sorted = [(1, 'a'), (1, 'z'), (2, 'a'), (2, 'z'), (3, 'a'), (3, 'z')];
    assert_eq!([(); 6].map(|()| priority.get_nowait().unwrap()), sorted);
}

#[test]
fn q_03_q_19_a_putter_waits_for_room() {
    on_every(async || {
        let queue = Rc::new(Queue::new(2));
        let theirs = queue.clone();
        let task = create_task(async move {
            for n in 0..3 {
                theirs.put(n).await.unwrap();
            }
        });
        turns(3).await;
        assert!(!task.done() && queue.full());
        assert_eq!(queue.get().await, Ok(0));
        turns(1).await;
        assert!(task.done() && queue.qsize() == 2);
    });
}

#[test]
fn q_04_q_15_a_getter_waits_for_an_item() {
    on_every(async || {
        let (queue, log) = (Rc::new(Queue::new(0)), Log::new());
        let task = getter(&queue, &log);
        time::sleep(Duration::from_millis(1)).await;
        assert!(!task.done());
        queue.put_nowait(1).unwrap();
        assert_eq!(task.await.unwrap(), Ok(1));
    });
}

#[test]
fn q_05_q_06_nowait_says_why_not() {
    let queue = Queue::new(1);
    assert_eq!(queue.get_nowait(), Err(GetError::Empty));
    queue.put_nowait(1).unwrap();
    assert_eq!(queue.put_nowait(2), Err(PutError::Full(2)));
    assert_eq!(queue.get_nowait(), Ok(1));
    let error: std::io::Error = PutError::Full(2).into();
    assert_eq!(error.to_string(), "the queue is full");
}

#[test]
fn q_07_q_10_a_cancelled_getter_leaves_the_queue() {
    on_every(async || {
        let (queue, log) = (Rc::new(Queue::new(0)), Log::new());
        let first = getter(&queue, &log);
        let second = getter(&queue, &log);
        turns(1).await;
        first.cancel();
        turns(1).await;
        queue.put(7).await.unwrap();
        assert_eq!(second.await.unwrap(), Ok(7));
        assert!(time::timeout(Duration::from_millis(1), queue.get()).await.is_err());
        assert_eq!(format!("{queue:?}"), "<Queue maxsize=0 [] tasks=1>");
    });
}

#[test]
fn q_08_q_16_waiting_putters_are_served_in_order() {
    on_every(async || {
        let queue = Rc::new(Queue::new(1));
        let putters: Vec<_> = (0..4).map(|n| putter(&queue, n)).collect();
        turns(1).await;
        for n in 0..4 {
            assert_eq!(queue.get().await, Ok(n));
        }
        for putter in putters {
            putter.await.unwrap().unwrap();
        }
    });
}

#[test]
fn q_09_producer_and_consumer_over_one_place_finish() {
    on_every(async || {
        let queue = Rc::new(Queue::new(1));
        let theirs = queue.clone();
        let producer = create_task(async move {
            for n in 0..5 {
                theirs.put(n).await.unwrap();
            }
        });
        for n in 0..5 {
            assert_eq!(queue.get().await, Ok(n));
        }
        producer.await.unwrap();
    });
}

#[test]
fn q_11_an_item_of_a_getter_cancelled_after_it_was_woken_is_the_next_one() {
    on_every(async || {
        let (queue, log) = (Rc::new(Queue::new(0)), Log::new());
        let reader = getter(&queue, &log);
        turns(1).await;
        queue.put_nowait(1).unwrap();
        queue.put_nowait(2).unwrap();
        reader.cancel();
        assert!(matches!(reader.await, Err(TaskError::Cancelled)));
        assert_eq!((queue.get().await, queue.get().await), (Ok(1), Ok(2)));
    });
}

#[test]
fn q_12_it_goes_to_the_getters_behind() {
    on_every(async || {
        let (queue, log) = (Rc::new(Queue::new(0)), Log::new());
        let readers: Vec<_> = (0..3).map(|_| getter(&queue, &log)).collect();
        turns(1).await;
        queue.put_nowait(1).unwrap();
        queue.put_nowait(2).unwrap();
        readers[0].cancel();
        turns(3).await;
        assert_eq!(log.get(), [1, 2]);
        assert!(queue.empty());
    });
}

#[test]
fn q_13_a_put_cancelled_after_it_was_woken_put_nothing() {
    on_every(async || {
        let queue = Rc::new(Queue::new(1));
        queue.put_nowait(1).unwrap();
        let blocked = putter(&queue, 2);
        turns(1).await;
        assert_eq!(queue.get_nowait(), Ok(1));
        blocked.cancel();
        assert!(matches!(blocked.await, Err(TaskError::Cancelled)));
        queue.put(2).await.unwrap();
        assert_eq!((queue.get().await, queue.qsize()), (Ok(2), 0));
    });
}

#[test]
fn q_14_q_17_q_18_a_cancelled_put_does_not_hold_up_the_others() {
    on_every(async || {
        let queue = Rc::new(Queue::new(1));
        let (a, b, x) = (putter(&queue, 1), putter(&queue, 2), putter(&queue, 9));
        turns(1).await;
        x.cancel();
        turns(1).await;
        assert_eq!(format!("{queue:?}"), "<Queue maxsize=1 [1] putters[1] tasks=1>");
        assert_eq!((queue.get().await, queue.get().await), (Ok(1), Ok(2)));
        a.await.unwrap().unwrap();
        b.await.unwrap().unwrap();
        assert!(matches!(x.await, Err(TaskError::Cancelled)));
    });
}

#[test]
fn q_23_done_too_often_is_an_error() {
    let queue = Queue::<u32>::new(0);
    assert_eq!(queue.task_done().unwrap_err().to_string(), "task_done() called too many times");
}

#[test]
fn q_24_join_returns_when_everything_is_done() {
    on_every(async || {
        let (queue, sum) = (Rc::new(Queue::new(0)), Rc::new(Cell::new(0)));
        for n in 0..100u32 {
            queue.put_nowait(n).unwrap();
        }
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let (queue, sum) = (queue.clone(), sum.clone());
                create_task(async move {
                    while let Ok(n) = queue.get().await {
                        turns(1).await;
                        sum.set(sum.get() + n);
                        queue.task_done().unwrap();
                    }
                })
            })
            .collect();
        queue.join().await;
        assert_eq!(sum.get(), 4950);
        queue.shutdown(false);
        for worker in workers {
            worker.await.unwrap();
        }
        let queue = Rc::new(Queue::new(0));
        (1..=2).for_each(|n| queue.put_nowait(n).unwrap());
        let theirs = queue.clone();
        let joiner = create_task(async move { theirs.join().await });
        for left in [1, 0] {
            queue.get_nowait().unwrap();
            queue.task_done().unwrap();
            turns(2).await;
            assert_eq!(joiner.done(), left == 0, "{left} left");
        }
    });
}

#[test]
fn q_25_join_of_an_empty_queue_returns_at_once() {
    on_every(async || {
        let queue = Queue::<u32>::new(0);
        let other = create_task(async {});
        queue.join().await;
        queue.join().await;
        assert!(!other.done());
    });
}

#[test]
fn q_26_debug_shows_the_state() {
    on_every(async || {
        let (queue, log) = (Rc::new(Queue::new(3)), Log::new());
        let _getter = getter(&queue, &log);
        turns(1).await;
        assert_eq!(format!("{queue:?}"), "<Queue maxsize=3 [] getters[1]>");
        let lifo = LifoQueue::new(0);
        lifo.put_nowait(5).unwrap();
        lifo.shutdown(false);
        assert_eq!(format!("{lifo:?}"), "<LifoQueue maxsize=0 [5] tasks=1 shutdown>");
        let priority = PriorityQueue::new(0);
        priority.put_nowait(5).unwrap();
        assert_eq!(format!("{priority:?}"), "<PriorityQueue maxsize=0 [5] tasks=1>");
    });
}

#[test]
fn q_27_a_shutdown_wakes_those_who_wait_and_ends_everything() {
    on_every(async || {
        let (queue, log) = (Rc::new(Queue::new(0)), Log::new());
        let getters = [getter(&queue, &log), getter(&queue, &log)];
        turns(1).await;
        queue.shutdown(false);
        turns(1).await;
        for getter in getters {
            assert!(getter.done() && getter.await.unwrap().is_err());
        }
        queue.join().await;
        assert_eq!(queue.put(1).await, Err(PutError::ShutDown(1)));
        assert_eq!(queue.put_nowait(1), Err(PutError::ShutDown(1)));
        assert!(queue.get().await.is_err());
        assert_eq!(queue.get_nowait(), Err(GetError::ShutDown));
    });
}

#[test]
fn q_28_what_is_in_a_queue_that_is_shut_down_can_still_be_got() {
    on_every(async || {
        let queue = Rc::new(Queue::new(1));
        queue.put_nowait(1).unwrap();
        let blocked = [putter(&queue, 2), putter(&queue, 2)];
        turns(1).await;
        queue.shutdown(false);
        turns(1).await;
        for blocked in blocked {
            assert!(blocked.done() && blocked.await.unwrap() == Err(PutError::ShutDown(2)));
        }
        assert_eq!(queue.get().await, Ok(1));
        assert!(queue.get().await.is_err());
        queue.task_done().unwrap();
        queue.join().await;
        assert!(queue.task_done().is_err());
    });
}

#[test]
fn q_29_an_immediate_shutdown_drops_what_is_left() {
    on_every(async || {
        let queue = Rc::new(Queue::new(0));
        queue.put_nowait(1).unwrap();
        let theirs = queue.clone();
        let join = create_task(async move { theirs.join().await });
        turns(1).await;
        queue.shutdown(true);
        join.await.unwrap();
        assert_eq!(queue.qsize(), 0);
        assert_eq!(queue.get_nowait(), Err(GetError::ShutDown));
        assert!(queue.get().await.is_err());
        assert_eq!(queue.put_nowait(2), Err(PutError::ShutDown(2)));
        assert_eq!(queue.put(3).await, Err(PutError::ShutDown(3)));
        assert!(queue.task_done().is_err());
        assert_eq!(queue.qsize(), 0);
    });
}

#[test]
fn q_30_an_immediate_shutdown_waits_for_what_is_in_work() {
    on_every(async || {
        let queue = Rc::new(Queue::new(0));
        queue.put_nowait(1).unwrap();
        queue.put_nowait(2).unwrap();
        assert_eq!(queue.get().await, Ok(1));
        let theirs = queue.clone();
        let join = create_task(async move { theirs.join().await });
        queue.shutdown(true);
        turns(2).await;
        assert!(!join.done(), "one is in work");
        queue.task_done().unwrap();
        join.await.unwrap();
    });
}

#[test]
fn q_31_room_granted_to_a_waiting_putter_is_not_taken_by_another() {
    on_every(async || {
        let queue = Rc::new(Queue::new(1));
        queue.put_nowait(1).unwrap();
        let waiting = putter(&queue, 2);
        turns(1).await;
        assert_eq!(queue.get_nowait(), Ok(1));
        assert_eq!(queue.put_nowait(3), Err(PutError::Full(3)));
        waiting.await.unwrap().unwrap();
        assert_eq!(queue.get_nowait(), Ok(2));
    });
}

#[test]
fn an_item_granted_to_a_waiting_getter_is_not_taken_by_another() {
    on_every(async || {
        let (queue, log) = (Rc::new(Queue::new(0)), Log::new());
        let first = getter(&queue, &log);
        turns(1).await;
        queue.put_nowait(1).unwrap();
        assert_eq!(queue.get_nowait(), Err(GetError::Empty));
        let late = getter(&queue, &log);
        queue.put_nowait(2).unwrap();
        assert_eq!((first.await.unwrap(), late.await.unwrap()), (Ok(1), Ok(2)));
    });
}
