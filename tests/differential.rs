//! The same scenarios in CPython and in corio, on every kernel, must give equal traces. `differential/scenarios.py` has
//! CPython's half.
#![forbid(unsafe_code)]

#[path = "differential/programs/mod.rs"]
mod programs;
#[path = "../runtime/tests/common/shared.rs"]
mod shared;

use std::{
    cell::{Cell, RefCell},
    fmt::Display,
    future::{Future, pending},
    pin::Pin,
    process::Command,
    rc::Rc,
    time::Duration,
};

use corio::{
    Barrier, BoundedSemaphore, Condition, Event, LifoQueue, Lock, PriorityQueue, Queue, ReturnWhen,
    Semaphore, Task, TaskGroupError, create_task,
    event_loop::{call_soon, create_future},
    gather, shield, sleep, task_group,
    time::timeout,
    wait, wait_for, yield_now,
};
use shared::{kernels, on};

/// What a scenario prints.
#[derive(Clone, Default)]
struct Trace(Rc<RefCell<Vec<String>>>);

impl Trace {
    fn say(&self, line: impl Display) {
        self.0.borrow_mut().push(line.to_string());
    }

    fn list<T: Display>(&self, items: impl IntoIterator<Item = T>) {
        let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
        self.say(format!("[{}]", items.join(", ")));
    }
}

type Scenario = fn(Trace) -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        const SCENARIOS: &[(&str, Scenario)] = &[$((stringify!($name), |t| Box::pin($name(t)))),*];
    };
}

scenarios! {
    tasks_start_in_order, a_child_of_a_child_comes_last, callbacks_and_tasks_share_the_queue,
    a_callback_of_a_callback_waits_a_turn, a_cancelled_callback_does_not_run, cancel_before_the_first_step,
    cancel_while_waiting, a_done_task_cannot_be_cancelled, done_callbacks_come_in_order,
    gather_keeps_the_order_of_the_arguments, gather_of_what_is_ready, shield_outlives_its_waiter,
    wait_for_the_first, wait_for_all, locks_are_handed_on_in_order, a_cancelled_waiter_of_a_lock,
    a_woken_waiter_of_a_lock_is_cancelled, an_event_wakes_all_in_order, a_semaphore_of_two,
    a_released_permit_is_handed_over, a_bounded_semaphore_refuses, a_condition_lets_them_go_one_by_one,
    a_condition_with_a_predicate, a_barrier_of_three, a_queue_between_two, getters_are_served_in_order,
    a_woken_getter_is_cancelled, queue_errors, lifo_and_priority, join_waits_for_the_last,
    a_group_waits_for_all, a_group_fails_with_its_first_child, a_future_is_set_once,
    a_timeout_that_is_not_needed, timeouts_in_timeouts, sleeps_end_in_their_order,
}

#[test]
fn traces_equal_those_of_cpython() {
    if python().is_none() {
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/differential/scenarios.py");
    let output = Command::new("python3").arg(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut theirs = text.split("== ").skip(1);
    for (name, scenario) in SCENARIOS {
        let (title, lines) = theirs.next().unwrap().split_once('\n').unwrap();
        assert_eq!(title, *name, "the scenarios are in the same order on both sides");
        for backend in kernels() {
            let trace = Trace::default();
            on(backend).run(scenario(trace.clone()));
            assert_eq!(trace.0.borrow().join("\n"), lines.trim_end(), "{name} on {backend:?}");
        }
    }
    assert_eq!(theirs.next(), None, "a scenario is missing here");
}

/// The version of the installed CPython; `None`, said aloud, if it is older than 3.11.
fn python() -> Option<String> {
    let ask =
        "import asyncio, platform; asyncio.Barrier, asyncio.TaskGroup; print(platform.python_version())";
    let asked =
        Command::new("python3").args(["-c", ask]).output().ok().filter(|output| output.status.success());
    match asked {
        Some(output) => Some(String::from_utf8(output.stdout).unwrap().trim().to_owned()),
        None => {
            eprintln!("SKIPPED: comparing with CPython needs python3, 3.11 or newer");
            None
        }
    }
}

async fn turns(n: usize) {
    for _ in 0..n {
        yield_now().await;
    }
}

async fn result<T: Display + 'static>(task: Task<T>) -> String {
    task.await.map_or_else(|_| "cancelled".to_owned(), |value| value.to_string())
}

/// A task whose value Python would call None.
fn job(future: impl Future<Output = ()> + 'static) -> Task<&'static str> {
    create_task(async move {
        future.await;
        "None"
    })
}

async fn join<T: 'static>(tasks: impl IntoIterator<Item = Task<T>>) {
    for task in tasks {
        assert!(task.await.is_ok());
    }
}

async fn tasks_start_in_order(t: Trace) {
    let tasks: Vec<_> = (0..3)
        .map(|n| {
            let t = t.clone();
            job(async move {
                t.say(format!("start {n}"));
                turns(1).await;
                t.say(format!("end {n}"));
            })
        })
        .collect();
    t.say("created");
    join(tasks).await;
}

async fn a_child_of_a_child_comes_last(t: Trace) {
    let (child, other) = (t.clone(), t.clone());
    let a = job(async move {
        child.say("child");
        let grand = child.clone();
        let task = job(async move { grand.say("grandchild") });
        turns(1).await;
        child.say("child again");
        join([task]).await;
    });
    join([a, job(async move { other.say("other") })]).await;
}

async fn callbacks_and_tasks_share_the_queue(t: Trace) {
    let (one, two, three) = (t.clone(), t.clone(), t.clone());
    call_soon(move || one.say("callback 1"));
    let task = job(async move { two.say("task") });
    call_soon(move || three.say("callback 2"));
    join([task]).await;
    t.say("main");
}

async fn a_callback_of_a_callback_waits_a_turn(t: Trace) {
    let (first, second) = (t.clone(), t.clone());
    call_soon(move || {
        first.say("first");
        call_soon(move || first.say("inner"));
    });
    call_soon(move || second.say("second"));
    turns(3).await;
    t.say("main");
}

async fn a_cancelled_callback_does_not_run(t: Trace) {
    let never = t.clone();
    call_soon(move || t.say("runs"));
    call_soon(move || never.say("never")).cancel();
    turns(2).await;
}

async fn cancel_before_the_first_step(t: Trace) {
    let never = t.clone();
    let mut task = job(async move { never.say("never") });
    t.say(task.cancel());
    t.say(if (&mut task).await.is_err() { "cancelled" } else { "None" });
    t.say(task.cancel());
}

async fn cancel_while_waiting(t: Trace) {
    let begun = t.clone();
    let mut task = job(async move {
        begun.say("begun");
        pending::<()>().await;
        begun.say("never");
    });
    turns(2).await;
    task.cancel();
    t.say(task.done());
    t.say(if (&mut task).await.is_err() { "cancelled" } else { "None" });
    t.say(task.cancelled());
}

async fn a_done_task_cannot_be_cancelled(t: Trace) {
    let task = create_task(async { 7 });
    turns(2).await;
    t.say(task.cancel());
    t.say(result(task).await);
}

async fn done_callbacks_come_in_order(t: Trace) {
    let (body, one, two) = (t.clone(), t.clone(), t.clone());
    let task = job(async move { body.say("job") });
    task.add_done_callback(move |_| one.say("callback 1"));
    task.add_done_callback(move |_| two.say("callback 2"));
    turns(4).await;
    t.say("main");
}

async fn gather_keeps_the_order_of_the_arguments(t: Trace) {
    let job = |n, value: u32| {
        let t = t.clone();
        async move {
            turns(n).await;
            t.say(format!("end {value}"));
            value
        }
    };
    t.list(gather([job(3, 1), job(1, 2), job(2, 3)]).await);
}

async fn gather_of_what_is_ready(t: Trace) {
    t.list(gather([1, 2].map(async |value| value)).await);
}

async fn shield_outlives_its_waiter(t: Trace) {
    let (ended, (tell, told)) = (t.clone(), create_future());
    let inner = job(async move {
        turns(4).await;
        ended.say("inner ended");
        assert!(tell.set_result(()).is_ok());
    });
    let waiter = create_task(async move {
        drop(shield(inner).await);
        "never"
    });
    turns(2).await;
    waiter.cancel();
    t.say(result(waiter).await);
    assert!(told.await.is_ok());
}

async fn wait_for_the_first(t: Trace) {
    let tasks = [5, 1, 9].map(|n| job(turns(n)));
    let (done, pending) = wait(tasks.into(), ReturnWhen::FirstCompleted, None).await;
    t.say(done.len());
    t.say(pending.len());
    // In the order in which they were given.
    t.list([pending[0].done(), done[0].done(), pending[1].done()]);
}

async fn wait_for_all(t: Trace) {
    let tasks = [3, 1, 2].map(|n| {
        let t = t.clone();
        job(async move {
            turns(n).await;
            t.say(n);
        })
    });
    let (done, pending) = wait(tasks.into(), ReturnWhen::AllCompleted, None).await;
    t.say(done.len());
    t.say(pending.len());
}

async fn locks_are_handed_on_in_order(t: Trace) {
    let lock = Rc::new(Lock::new(()));
    let tasks: Vec<_> = (0..3)
        .map(|n| {
            let (t, lock) = (t.clone(), lock.clone());
            job(async move {
                let guard = lock.acquire().await;
                t.say(format!("{n} has it"));
                turns(1).await;
                drop(guard);
                t.say(format!("{n} gave it back"));
            })
        })
        .collect();
    join(tasks).await;
    t.say(lock.locked());
}

/// Three tasks that want the lock, and say so when they have it.
fn lockers(t: &Trace, lock: &Rc<Lock>) -> Vec<Task<&'static str>> {
    let locker = |n| {
        let (t, lock) = (t.clone(), lock.clone());
        job(async move {
            let _guard = lock.acquire().await;
            t.say(format!("{n} has it"));
        })
    };
    (0..3).map(locker).collect()
}

async fn a_cancelled_waiter_of_a_lock(t: Trace) {
    let lock = Rc::new(Lock::new(()));
    let guard = lock.acquire().await;
    let tasks = lockers(&t, &lock);
    turns(1).await;
    tasks[0].cancel();
    drop(guard);
    for task in tasks {
        t.say(result(task).await);
    }
}

async fn a_woken_waiter_of_a_lock_is_cancelled(t: Trace) {
    let lock = Rc::new(Lock::new(()));
    let guard = lock.acquire().await;
    let tasks = lockers(&t, &lock);
    turns(1).await;
    drop(guard);
    tasks[0].cancel();
    for task in tasks {
        t.say(result(task).await);
    }
}

async fn an_event_wakes_all_in_order(t: Trace) {
    let event = Rc::new(Event::new());
    let waiter = |n| {
        let (t, event) = (t.clone(), event.clone());
        job(async move {
            event.wait().await;
            t.say(n);
        })
    };
    let tasks: Vec<_> = (0..3).map(waiter).collect();
    turns(1).await;
    let late = waiter(9);
    event.set();
    event.clear();
    turns(2).await;
    t.list(tasks.iter().map(Task::done));
    t.say(late.done());
    event.set();
    join([late]).await;
}

async fn a_semaphore_of_two(t: Trace) {
    let semaphore = Rc::new(Semaphore::new(2));
    let tasks: Vec<_> = (0..5)
        .map(|n| {
            let (t, semaphore) = (t.clone(), semaphore.clone());
            job(async move {
                let permit = semaphore.acquire().await;
                t.say(format!("{n} in"));
                turns(2).await;
                t.say(format!("{n} out"));
                drop(permit);
            })
        })
        .collect();
    join(tasks).await;
    t.say(semaphore.locked());
}

async fn a_released_permit_is_handed_over(t: Trace) {
    let semaphore = Rc::new(Semaphore::new(0));
    let mut tasks: Vec<_> = (0..3)
        .map(|n| {
            let (t, semaphore) = (t.clone(), semaphore.clone());
            job(async move {
                semaphore.acquire().await.forget();
                t.say(n);
            })
        })
        .collect();
    turns(1).await;
    semaphore.release();
    t.say(semaphore.locked());
    semaphore.release();
    turns(2).await;
    t.list(tasks.iter().map(Task::done));
    semaphore.release();
    join(tasks.pop()).await;
}

async fn a_bounded_semaphore_refuses(t: Trace) {
    t.say(if BoundedSemaphore::new(1).release().is_ok() { "released" } else { "refused" });
}

async fn a_condition_lets_them_go_one_by_one(t: Trace) {
    let condition = Rc::new(Condition::new(()));
    let mut tasks: Vec<_> = (0..3)
        .map(|n| {
            let (t, condition) = (t.clone(), condition.clone());
            job(async move {
                let guard = condition.acquire().await.wait().await;
                t.say(format!("{n} woken"));
                turns(1).await;
                drop(guard);
                t.say(format!("{n} left"));
            })
        })
        .collect();
    turns(1).await;
    {
        let guard = condition.acquire().await;
        guard.notify(2);
        t.say("notified");
    }
    turns(6).await;
    t.list(tasks.iter().map(Task::done));
    condition.acquire().await.notify_all();
    join(tasks.pop()).await;
}

async fn a_condition_with_a_predicate(t: Trace) {
    let condition = Rc::new(Condition::new(0));
    let (theirs, said) = (condition.clone(), t.clone());
    let task = job(async move {
        let state = theirs.acquire().await.wait_for(|state| *state >= 2).await;
        said.say(*state);
    });
    for n in [1, 2] {
        turns(3).await;
        t.say(task.done());
        let mut state = condition.acquire().await;
        *state = n;
        state.notify(1);
    }
    join([task]).await;
}

async fn a_barrier_of_three(t: Trace) {
    let barrier = Rc::new(Barrier::new(3));
    let tasks: Vec<_> = (0..3)
        .map(|n| {
            let (t, barrier) = (t.clone(), barrier.clone());
            job(async move {
                if let Ok(place) = barrier.wait().await {
                    t.say(format!("{n} at {place}"));
                }
            })
        })
        .collect();
    join(tasks).await;
    t.say(barrier.n_waiting());
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

async fn a_group_waits_for_all(t: Trace) {
    let ended: Result<(), TaskGroupError<()>> = task_group(async |group| {
        for n in [3, 1, 2] {
            let t = t.clone();
            drop(group.create_task(async move {
                turns(n).await;
                t.say(n);
                Ok(())
            }));
        }
        t.say("body");
        Ok(())
    })
    .await;
    assert!(ended.is_ok());
    t.say("after");
}

async fn a_group_fails_with_its_first_child(t: Trace) {
    struct Say(Trace, &'static str);
    impl Drop for Say {
        fn drop(&mut self) {
            self.0.say(self.1);
        }
    }
    let ended: Result<(), _> = task_group(async |group| {
        drop(group.create_task(async {
            turns(1).await;
            Err::<(), _>("bad")
        }));
        let sibling = t.clone();
        drop(group.create_task(async move {
            let _said = Say(sibling, "sibling dropped");
            pending::<Result<(), _>>().await
        }));
        let _said = Say(t.clone(), "body dropped");
        pending().await
    })
    .await;
    t.say(ended.unwrap_err().errors().len());
}

async fn a_future_is_set_once(t: Trace) {
    let (resolver, future) = create_future();
    let told = Rc::new(Cell::new(""));
    let (said, place) = (t.clone(), told.clone());
    let task = job(async move {
        place.set(future.await.unwrap());
        said.say(place.get());
    });
    turns(1).await;
    resolver.set_result("set").unwrap();
    t.say(resolver.done());
    if resolver.set_result("again").is_err() {
        t.say("invalid");
    }
    join([task]).await;
    assert_eq!(told.get(), "set");
}

async fn a_timeout_that_is_not_needed(t: Trace) {
    let said = t.clone();
    let in_time = timeout(Duration::from_secs(60), async move {
        turns(2).await;
        said.say("in time");
    });
    assert!(in_time.await.is_ok());
    let value = async {
        turns(1).await;
        "value"
    };
    t.say(wait_for(value, Duration::from_secs(60)).await.unwrap());
}

async fn timeouts_in_timeouts(t: Trace) {
    let outer = timeout(Duration::from_secs(60), async move {
        if timeout(Duration::from_millis(10), sleep(Duration::from_secs(60))).await.is_err() {
            t.say("inner");
        }
        t.say("still here");
    });
    assert!(outer.await.is_ok());
}

async fn sleeps_end_in_their_order(t: Trace) {
    let tasks = [3, 1, 2].map(|n| {
        let t = t.clone();
        job(async move {
            sleep(Duration::from_millis(50 * n)).await;
            t.say(n);
        })
    });
    join(tasks).await;
}
