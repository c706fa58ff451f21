//! Queues.

use std::{fmt::Display, rc::Rc};

use corio::{LifoQueue, PriorityQueue, Queue, Task, sleep, time::timeout};

use crate::scenario::{Trace, job, join, ms, result, turns};

scenarios! {
    everywhere: a_queue_between_two, getters_are_served_in_order, a_woken_getter_is_cancelled,
        queue_errors, lifo_and_priority, join_waits_for_the_last;
    simulated: putters_are_served_in_order, a_cancelled_putter, a_woken_putter_is_cancelled,
        a_full_queue_and_timeouts, a_join_is_cancelled, workers_of_a_queue, urgent_items_first;
}

async fn a_queue_between_two(t: Trace) {
    let queue = Rc::new(Queue::new(2));
    let (from, to) = ((t.clone(), queue.clone()), (t.clone(), queue.clone()));
    let producer = job(async move {
        for n in 0..5 {
            assert!(from.1.put(n).await.is_ok());
            from.0.say(format!("put {n}"));
        }
    });
    let consumer = job(async move {
        for _ in 0..5 {
            to.0.say(format!("got {}", to.1.get().await.unwrap()));
        }
    });
    join([producer, consumer]).await;
    t.say(queue.qsize());
}

fn getters<T: Display + 'static>(t: &Trace, queue: &Rc<Queue<T>>, count: u32) -> Vec<Task<&'static str>> {
    let getter = |n| {
        let (t, queue) = (t.clone(), queue.clone());
        job(async move { t.say(format!("{n} got {}", queue.get().await.unwrap())) })
    };
    (0..count).map(getter).collect()
}

async fn getters_are_served_in_order(t: Trace) {
    let queue = Rc::new(Queue::new(0));
    let tasks = getters(&t, &queue, 3);
    turns(1).await;
    (0..3).for_each(|n| queue.put_nowait(n).unwrap());
    join(tasks).await;
}

async fn a_woken_getter_is_cancelled(t: Trace) {
    let queue = Rc::new(Queue::new(0));
    let tasks = getters(&t, &queue, 2);
    turns(1).await;
    queue.put_nowait("x").unwrap();
    tasks[0].cancel();
    for task in tasks {
        t.say(result(task).await);
    }
    t.say(queue.qsize());
}

async fn queue_errors(t: Trace) {
    let queue = Queue::new(1);
    if queue.get_nowait().is_err() {
        t.say("empty");
    }
    queue.put_nowait(1).unwrap();
    if queue.put_nowait(2).is_err() {
        t.say("full");
    }
    queue.task_done().unwrap();
    if queue.task_done().is_err() {
        t.say("too often");
    }
}

async fn lifo_and_priority(t: Trace) {
    let (lifo, priority) = (LifoQueue::new(0), PriorityQueue::new(0));
    for n in [3, 1, 2] {
        lifo.put(n).await.unwrap();
        priority.put(n).await.unwrap();
    }
    t.list([(); 3].map(|()| lifo.get_nowait().unwrap()));
    t.list([(); 3].map(|()| priority.get_nowait().unwrap()));
}

async fn join_waits_for_the_last(t: Trace) {
    let queue = Rc::new(Queue::new(0));
    (0..3).for_each(|n| queue.put_nowait(n).unwrap());
    let (theirs, done) = (queue.clone(), t.clone());
    let task = job(async move {
        while !theirs.empty() {
            let n = theirs.get().await.unwrap();
            turns(1).await;
            done.say(format!("done {n}"));
            theirs.task_done().unwrap();
        }
    });
    queue.join().await;
    t.say("joined");
    join([task]).await;
}

fn putters<const N: u32>(t: &Trace, queue: &Rc<Queue<u32>>) -> Vec<Task<&'static str>> {
    let putter = |n| {
        let (t, queue) = (t.clone(), queue.clone());
        job(async move {
            queue.put(n).await.unwrap();
            t.say(format!("put {n}"));
        })
    };
    (0..N).map(putter).collect()
}

async fn putters_are_served_in_order(t: Trace) {
    let queue = Rc::new(Queue::new(1));
    let _tasks = putters::<4>(&t, &queue);
    turns(2).await;
    for _ in 0..4 {
        t.say(format!("got {}", queue.get().await.unwrap()));
        turns(2).await;
    }
    t.say(queue.empty());
}

async fn a_cancelled_putter(t: Trace) {
    let queue = Rc::new(Queue::new(1));
    let mut tasks = putters::<3>(&t, &queue);
    turns(1).await;
    tasks[1].cancel();
    t.say(result(tasks.remove(1)).await);
    t.say(queue.get().await.unwrap());
    t.say(queue.get().await.unwrap());
    t.say(queue.qsize());
}

async fn a_woken_putter_is_cancelled(t: Trace) {
    let queue = Rc::new(Queue::new(1));
    let tasks = putters::<3>(&t, &queue);
    turns(1).await;
    t.say(queue.get_nowait().unwrap());
    tasks[1].cancel();
    for task in tasks {
        t.say(result(task).await);
    }
    t.say(queue.get_nowait().unwrap());
}

async fn a_full_queue_and_timeouts(t: Trace) {
    let queue = Rc::new(Queue::new(1));
    let (said, items) = (t.clone(), queue.clone());
    let task = job(async move {
        for n in 0..3 {
            match timeout(ms(15), items.put(n)).await {
                Ok(put) => {
                    put.unwrap();
                    said.at(format!("put {n}"));
                }
                Err(_) => said.at(format!("late {n}")),
            }
        }
    });
    for _ in 0..2 {
        sleep(ms(20)).await;
        t.at(format!("got {}", queue.get().await.unwrap()));
    }
    join([task]).await;
}

async fn a_join_is_cancelled(t: Trace) {
    let queue = Rc::new(Queue::new(0));
    queue.put_nowait(1).unwrap();
    let [first, second] = [1, 2].map(|_| {
        let (t, queue) = (t.clone(), queue.clone());
        job(async move {
            let guard = t.guard("join");
            queue.join().await;
            guard.over();
        })
    });
    turns(1).await;
    first.cancel();
    t.say(result(first).await);
    queue.get_nowait().unwrap();
    queue.task_done().unwrap();
    t.say(result(second).await);
}

async fn workers_of_a_queue(t: Trace) {
    let queue = Rc::new(Queue::new(0));
    for n in [30, 10, 20, 25] {
        queue.put_nowait(n).unwrap();
    }
    let workers = ["a", "b"].map(|name| {
        let (t, queue) = (t.clone(), queue.clone());
        job(async move {
            let _guard = t.guard(name);
            loop {
                let n = queue.get().await.unwrap();
                sleep(ms(n)).await;
                t.at(format!("{name} did {n}"));
                queue.task_done().unwrap();
            }
        })
    });
    queue.join().await;
    t.at("joined");
    for worker in &workers {
        worker.cancel();
    }
    for worker in workers {
        t.say(result(worker).await);
    }
}

async fn urgent_items_first(t: Trace) {
    let queue = Rc::new(PriorityQueue::new(2));
    let (said, items) = (t.clone(), queue.clone());
    let task = job(async move {
        for n in [5, 3, 4, 1] {
            items.put(n).await.unwrap();
            said.say(format!("put {n}"));
        }
    });
    turns(1).await;
    for _ in 0..4 {
        t.say(format!("got {}", queue.get().await.unwrap()));
        turns(1).await;
    }
    join([task]).await;
}
