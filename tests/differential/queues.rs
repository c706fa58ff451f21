//! Queues.

use std::{fmt::Display, rc::Rc};

use corio::{LifoQueue, PriorityQueue, Queue, Task};

use crate::scenario::{Trace, job, join, result, turns};

scenarios! {
    everywhere: a_queue_between_two, getters_are_served_in_order, a_woken_getter_is_cancelled, queue_errors, lifo_and_priority, join_waits_for_the_last;
    simulated: ;
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
