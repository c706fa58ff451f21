//! Running loops: `run`, `Runner`, tasks left at the end, sleeping and timeouts.

mod common;

use std::{
    cell::Cell,
    future::{Future, pending},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    rc::Rc,
};

use common::{DropCount, open_fds, pair, poll_once, recv, reports};
use corio_runtime::{
    Builder, Runner, Task, TaskError, call_later, call_soon, create_task, handle, metrics,
    op::submit,
    run, set_exception_handler,
    time::{Duration, Instant, Sleep, now, sleep, sleep_until, timeout, timeout_at, wait_for},
    yield_now,
};
use futures::StreamExt;

fn panic_message(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("it should have panicked");
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap()
}

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

/// Panics when it is dropped.
struct DropBomb;

impl Drop for DropBomb {
    fn drop(&mut self) {
        panic!("a destructor panics");
    }
}

#[test]
fn run_01_returns_the_value_of_main() {
    let value = run(async {
        sleep(Duration::ZERO).await;
        42
    });
    assert_eq!(value, 42);
}

#[test]
fn run_02_an_error_of_main_is_the_result() {
    let result = run(async {
        sleep(Duration::ZERO).await;
        Err::<(), _>(io::Error::other("spam"))
    });
    assert_eq!(result.unwrap_err().to_string(), "spam");
}

#[test]
fn run_02_a_panic_of_main_goes_on_and_the_loop_is_closed() {
    let place = Cell::new(None);
    let drops = DropCount::default();
    let text = panic_message(|| {
        run(async {
            place.set(Some(handle()));
            let probe = drops.probe();
            drop(create_task(async move {
                let _probe = probe;
                pending::<()>().await;
            }));
            yield_now().await;
            panic!("main fails");
        })
    });
    assert_eq!(text, "main fails");
    assert!(place.get().unwrap().is_closed());
    assert_eq!(drops.get(), 1, "the task that was left is cancelled");
    assert_eq!(run(async { 1 }), 1, "the thread can run loops again");
}

#[test]
fn run_05_run_25_run_inside_a_running_loop_fails_fast() {
    let started = Rc::new(Cell::new(false));
    let flag = started.clone();
    let value = run(async move {
        let text = panic_message(move || run(async move { flag.set(true) }));
        assert_eq!(text, "run() cannot be called from a running event loop");
        yield_now().await;
        5
    });
    assert_eq!(value, 5, "the outer run goes on");
    assert!(!started.get());
}

#[test]
fn run_06_left_over_tasks_are_cancelled_before_run_returns() {
    let drops = DropCount::default();
    let (task,) = run(async {
        let probe = drops.probe();
        let task = create_task(async move {
            let _probe = probe;
            sleep(LONG).await;
        });
        // One that never ran, and one that was detached.
        let (unborn, detached) = (drops.probe(), drops.probe());
        yield_now().await;
        drop(create_task(async move { drop((unborn, pending::<()>().await)) }));
        drop(create_task(async move { drop((detached, pending::<()>().await)) }));
        (task,)
    });
    assert_eq!(drops.get(), 3);
    assert!(task.done() && task.cancelled() && !task.cancel());
}

#[test]
fn run_06_what_cancelled_tasks_leave_behind_is_cancelled_too() {
    struct Spawns(u32, DropCount);
    impl Drop for Spawns {
        fn drop(&mut self) {
            let _probe = self.1.probe();
            if self.0 > 0 {
                let next = Spawns(self.0 - 1, self.1.clone());
                drop(create_task(async move { drop((next, pending::<()>().await)) }));
            }
        }
    }
    let drops = DropCount::default();
    let first = Spawns(20, drops.clone());
    let heard = run(async move {
        let heard = reports();
        drop(create_task(async move { drop((first, pending::<()>().await)) }));
        yield_now().await;
        heard
    });
    assert_eq!(drops.get(), 21);
    assert!(heard.borrow().is_empty(), "none is destroyed while it is pending: {heard:?}");
}

#[test]
fn run_07_a_panic_of_a_left_over_task_is_reported_and_main_keeps_its_result() {
    let (value, heard) = run(async {
        let heard = reports();
        drop(create_task(async {
            let _bomb = DropBomb;
            pending::<()>().await;
        }));
        yield_now().await;
        (123, heard)
    });
    assert_eq!(value, 123);
    assert_eq!(heard.borrow().len(), 1, "{heard:?}");
    assert!(heard.borrow()[0].contains("a destructor panics"));
}

#[test]
fn run_08_a_stream_that_a_task_iterates_is_dropped_before_a_panic_of_main_comes_out() {
    let drops = DropCount::default();
    let probe = drops.probe();
    let panicked = panic_message(move || {
        run(async move {
            let endless = futures::stream::unfold(probe, async |probe| {
                yield_now().await;
                Some(((), probe))
            });
            drop(create_task(async move {
                let mut endless = pin!(endless);
                while endless.next().await.is_some() {}
            }));
            yield_now().await;
            panic!("a fancy exit");
        })
    });
    assert_eq!((panicked.as_str(), drops.get()), ("a fancy exit", 1));
}

#[test]
fn run_13_a_closed_runner_says_so_through_its_handle() {
    let runner = Runner::new().unwrap();
    let handle = runner.handle();
    runner.close();
    assert!(handle.is_closed());
    let refused = handle.call_soon_threadsafe(|| unreachable!("the loop is closed")).unwrap_err();
    assert_eq!(refused.to_string(), "event loop is closed");
}

#[test]
fn run_23_results_need_no_text_of_themselves() {
    struct Opaque(u32);
    assert_eq!(run(async { Opaque(7) }).0, 7);
    let task = run(async {
        let task = create_task(async { Opaque(8) });
        task.await.map(|opaque| opaque.0)
    });
    assert_eq!(task.unwrap(), 8);
}

#[test]
fn run_24_a_destructor_that_panics_at_the_close_does_not_keep_operations_in_the_kernel() {
    if !common::in_own_process(
        "run_24_a_destructor_that_panics_at_the_close_does_not_keep_operations_in_the_kernel",
    ) {
        return;
    }
    let before = open_fds();
    let value = run(async {
        set_exception_handler(|_| ());
        let (fd, peer) = pair();
        let mut op = submit(recv(&fd, 64));
        assert!(poll_once(&mut op).is_pending());
        std::mem::forget(op);
        // Neither was dropped when the loop begins to close.
        std::mem::forget(create_task(async { DropBomb }));
        let bomb = DropBomb;
        call_later(LONG, move || drop(bomb));
        let bomb = DropBomb;
        call_later(LONG, move || drop(bomb));
        yield_now().await;
        yield_now().await;
        drop((fd, peer));
        7
    });
    assert_eq!(value, 7);
    assert_eq!(open_fds(), before);
}

#[test]
fn run_12_a_runner_gives_values_and_its_loop_is_closed_with_it() {
    let mut runner = Runner::new().unwrap();
    let handle = runner.handle();
    assert_eq!(runner.run(async { 1 }), 1);
    assert!(!handle.is_closed());
    drop(runner);
    assert!(handle.is_closed());
}

#[test]
fn run_14_close_then_drop_closes_once_and_another_loop_is_not_touched() {
    let first = Runner::new().unwrap();
    let old = first.handle();
    first.close();
    // Most likely on the same index.
    let mut second = Runner::new().unwrap();
    assert!(old.is_closed() && !second.handle().is_closed());
    assert_ne!(old, second.handle());
    assert_eq!(second.run(async { 2 }), 2);
}

#[test]
fn run_17_run_32_a_runner_does_not_run_inside_a_running_loop() {
    let mut inner = Runner::new().unwrap();
    let mut outer = Runner::new().unwrap();
    outer.run(async {
        let text = panic_message(|| inner.run(async { panic!("the inner main started") }));
        assert_eq!(text, "run() cannot be called from a running event loop");
        yield_now().await;
    });
    assert_eq!(inner.run(async { 3 }), 3);
}

#[test]
fn a_runner_runs_several_mains_and_a_task_survives_between() {
    let mut runner = Runner::new().unwrap();
    let steps = Rc::new(Cell::new(0));
    let count = steps.clone();
    let task = runner.create_task(async move {
        for _ in 0..10 {
            yield_now().await;
            count.set(count.get() + 1);
        }
        "survived"
    });
    runner.run(yield_now());
    let between = steps.get();
    assert!(between < 10);
    runner.run(yield_now());
    assert!(steps.get() > between);
    assert_eq!(runner.run(task).unwrap(), "survived");
    let text = panic_message(|| runner.run(async { panic!("one main of many") }));
    assert_eq!(text, "one main of many");
    assert_eq!(runner.run(async { metrics().tasks }), 1);
}

#[test]
fn a_main_future_may_borrow_from_its_caller() {
    let mut text = String::from("a");
    let borrowed = &mut text;
    run(async move {
        yield_now().await;
        borrowed.push('b');
    });
    let length = &text;
    assert_eq!(run(async { length.len() }), 2);
}

#[test]
fn run_05_a_loop_closed_inside_another_runs_its_own_destructors_and_leaves_nothing() {
    struct SeesItsLoop(corio_runtime::Handle, Rc<Cell<bool>>);
    impl Drop for SeesItsLoop {
        fn drop(&mut self) {
            self.1.set(handle() == self.0);
        }
    }
    if !common::in_own_process(
        "run_05_a_loop_closed_inside_another_runs_its_own_destructors_and_leaves_nothing",
    ) {
        return;
    }
    run(async {
        let own = handle();
        let fds = open_fds();
        for _ in 0..10 {
            let inner = Runner::new().unwrap();
            let seen = Rc::new(Cell::new(false));
            let witness = SeesItsLoop(inner.handle(), seen.clone());
            let task = inner.create_task(async move { drop((witness, pending::<()>().await)) });
            inner.close();
            assert!(seen.get(), "the task of the inner loop was dropped on it");
            assert!(task.cancelled());
            assert_eq!(handle(), own);
            yield_now().await;
        }
        assert_eq!(metrics().operations, 0);
        assert_eq!(open_fds(), fds);
    });
}

#[test]
fn two_hundred_loops_in_a_row_leak_no_descriptor() {
    if !common::in_own_process("two_hundred_loops_in_a_row_leak_no_descriptor") {
        return;
    }
    run(async {});
    let before = open_fds();
    for _ in 0..200 {
        run(async {
            let (fd, _peer) = pair();
            let op = submit(recv(&fd, 16));
            yield_now().await;
            drop(op);
        });
    }
    assert_eq!(open_fds(), before);
}

#[test]
fn settings_out_of_range_are_refused_with_the_value() {
    let text = |builder: Builder| builder.build().unwrap_err().to_string();
    assert!(text(Runner::builder().entries(0)).contains("0 submission entries"));
    assert!(text(Runner::builder().entries(40_000)).contains("40000"));
    assert!(text(Runner::builder().buffers(3, 4096)).contains("count 3"));
    assert!(text(Runner::builder().pin(1023)).contains("core 1023"));
}

#[test]
fn to_01_a_timeout_ends_what_is_too_slow() {
    run(async {
        assert!(timeout(10 * MS, sleep(LONG)).await.is_err());
        assert_eq!(metrics().timers, 0);
        assert!(timeout_at(now() + 5 * MS, pending::<()>()).await.is_err());
    });
}

#[test]
fn to_05_a_timeout_that_is_not_reached_changes_nothing() {
    run(async {
        let value = timeout(LONG, async {
            sleep(5 * MS).await;
            1
        });
        assert_eq!(value.await, Ok(1));
        assert_eq!(metrics().timers, 0);
    });
}

#[test]
fn to_07_timeout_zero_ends_a_sleeper() {
    run(async {
        let start = Instant::now();
        assert!(timeout(Duration::ZERO, sleep(LONG)).await.is_err());
        assert!(timeout_at(start, sleep(LONG)).await.is_err());
        assert!(start.elapsed() < LONG);
    });
}

#[test]
fn to_08_timeout_zero_beats_sleep_zero() {
    run(async {
        let steps = Cell::new(0);
        let late = timeout(Duration::ZERO, async {
            steps.set(1);
            sleep(Duration::ZERO).await;
            steps.set(2);
        });
        assert!(late.await.is_err());
        assert_eq!(steps.get(), 1);
    });
}

#[test]
fn to_10_an_error_inside_passes_through() {
    run(async {
        let inner = timeout(LONG, async { Err::<(), _>("KeyError") }).await;
        assert_eq!(inner, Ok(Err("KeyError")));
    });
}

#[test]
fn to_13_a_task_that_handles_its_timeout_is_not_cancelled() {
    run(async {
        let mut task = create_task(async { timeout(MS, sleep(LONG)).await.is_err() });
        assert!((&mut task).await.unwrap());
        assert!(task.done() && !task.cancelled());
    });
}

#[test]
fn to_14_an_outer_timeout_ends_the_inner_one() {
    run(async {
        let inner_ended = Cell::new(false);
        let outer = timeout(2 * MS, async {
            let inner = timeout(LONG, async {
                yield_now().await;
                std::thread::sleep(10 * MS);
                sleep(LONG).await;
            });
            let _ = inner.await;
            inner_ended.set(true);
        });
        assert!(outer.await.is_err());
        assert!(!inner_ended.get());
        assert_eq!(metrics().timers, 0);
    });
}

#[test]
fn to_15_inner_then_outer_timeout_when_the_loop_was_busy() {
    run(async {
        let inner_expired = Cell::new(false);
        let outer = timeout(30 * MS, async {
            let inner = timeout(5 * MS, async {
                yield_now().await;
                std::thread::sleep(40 * MS);
                pending::<()>().await;
            });
            inner_expired.set(inner.await.is_err());
            pending::<()>().await;
        });
        assert!(outer.await.is_err());
        assert!(inner_expired.get());
    });
}

#[test]
fn to_18_a_timeout_works_in_the_clean_up_after_another() {
    run(async {
        let second = Cell::new(false);
        let first = timeout(MS, sleep(LONG)).await;
        if first.is_err() {
            second.set(timeout(MS, sleep(LONG)).await.is_err());
        }
        assert!(second.get());
        assert_eq!(metrics().timers, 0);
    });
}

#[test]
fn wf_03_timeout_zero_gives_the_value_of_what_is_done() {
    run(async {
        let task = create_task(async { "done" });
        yield_now().await;
        assert_eq!(wait_for(task, Duration::ZERO).await.unwrap().unwrap(), "done");
        assert_eq!(wait_for(async { 1 }, Duration::ZERO).await, Ok(1));
    });
}

#[test]
fn wf_06_what_times_out_is_dropped_before_the_error_is_seen() {
    run(async {
        let drops = DropCount::default();
        let probe = drops.probe();
        let inner = async move {
            let _probe = probe;
            sleep(LONG).await;
        };
        // Kept in a place of its own, as a caller may keep it.
        let mut late = Box::pin(wait_for(inner, 5 * MS));
        assert!((&mut late).await.is_err());
        assert_eq!((drops.get(), metrics().timers), (1, 0));
        drop(late);
    });
}

#[test]
fn wf_07_without_a_limit_it_waits() {
    run(async {
        let value = wait_for(
            async {
                sleep(5 * MS).await;
                "done"
            },
            Duration::MAX,
        );
        assert_eq!(value.await, Ok("done"));
    });
}

#[test]
fn wf_08_a_value_set_in_the_next_turn_is_in_time() {
    run(async {
        let place = Rc::new(Cell::new(None));
        let set = place.clone();
        call_soon(move || set.set(Some("ok")));
        let value = wait_for(
            async {
                loop {
                    if let Some(value) = place.get() {
                        break value;
                    }
                    yield_now().await;
                }
            },
            LONG,
        );
        assert_eq!(value.await, Ok("ok"));
    });
}

#[test]
fn a_value_that_is_ready_at_the_deadline_beats_it() {
    run(async {
        // The deadline passes while the task computes its value.
        let task = create_task(async {
            std::thread::sleep(10 * MS);
            "value"
        });
        assert_eq!(wait_for(task, MS).await.unwrap().unwrap(), "value");
    });
    // Two sleeps that end at the same instant: the inner one was ready at the deadline. Both are armed before it.
    common::on_sim(async || {
        let at = now() + 5 * MS;
        assert!(timeout_at(at, sleep_until(at)).await.is_ok());
    });
}

#[test]
fn h1_sleeps_are_never_early() {
    run(async {
        let mut tasks: Vec<Task<()>> = Vec::new();
        for n in 0..2000u32 {
            let delay = Duration::from_nanos(u64::from(n * 7919 % 10_000) * 1000 + u64::from(n % 1000));
            tasks.push(create_task(async move {
                let start = Instant::now();
                sleep(delay).await;
                assert!(start.elapsed() >= delay, "{:?} instead of {delay:?}", start.elapsed());
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        for delay in [Duration::ZERO, Duration::from_nanos(1), Duration::from_micros(1), 3 * MS] {
            let (start, until) = (Instant::now(), now() + delay);
            sleep_until(until).await;
            assert!(start.elapsed() >= delay && now() >= until);
        }
    });
}

#[test]
fn h1_endless_sleeps_never_fire_and_do_not_panic() {
    run(async {
        let mut endless = pin!(sleep(Duration::MAX));
        assert_eq!(endless.deadline(), None);
        let never = call_later(Duration::MAX, || panic!("called at the end of time"));
        assert_eq!(never.when(), None);
        assert!(timeout(5 * MS, endless.as_mut()).await.is_err());
        let mut ages = sleep(Duration::from_secs(u64::MAX >> 8));
        assert!(poll_once(&mut ages).is_pending());
        assert!(timeout(Duration::MAX, yield_now()).await.is_ok());
        sleep(2 * MS).await;
        assert!(poll_once(&mut ages).is_pending());
        assert_eq!(metrics().timers, 3);
        // One that is armed for ever can be moved.
        endless.reset(now() + MS);
        endless.await;
        never.cancel();
        drop(ages);
        assert_eq!(metrics().timers, 0);
    });
}

#[test]
fn h1_a_sleep_can_be_moved_before_and_after_it_ended() {
    async fn ended(sleep: &mut Sleep, at: Instant) {
        sleep.reset(at);
        assert_eq!(sleep.deadline(), Some(at));
        sleep.await;
        assert!(now() >= at);
    }
    run(async {
        let mut moved = sleep(LONG);
        assert!(poll_once(&mut moved).is_pending());
        ended(&mut moved, now() + MS).await;
        ended(&mut moved, now() + 3 * MS).await;
        ended(&mut moved, now()).await;
        // Moved away from a deadline that passes.
        moved.reset(now() + MS);
        assert!(poll_once(&mut moved).is_pending());
        moved.reset(now() + LONG);
        assert!(poll_once(&mut moved).is_pending());
        sleep(5 * MS).await;
        assert!(poll_once(&mut moved).is_pending());
        assert_eq!(metrics().timers, 1);
        drop(moved);
        assert_eq!(metrics().timers, 0);
    });
}

#[test]
fn h1_a_sleep_wakes_the_task_that_polled_it_last() {
    run(async {
        let mut sleeper = sleep(5 * MS);
        assert!(poll_once(&mut sleeper).is_pending());
        create_task(sleeper).await.unwrap();
    });
}

#[test]
fn a_closed_loop_leaves_its_handles_harmless() {
    let (task, sleeper, op, soon) = run(async {
        let (fd, _peer) = pair();
        let mut sleeper = sleep(LONG);
        let mut op = submit(recv(&fd, 8));
        let mut task = create_task(pending::<()>());
        assert!(poll_once(&mut sleeper).is_pending());
        assert!(poll_once(&mut op).is_pending());
        assert!(poll_once(&mut task).is_pending());
        (task, sleeper, op, call_later(LONG, || ()))
    });
    soon.cancel();
    assert!(task.cancelled() && !task.cancel());
    task.set_name("late");
    task.add_done_callback(|_| unreachable!());
    assert!(task.name().starts_with("Task-"));
    drop((sleeper, op));
    run(async {
        assert!(matches!(task.await, Err(TaskError::WrongLoop)));
    });
}

#[test]
fn outside_a_loop_the_message_says_so() {
    let text = panic_message(|| drop(create_task(async {})));
    assert!(text.contains("no running event loop"), "{text}");
    let text = panic_message(|| {
        call_soon(|| ());
    });
    assert!(text.contains("no running event loop"), "{text}");
    let mut sleeper = sleep(MS);
    let text = panic_message(|| {
        let _ = poll_once(&mut sleeper);
    });
    assert!(text.contains("no running event loop"), "{text}");
    fn is_future(_: &impl Future) {}
    is_future(&sleeper);
}
