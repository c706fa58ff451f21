//! Memory of a peak is freed afterwards, and keys from the peak are stale.

mod common;

use std::{rc::Rc, time::Duration};

use common::on_every;
use corio_runtime::{
    Builder, Cancelled, Memory, Task, TaskGroupError, call_later, call_soon, create_future, create_task,
    metrics, run_coroutine_threadsafe, scope, task_group,
    time::{now, sleep},
    to_thread, yield_now,
};

const MANY: usize = 200_000;
const KIB: usize = 1 << 10;

/// What each table may keep where next to nothing is in use.
const KEPT: usize = 64 * KIB;

/// Waits until the loop's tables are small again. What takes a minute hangs.
async fn until_small() -> Memory {
    let hangs = now() + Duration::from_secs(60);
    loop {
        let memory = metrics().memory;
        let Memory { tasks_bytes, ready_bytes, timers_bytes, calls_bytes, operations_bytes, .. } = memory;
        // The ready queue is two lists, the timers are slots and a heap.
        let small = tasks_bytes.max(calls_bytes).max(operations_bytes) <= KEPT
            && ready_bytes.max(timers_bytes) <= 3 * KEPT;
        if small {
            return memory;
        }
        assert!(now() < hangs, "{memory:?}");
        sleep(Duration::from_millis(5)).await;
        // In the simulator time passes in steps, here also by turns.
        yield_now().await;
    }
}

#[test]
fn tasks_with_timers_that_are_gone_leave_no_memory() {
    on_every(async || {
        let tasks: Vec<Task<()>> =
            (0..MANY).map(|n| create_task(sleep(Duration::from_micros(n as u64 % 1000)))).collect();
        yield_now().await;
        let peak = metrics().memory;
        assert!(peak.tasks_bytes > MANY * 64 && peak.timers_bytes > MANY * 48, "{peak:?}");
        for task in tasks {
            task.await.unwrap();
        }
        until_small().await;
    });
}

#[test]
fn timers_that_were_cancelled_and_callbacks_that_are_over_leave_no_memory() {
    on_every(async || {
        let tasks: Vec<Task<()>> = (0..MANY).map(|_| create_task(sleep(Duration::from_secs(3600)))).collect();
        let later: Vec<_> = (0..MANY).map(|_| call_later(Duration::from_secs(3600), || ())).collect();
        for _ in 0..MANY {
            call_soon(|| ());
        }
        yield_now().await;
        assert!(metrics().memory.calls_bytes > 2 * MANY * 16);
        tasks.iter().for_each(|task| assert!(task.cancel()));
        later.iter().for_each(|handle| handle.cancel());
        drop(tasks);
        until_small().await;
        assert_eq!(metrics().timers, 0);
    });
}

#[test]
fn a_task_that_lives_long_keeps_its_place_and_nobody_elses() {
    on_every(async || {
        for _ in 0..3 {
            let (resolver, done) = create_future::<u32>();
            let mut peak: Vec<Task<()>> =
                (0..MANY / 4).map(|_| create_task(std::future::pending())).collect();
            // Behind all the others, with a timer there, too.
            let last = create_task(async move {
                sleep(Duration::from_millis(2)).await;
                let answer: Result<u32, Cancelled> = done.await;
                answer
            });
            peak.iter().for_each(|task| assert!(task.cancel()));
            let stale: Vec<Task<()>> = peak.drain(..10).collect();
            drop(peak);
            until_small().await;
            // The place is where no table is any more.
            assert!(!last.done() && last.name().starts_with("Task-"));
            // Of the keys that are left none means one of the new tasks.
            let again: Vec<Task<usize>> = (0..MANY / 4).map(|n| create_task(async move { n })).collect();
            for task in stale {
                assert!(task.cancelled() && !task.cancel());
            }
            for (n, task) in again.into_iter().enumerate() {
                assert_eq!(task.await.unwrap(), n);
            }
            resolver.set_result(7).unwrap();
            assert_eq!(last.await.unwrap(), Ok(7));
        }
    });
}

#[test]
fn a_late_wake_of_a_task_whose_place_is_gone_wakes_nobody() {
    corio_runtime::run(async {
        let mut wakers = Vec::new();
        for _ in 0..MANY / 4 {
            let waker = create_task(std::future::poll_fn(|cx| std::task::Poll::Ready(cx.waker().clone())));
            wakers.push(waker);
        }
        let mut late = Vec::new();
        for waker in wakers {
            late.push(waker.await.unwrap());
        }
        until_small().await;
        let polls = Rc::new(std::cell::Cell::new(0));
        let counted = polls.clone();
        let _task = create_task(std::future::poll_fn(move |_| {
            counted.set(counted.get() + 1);
            std::task::Poll::<()>::Pending
        }));
        yield_now().await;
        let before = polls.get();
        late.iter().for_each(std::task::Waker::wake_by_ref);
        to_thread(move || late.iter().for_each(std::task::Waker::wake_by_ref)).await;
        yield_now().await;
        assert_eq!(polls.get(), before);
    });
}

#[test]
fn operations_that_are_over_leave_no_memory() {
    use corio_runtime::op::{self, Done, Operation, Sqe};
    struct Nop;
    impl Operation for Nop {
        type Output = i32;
        fn prepare(&mut self) -> Sqe<'_> {
            Sqe::nop()
        }
        fn complete(self: Box<Self>, done: Done) -> i32 {
            done.number()
        }
    }
    on_every(async || {
        let nops: Vec<_> = (0..20_000).map(|_| op::submit(Nop)).collect();
        assert!(metrics().memory.operations_bytes > 20_000 * 48);
        for nop in nops {
            assert_eq!(nop.await, 0);
        }
        until_small().await;
    });
}

#[test]
fn another_thread_sees_that_the_memory_is_back() {
    let mut runner = Builder::default().build().unwrap();
    let handle = runner.handle();
    runner.run(async {
        let tasks: Vec<Task<()>> = (0..MANY).map(|_| create_task(async {})).collect();
        for task in tasks {
            task.await.unwrap();
        }
        // The loop sleeps, and is woken for nothing but this.
        to_thread(move || {
            let hangs = std::time::Instant::now() + Duration::from_secs(60);
            while handle.metrics().memory.tasks_bytes > KEPT || handle.metrics().turns == 0 {
                assert!(std::time::Instant::now() < hangs, "{:?}", handle.metrics());
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(run_coroutine_threadsafe(&handle, async || {}).result(None).is_ok());
        })
        .await;
        let before = metrics().ring.enters;
        to_thread(|| std::thread::sleep(Duration::from_millis(500))).await;
        let enters = metrics().ring.enters - before;
        assert!(enters < 20, "an idle loop entered the kernel {enters} times");
    });
}

#[test]
fn groups_and_scopes_that_live_on_after_a_peak_of_children_work() {
    corio_runtime::run(async {
        let done = Rc::new(std::cell::Cell::new(0));
        let result: Result<(), TaskGroupError<()>> = task_group(async |group| {
            for _ in 0..2 {
                for _ in 0..20_000 {
                    let done = done.clone();
                    group.create_task(async move {
                        done.set(done.get() + 1);
                        Ok(())
                    });
                }
                let all = done.get() / 20_000 * 20_000 + 20_000;
                while done.get() < all {
                    yield_now().await;
                }
                yield_now().await;
            }
            Ok(())
        })
        .await;
        assert!(result.is_ok());
        assert_eq!(done.get(), 40_000);
        scope(async |scope| {
            for round in 1..=2 {
                for _ in 0..20_000 {
                    scope.spawn(async {
                        yield_now().await;
                        done.set(done.get() + 1);
                    });
                }
                while done.get() < 40_000 + round * 20_000 {
                    yield_now().await;
                }
            }
        })
        .await;
        assert_eq!(done.get(), 80_000);
    });
}
