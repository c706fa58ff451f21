//! Tasks and callbacks: order, cancellation, panics, leaks, fairness.

mod common;

use std::{
    cell::{Cell, RefCell},
    future::{Future, pending, poll_fn},
    io::Write,
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
};

use common::{DropCount, PanicWaker, on_every, poll_with, reports, resident_kib};
use corio_runtime::{
    Task, TaskError, TaskState, all_tasks, call_at, call_later, call_soon, create_future, create_task,
    create_task_named, current_task, metrics,
    op::submit,
    run, set_exception_handler,
    time::{Duration, Instant, now, sleep, timeout},
    yield_now,
};

/// What happened, in order.
type Log<T> = Rc<RefCell<Vec<T>>>;

fn log<T>() -> Log<T> {
    Rc::default()
}

fn panic_text<T>(result: Result<T, TaskError>) -> String {
    match result {
        Err(TaskError::Panicked(panic)) => panic.message(),
        Err(e) => panic!("not a panic: {e}"),
        Ok(_) => panic!("not a panic: a value"),
    }
}

fn is_cancelled<T>(result: &Result<T, TaskError>) -> bool {
    matches!(result, Err(TaskError::Cancelled))
}

/// Counts turns: a task that runs once in each.
fn turn_counter() -> Rc<Cell<u32>> {
    let turns = Rc::new(Cell::new(0));
    let count = turns.clone();
    drop(create_task(async move {
        loop {
            count.set(count.get() + 1);
            yield_now().await;
        }
    }));
    turns
}

/// Panics when it is dropped.
struct DropBomb;

impl Drop for DropBomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("a destructor panics");
        }
    }
}

#[test]
fn task_01_a_task_gives_its_value_and_is_done() {
    run(async {
        let mut task = create_task(async { "ok" });
        assert!(!task.done());
        assert_eq!((&mut task).await.unwrap(), "ok");
        assert!(task.done() && !task.cancelled());
    });
}

#[test]
fn task_03_a_task_is_created_on_the_running_loop() {
    async fn outer() -> i32 {
        create_task(async { 1 }).await.unwrap()
    }
    assert_eq!(run(outer()), 1);
}

#[test]
fn task_04_a_task_has_the_name_given() {
    run(async {
        let task = create_task_named("No-op", async { current_task().unwrap().name() });
        assert_eq!(task.name(), "No-op");
        task.set_name("other");
        assert_eq!(task.await.unwrap(), "other");
    });
}

#[test]
fn task_05_default_names_are_numbered_strictly_upwards() {
    run(async {
        let tasks: Vec<_> = (0..100).map(|_| create_task(async {})).collect();
        let numbers: Vec<u64> =
            tasks.iter().map(|t| t.name().strip_prefix("Task-").unwrap().parse().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    });
}

#[test]
fn task_09_a_task_that_awaits_itself_is_told_and_does_not_hang() {
    run(async {
        let heard = reports();
        let place = Rc::new(RefCell::new(None::<Task<()>>));
        let inner = place.clone();
        let task = create_task(async move {
            let mut own = inner.borrow_mut().take().unwrap();
            let _ = (&mut own).await;
        });
        *place.borrow_mut() = Some(task);
        while heard.borrow().is_empty() {
            yield_now().await;
        }
        assert!(heard.borrow()[0].contains("Task cannot await on itself"), "{heard:?}");
    });
}

#[test]
fn task_10_cancel_ends_a_sleeper_at_once_and_only_once() {
    run(async {
        let mut task = create_task(sleep(Duration::from_secs(10)));
        yield_now().await;
        assert!(task.cancel());
        assert!(!task.done(), "cancel requests, the next turn cancels");
        assert!(is_cancelled(&(&mut task).await));
        assert!(task.done() && task.cancelled());
        assert!(!task.cancel());
        assert_eq!(metrics().timers, 0);
    });
}

#[test]
fn task_11_cancel_between_two_yields() {
    run(async {
        let steps = Rc::new(Cell::new(0));
        let count = steps.clone();
        let task = create_task(async move {
            count.set(1);
            yield_now().await;
            count.set(2);
            yield_now().await;
            count.set(3);
        });
        yield_now().await;
        yield_now().await;
        task.cancel();
        assert!(is_cancelled(&task.await));
        assert_eq!(steps.get(), 2);
    });
}

#[test]
fn task_16_a_task_that_cancels_itself_ends_at_its_next_await() {
    run(async {
        let place = Rc::new(RefCell::new(None::<Task<()>>));
        let reached = Rc::new(Cell::new(0));
        let (inner, steps) = (place.clone(), reached.clone());
        let task = create_task(async move {
            assert!(inner.borrow().as_ref().unwrap().cancel());
            steps.set(1);
            yield_now().await;
            steps.set(2);
        });
        *place.borrow_mut() = Some(task);
        yield_now().await;
        let mut task = place.borrow_mut().take().unwrap();
        assert!(is_cancelled(&(&mut task).await));
        assert!(task.cancelled());
        assert_eq!(reached.get(), 1);
        // An await that nothing else would wake.
        let task = create_task(async {
            assert!(current_task().unwrap().cancel());
            pending::<()>().await;
        });
        assert!(is_cancelled(&task.await));
    });
}

#[test]
fn cancel_travels_down_the_await_chain() {
    run(async {
        let drops = DropCount::default();
        let probe = drops.probe();
        let task = create_task(async move {
            let inner = async move {
                let _probe = probe;
                pending::<()>().await;
            };
            inner.await;
        });
        yield_now().await;
        task.cancel();
        assert!(is_cancelled(&task.await));
        assert_eq!(drops.get(), 1);
    });
}

#[test]
fn task_19_a_task_cancelled_before_its_first_step_never_runs() {
    run(async {
        let ran = Rc::new(Cell::new(false));
        let flag = ran.clone();
        let task = create_task(async move { flag.set(true) });
        assert!(task.cancel());
        assert!(is_cancelled(&task.await));
        assert!(!ran.get());
    });
}

#[test]
fn task_32_a_cancelled_or_dropped_sleep_frees_its_timer() {
    run(async {
        let task = create_task(sleep(Duration::from_secs(10)));
        let mut own = sleep(Duration::from_secs(10));
        let _ = common::poll_once(&mut own);
        yield_now().await;
        assert_eq!(metrics().timers, 2);
        task.cancel();
        let _ = task.await;
        assert_eq!(metrics().timers, 1);
        drop(own);
        assert_eq!(metrics().timers, 0);
    });
}

#[test]
fn task_34_sleep_zero_and_yield_now_take_exactly_one_turn() {
    run(async {
        let turns = turn_counter();
        yield_now().await;
        for round in 0..10 {
            let before = turns.get();
            sleep(Duration::ZERO).await;
            assert_eq!(turns.get(), before + 1, "sleep(0), round {round}");
            yield_now().await;
            assert_eq!(turns.get(), before + 2, "yield_now, round {round}");
        }
    });
}

#[test]
fn task_34_callbacks_queued_before_sleep_zero_run_first() {
    run(async {
        let called = Rc::new(Cell::new(0));
        let count = called.clone();
        call_soon(move || count.set(1));
        sleep(Duration::ZERO).await;
        assert_eq!(called.get(), 1);
    });
}

#[test]
fn task_36_task_38_current_task_is_the_one_that_runs_and_none_outside() {
    assert!(current_task().is_none());
    run(async {
        let main = current_task().unwrap().id();
        let seen = Rc::new(Cell::new(true));
        let flag = seen.clone();
        call_soon(move || flag.set(current_task().is_some()));
        let task = create_task(async { current_task().unwrap().id() });
        let id = task.id();
        assert_eq!(task.await.unwrap(), id);
        assert_ne!(id, main);
        assert_eq!(current_task().unwrap().id(), main);
        assert!(!seen.get(), "a callback is no task");
    });
    assert!(current_task().is_none());
}

#[test]
fn task_26_a_panic_on_the_way_out_of_a_cancel_is_the_result() {
    on_every(async || {
        let mut task = create_task(async {
            let _bomb = DropBomb;
            pending::<()>().await;
        });
        yield_now().await;
        assert!(task.cancel());
        assert_eq!(panic_text((&mut task).await), "a destructor panics");
        assert!(task.done() && !task.cancelled());
    });
}

#[test]
fn task_43_a_future_that_no_loop_takes_is_dropped_quietly() {
    let drops = DropCount::default();
    run(async {});
    let probe = drops.probe();
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        drop(create_task(async move { drop(probe) }));
    }));
    assert!(refused.is_err());
    assert_eq!(drops.get(), 1);
}

#[test]
fn task_44_a_future_as_a_result_is_not_awaited() {
    on_every(async || {
        let (resolver, future) = create_future();
        let given = create_task(std::future::ready(future)).await.unwrap();
        assert!(!given.done());
        resolver.set_result(7).unwrap();
        assert_eq!(given.await, Ok(7));
    });
}

#[test]
fn task_52_tasks_are_listed_while_other_threads_make_some() {
    const THREADS: usize = 3;
    const TASKS: usize = 100;
    run(async {
        let home = corio_runtime::handle();
        let makers: Vec<_> = (0..THREADS)
            .map(|_| {
                std::thread::spawn(move || {
                    for _ in 0..TASKS {
                        drop(corio_runtime::run_coroutine_threadsafe(&home, pending::<()>));
                    }
                })
            })
            .collect();
        let mut known = 1;
        while known < 1 + THREADS * TASKS {
            let tasks = all_tasks();
            assert!(tasks.len() >= known, "tasks got lost");
            known = tasks.len();
            assert_eq!(tasks.iter().filter(|task| task.state() == TaskState::Running).count(), 1);
            let mut ids: Vec<_> = tasks.iter().map(|task| task.id()).collect();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), known, "a task twice");
            assert!(ids.contains(&current_task().unwrap().id()));
            sleep(Duration::from_micros(100)).await;
        }
        makers.into_iter().for_each(|maker| maker.join().unwrap());
    });
}

#[test]
fn task_37_tasks_that_take_turns_always_see_themselves() {
    run(async {
        let task = || {
            create_task(async {
                let own = current_task().unwrap().id();
                for _ in 0..100 {
                    yield_now().await;
                    assert_eq!(current_task().unwrap().id(), own);
                }
            })
        };
        let (a, b) = (task(), task());
        a.await.unwrap();
        b.await.unwrap();
    });
}

#[test]
fn task_39_a_task_whose_handle_is_dropped_goes_on() {
    run(async {
        let done = Rc::new(Cell::new(false));
        let flag = done.clone();
        drop(create_task(async move {
            sleep(Duration::from_millis(1)).await;
            yield_now().await;
            flag.set(true);
        }));
        while !done.get() {
            yield_now().await;
        }
        assert_eq!(metrics().tasks, 1);
    });
}

#[test]
fn task_40_a_result_that_was_read_is_not_reported() {
    run(async {
        let heard = reports();
        let mut task = create_task(async { panic!("read") });
        assert_eq!(panic_text::<()>((&mut task).await), "read");
        assert!(!task.cancel());
        drop(task);
        yield_now().await;
        assert!(heard.borrow().is_empty(), "{heard:?}");
    });
}

#[test]
fn task_49_a_created_task_does_not_run_before_its_creator_suspends() {
    on_every(async || {
        let other = log();
        let done = create_task(async { 1 });
        let (resolver, future) = create_future();
        resolver.set_result(2).unwrap();
        yield_now().await;
        assert!(done.done());
        let theirs = other.clone();
        let task = create_task(async move { theirs.borrow_mut().push("other") });
        // None of these yields: each can proceed at once.
        let plain = async { 0 }.await;
        let (done, future) = (done.await.unwrap(), future.await.unwrap());
        let timed = timeout(Duration::from_secs(1), async { 3 }).await.unwrap();
        assert_eq!([plain, done, future, timed], [0, 1, 2, 3]);
        assert!(other.borrow().is_empty() && !task.done());
        yield_now().await;
        assert_eq!(*other.borrow(), ["other"], "it runs at the first suspension");
        task.await.unwrap();
    });
}

#[test]
fn task_50_tasks_start_in_the_order_of_creation() {
    run(async {
        let order = log();
        let tasks: Vec<_> = (0..100)
            .map(|n| {
                let order = order.clone();
                create_task(async move { order.borrow_mut().push(n) })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.borrow(), (0..100).collect::<Vec<_>>());
    });
}

#[test]
fn task_50_work_queued_in_a_turn_runs_in_the_next() {
    run(async {
        let order = log();
        let (first, second) = (order.clone(), order.clone());
        drop(create_task(async move {
            let child = first.clone();
            first.borrow_mut().push("a, turn 1");
            drop(create_task(async move { child.borrow_mut().push("child, turn 2") }));
            yield_now().await;
            first.borrow_mut().push("a, turn 2");
        }));
        drop(create_task(async move { second.borrow_mut().push("b, turn 1") }));
        for _ in 0..3 {
            yield_now().await;
        }
        assert_eq!(*order.borrow(), ["a, turn 1", "b, turn 1", "child, turn 2", "a, turn 2"]);
    });
}

#[test]
fn a_task_that_finished_first_keeps_its_result() {
    run(async {
        let mut task = create_task(async { 42 });
        yield_now().await;
        assert!(task.done());
        assert!(!task.cancel(), "too late");
        assert_eq!((&mut task).await.unwrap(), 42);
        assert!(!task.cancelled());
        // Cancelled by a sibling in the very turn in which it finishes.
        let place = Rc::new(RefCell::new(None::<Task<i32>>));
        let target = place.clone();
        let finishing = create_task(async { 43 });
        let canceller = create_task(async move { target.borrow().as_ref().unwrap().cancel() });
        *place.borrow_mut() = Some(finishing);
        assert!(!canceller.await.unwrap());
        let finishing = place.borrow_mut().take().unwrap();
        assert_eq!(finishing.await.unwrap(), 43);
    });
}

#[test]
fn done_callbacks_run_once_in_order_with_the_tasks_name() {
    run(async {
        let order = log();
        let task = create_task_named("watched", async {});
        for n in 0..3 {
            let order = order.clone();
            task.add_done_callback(move |info| order.borrow_mut().push((n, info.name())));
        }
        yield_now().await;
        assert_eq!(order.borrow().len(), 3, "called in the turn in which the task ended");
        let late = order.clone();
        task.add_done_callback(move |info| late.borrow_mut().push((3, info.name())));
        yield_now().await;
        let names = order.borrow().clone();
        assert_eq!(names, (0..4).map(|n| (n, "watched".to_owned())).collect::<Vec<_>>());
        task.await.unwrap();
    });
}

#[test]
fn done_callbacks_run_for_cancelled_panicked_and_detached_tasks() {
    run(async {
        let _heard = reports();
        let count = Rc::new(Cell::new(0));
        let watch = |task: &Task<()>| {
            let count = count.clone();
            task.add_done_callback(move |_| count.set(count.get() + 1));
        };
        let cancelled = create_task(pending());
        let panicked = create_task(async { panic!("callback anyway") });
        let detached = create_task(async {});
        watch(&cancelled);
        watch(&panicked);
        watch(&detached);
        drop(detached);
        cancelled.cancel();
        assert!(is_cancelled(&cancelled.await));
        assert!(panicked.await.is_err());
        assert_eq!(count.get(), 3);
    });
}

#[test]
fn g1_a_panic_in_poll_is_the_tasks_result() {
    run(async {
        let sibling = create_task(async {
            yield_now().await;
            7
        });
        let at_once = create_task(async { panic!("at {}", "once") });
        let later = create_task(async {
            yield_now().await;
            panic!("later")
        });
        assert_eq!(panic_text::<()>(at_once.await), "at once");
        assert_eq!(panic_text::<()>(later.await), "later");
        assert_eq!(sibling.await.unwrap(), 7);
    });
}

#[test]
fn g1_a_panic_in_the_futures_drop_is_the_tasks_result() {
    struct Ready(#[allow(dead_code, reason = "its destructor is the test")] DropBomb);
    impl Future for Ready {
        type Output = i32;
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<i32> {
            Poll::Ready(1)
        }
    }
    run(async {
        let sibling = create_task(async {
            yield_now().await;
            7
        });
        let completes = create_task(Ready(DropBomb));
        let cancelled = create_task(async {
            let _bomb = DropBomb;
            pending::<()>().await;
        });
        yield_now().await;
        assert_eq!(panic_text(completes.await), "a destructor panics");
        cancelled.cancel();
        assert_eq!(panic_text(cancelled.await), "a destructor panics");
        assert_eq!(sibling.await.unwrap(), 7);
    });
}

#[test]
fn g1_a_panic_in_a_results_drop_stays_inside() {
    run(async {
        let heard = reports();
        drop(create_task(async { DropBomb }));
        let done = create_task(async { DropBomb });
        yield_now().await;
        yield_now().await;
        drop(done);
        yield_now().await;
        assert_eq!(heard.borrow().len(), 2, "{heard:?}");
    });
}

#[test]
fn g1_a_panic_in_a_joiners_waker_stays_inside() {
    let bomb = Waker::from(Arc::new(PanicWaker));
    run(async move {
        let heard = reports();
        let mut plain = create_task(yield_now());
        let mut named = create_task_named("named", yield_now());
        let sibling = create_task(async {
            for _ in 0..5 {
                yield_now().await;
            }
            7
        });
        assert!(poll_with(&mut plain, &bomb).is_pending());
        assert!(poll_with(&mut named, &bomb).is_pending());
        assert_eq!(sibling.await.unwrap(), 7);
        plain.await.unwrap();
        named.await.unwrap();
        assert_eq!(heard.borrow().len(), 2, "{heard:?}");
    });
}

#[test]
fn g1_a_panic_in_a_timers_waker_stays_inside() {
    let bomb = Waker::from(Arc::new(PanicWaker));
    run(async move {
        let heard = reports();
        let mut bad = sleep(Duration::ZERO);
        assert!(poll_with(&mut bad, &bomb).is_pending());
        // Due in the same turn, after it.
        sleep(Duration::ZERO).await;
        sleep(Duration::from_millis(1)).await;
        assert!(poll_with(&mut bad, &bomb).is_ready());
        assert_eq!(heard.borrow().len(), 1, "{heard:?}");
    });
}

#[test]
fn g1_a_panic_in_an_operations_waker_stays_inside() {
    let bomb = Waker::from(Arc::new(PanicWaker));
    run(async move {
        let mut bad = submit(common::Nop);
        assert!(poll_with(&mut bad, &bomb).is_pending());
        submit(common::Nop).await.unwrap();
        yield_now().await;
        assert!(matches!(poll_with(&mut bad, &bomb), Poll::Ready(Ok(()))));
    });
}

/// Panics with what panics again when it is dropped.
struct DoubleBomb;

impl Wake for DoubleBomb {
    fn wake(self: Arc<Self>) {
        std::panic::panic_any(DropBomb);
    }
}

#[test]
fn g1_a_wakers_panic_with_what_panics_again_costs_nobody_behind_it_the_wake() {
    let bomb = Waker::from(Arc::new(DoubleBomb));
    run(async move {
        let heard = reports();
        let (mut timer, mut op) = (sleep(Duration::ZERO), submit(common::Nop));
        assert!(poll_with(&mut timer, &bomb).is_pending() && poll_with(&mut op, &bomb).is_pending());
        // Each due in the same turn, after it.
        let (timer_behind, op_behind) = (sleep(Duration::ZERO), submit(common::Nop));
        let waits = create_task(timer_behind);
        op_behind.await.unwrap();
        waits.await.unwrap();
        assert_eq!(heard.borrow().len(), 2, "{heard:?}");
        // So with callbacks.
        call_soon(|| std::panic::panic_any(DropBomb));
        let called = Rc::new(Cell::new(false));
        let behind = called.clone();
        call_soon(move || behind.set(true));
        yield_now().await;
        assert!(called.get() && heard.borrow().len() == 3, "{heard:?}");
    });
}

#[test]
fn g1_loop_17_loop_19_panics_in_callbacks_reach_the_exception_handler() {
    run(async {
        let heard = reports();
        let task = create_task(async { 5 });
        task.add_done_callback(|_| panic!("in a done callback"));
        call_soon(|| panic!("in call_soon"));
        call_later(Duration::ZERO, || panic!("in call_later"));
        assert_eq!(task.await.unwrap(), 5);
        sleep(Duration::from_millis(1)).await;
        let heard = heard.borrow();
        for place in ["in a done callback", "in call_soon", "in call_later"] {
            assert!(heard.iter().any(|text| text.contains(place)), "{place}: {heard:?}");
        }
    });
}

#[test]
fn loop_20_an_exception_handler_that_panics_does_not_end_the_loop() {
    run(async {
        let calls = Rc::new(Cell::new(0));
        let count = calls.clone();
        set_exception_handler(move |_| {
            count.set(count.get() + 1);
            panic!("the handler itself");
        });
        drop(create_task(async { panic!("unread") }));
        call_soon(|| panic!("in call_soon"));
        yield_now().await;
        yield_now().await;
        assert!(calls.get() >= 2, "{calls:?}");
    });
}

/// A waker whose last share holds a task's handle: dropping it reaches into the task table.
struct HoldsTask(#[allow(dead_code, reason = "its destructor is the test")] Mutex<Option<Task<()>>>);

impl Wake for HoldsTask {
    fn wake(self: Arc<Self>) {}
}

fn holds_task() -> Waker {
    Waker::from(Arc::new(HoldsTask(Mutex::new(Some(create_task(pending()))))))
}

#[test]
fn g1_a_foreign_wakers_drop_may_use_the_loop() {
    run(async {
        let mut task = create_task(pending::<()>());
        assert!(poll_with(&mut task, &holds_task()).is_pending());
        assert!(poll_with(&mut task, &holds_task()).is_pending(), "replaces a joiner");
        drop(task);

        let mut sleeper = sleep(Duration::from_secs(60));
        for _ in 0..2 {
            assert!(poll_with(&mut sleeper, &holds_sleep()).is_pending());
        }
        drop(sleeper);
        assert_eq!(metrics().timers, 0);

        let (fd, _peer) = common::pair();
        let mut op = submit(common::recv(&fd, 8));
        assert!(poll_with(&mut op, &holds_op(&fd)).is_pending());
        assert!(poll_with(&mut op, &holds_op(&fd)).is_pending());
        drop(op);
        while metrics().operations > 0 {
            yield_now().await;
        }
    });
}

/// As `HoldsTask`, for the timers and the operations.
struct Holds<T>(#[allow(dead_code, reason = "its destructor is the test")] Mutex<T>);

impl<T: Send + 'static> Wake for Holds<T> {
    fn wake(self: Arc<Self>) {}
}

fn holds_sleep() -> Waker {
    let mut inner = sleep(Duration::from_secs(60));
    let _ = common::poll_once(&mut inner);
    Waker::from(Arc::new(Holds(Mutex::new(inner))))
}

fn holds_op(fd: &corio_runtime::fd::Fd) -> Waker {
    Waker::from(Arc::new(Holds(Mutex::new(submit(common::recv(fd, 8))))))
}

/// Memory may grow this much while a million of something come and go: a leaked slot each would not fit.
const SLACK_KIB: usize = 6 * 1024;

#[test]
fn g2_a_million_detached_tasks_leave_memory_flat() {
    if !common::in_own_process("g2_a_million_detached_tasks_leave_memory_flat") {
        return;
    }
    run(async {
        let round = || async {
            for n in 0..1000 {
                let task = create_task(async move {
                    yield_now().await;
                    vec![0u8; n % 64]
                });
                match n % 4 {
                    0 => drop(task.cancel()),
                    1 => {
                        let _ = timeout(Duration::ZERO, task).await;
                    }
                    _ => drop(task),
                }
            }
            while metrics().tasks > 1 {
                yield_now().await;
            }
        };
        for _ in 0..50 {
            round().await;
        }
        let before = resident_kib();
        for _ in 0..1000 {
            round().await;
        }
        assert_eq!((metrics().tasks, metrics().timers, metrics().ready), (1, 0, 0));
        let grown = resident_kib().saturating_sub(before);
        assert!(grown < SLACK_KIB, "{grown} KiB leaked");
    });
}

#[test]
fn g2_a_million_callbacks_and_sleeps_leave_memory_flat() {
    if !common::in_own_process("g2_a_million_callbacks_and_sleeps_leave_memory_flat") {
        return;
    }
    run(async {
        let round = || async {
            for n in 0..1000 {
                match n % 4 {
                    0 => drop(call_soon(|| ())),
                    1 => call_later(Duration::from_secs(60), || ()).cancel(),
                    2 => drop(common::poll_once(&mut sleep(Duration::from_secs(60)))),
                    _ => drop(call_later(Duration::ZERO, || ())),
                }
            }
            while metrics().timers > 0 || metrics().ready > 0 {
                yield_now().await;
            }
        };
        for _ in 0..50 {
            round().await;
        }
        let before = resident_kib();
        for _ in 0..1000 {
            round().await;
        }
        let grown = resident_kib().saturating_sub(before);
        assert!(grown < SLACK_KIB, "{grown} KiB leaked");
    });
}

#[test]
fn g3_a_task_that_wakes_itself_for_ever_starves_nobody() {
    run(async {
        drop(create_task(poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        })));
        let (fd, mut peer) = common::pair();
        for round in 0..100u8 {
            let receive = submit(common::recv(&fd, 8));
            peer.write_all(&[round]).unwrap();
            assert_eq!(receive.await.unwrap(), [round]);
            sleep(Duration::from_micros(50)).await;
            submit(common::Nop).await.unwrap();
        }
        // Sent only once the receive is with the kernel.
        let receive = create_task(submit(common::recv(&fd, 8)));
        sleep(Duration::from_millis(5)).await;
        peer.write_all(b"late").unwrap();
        assert_eq!(receive.await.unwrap().unwrap(), b"late");
    });
}

#[test]
fn loop_01_call_soon_runs_in_the_next_turn_in_order() {
    run(async {
        let order = log();
        for n in 0..10 {
            let order = order.clone();
            call_soon(move || order.borrow_mut().push(n));
        }
        assert!(order.borrow().is_empty());
        yield_now().await;
        assert_eq!(*order.borrow(), (0..10).collect::<Vec<_>>());
    });
}

#[test]
fn loop_02_a_callback_of_a_callback_waits_for_the_next_turn() {
    run(async {
        let turns = turn_counter();
        yield_now().await;
        let seen = log();
        let (outer, count) = (seen.clone(), turns.clone());
        call_soon(move || {
            outer.borrow_mut().push(count.get());
            call_soon(move || outer.borrow_mut().push(count.get()));
        });
        for _ in 0..3 {
            yield_now().await;
        }
        let seen = seen.borrow();
        assert_eq!(seen[1], seen[0] + 1);
    });
}

#[test]
fn loop_03_loop_06_call_later_and_call_at_are_never_early() {
    run(async {
        let fired = log();
        let start = Instant::now();
        let (later, at) = (fired.clone(), fired.clone());
        let delay = Duration::from_millis(20);
        let first = call_later(delay, move || later.borrow_mut().push(start.elapsed()));
        let second = call_at(now() + delay, move || at.borrow_mut().push(start.elapsed()));
        assert!(first.when().unwrap() >= start + delay && second.when().unwrap() >= start + delay);
        while fired.borrow().len() < 2 {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(fired.borrow().iter().all(|&after| after >= delay), "{fired:?}");
    });
}

#[test]
fn loop_04_of_two_past_deadlines_the_earlier_is_first() {
    run(async {
        let order = log();
        let (a, b) = (order.clone(), order.clone());
        call_at(now() - Duration::from_secs(1), move || a.borrow_mut().push("-1"));
        call_at(now() - Duration::from_secs(2), move || b.borrow_mut().push("-2"));
        assert!(order.borrow().is_empty());
        for _ in 0..3 {
            yield_now().await;
        }
        assert_eq!(*order.borrow(), ["-2", "-1"]);
    });
}

#[test]
fn loop_07_equal_deadlines_fire_in_the_order_of_creation() {
    run(async {
        let order = log();
        let at = now() + Duration::from_millis(2);
        for n in 0..200 {
            let order = order.clone();
            call_at(at, move || order.borrow_mut().push(n));
        }
        while order.borrow().len() < 200 {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(*order.borrow(), (0..200).collect::<Vec<_>>());
    });
}

#[test]
fn loop_13_timers_fire_in_the_order_of_their_deadlines_alone() {
    on_every(async || {
        let order = log();
        let start = now();
        for n in (0..100u64).map(|n| n * 37 % 100) {
            let order = order.clone();
            call_at(start + Duration::from_micros(20 * n), move || order.borrow_mut().push(n));
        }
        while order.borrow().len() < 100 {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(*order.borrow(), (0..100).collect::<Vec<_>>());
    });
}

#[test]
fn loop_09_cancelled_timers_do_not_end_the_sleep() {
    on_every(async || {
        for millis in 1..=9 {
            call_later(Duration::from_millis(millis), || unreachable!("it was cancelled")).cancel();
        }
        assert_eq!(metrics().timers, 0);
        let (start, enters) = (now(), metrics().ring.enters);
        sleep(Duration::from_millis(20)).await;
        assert!(now() - start >= Duration::from_millis(20));
        let used = metrics().ring.enters - enters;
        assert!(used <= 4, "{used} enters for one sleep");
    });
}

#[test]
fn loop_08_short_sleeps_do_not_spin() {
    on_every(async || {
        let turns = metrics().turns;
        for exponent in 2..=10 {
            sleep(Duration::from_secs_f64(0.1f64.powi(exponent))).await;
        }
        let used = metrics().turns - turns;
        assert!(used <= 20, "{used} turns for 9 sleeps");
    });
}

#[test]
fn loop_12_a_cancelled_callback_is_never_called_and_is_dropped_at_once() {
    run(async {
        let drops = DropCount::default();
        let callback = || {
            let probe = drops.probe();
            move || {
                drop(probe);
                panic!("a cancelled callback was called");
            }
        };
        let soon = call_soon(callback());
        let later = call_later(Duration::ZERO, callback());
        let far = call_later(Duration::from_secs(60), callback());
        assert!(!soon.cancelled() && !later.cancelled());
        soon.cancel();
        later.cancel();
        far.cancel();
        far.cancel();
        assert!(soon.cancelled() && later.cancelled() && far.cancelled());
        assert_eq!(drops.get(), 3);
        assert_eq!(metrics().timers, 0);
        // A stale handle does not reach the next callback in the same slot.
        let called = Rc::new(Cell::new(0));
        for _ in 0..5 {
            yield_now().await;
            let count = called.clone();
            call_soon(move || count.set(count.get() + 1));
            soon.cancel();
            later.cancel();
            yield_now().await;
        }
        assert_eq!(called.get(), 5);
    });
}

#[test]
fn loop_12_a_timer_that_fired_but_did_not_run_yet_can_be_cancelled() {
    run(async {
        let place = Rc::new(RefCell::new(None::<corio_runtime::TimerHandle>));
        let target = place.clone();
        let at = now();
        let order = log();
        let (first, second) = (order.clone(), order.clone());
        call_at(at, move || {
            first.borrow_mut().push(1);
            target.borrow().as_ref().unwrap().cancel();
        });
        *place.borrow_mut() = Some(call_at(at, move || second.borrow_mut().push(2)));
        for _ in 0..4 {
            yield_now().await;
        }
        assert_eq!(*order.borrow(), [1]);
    });
}

#[test]
fn loop_18_a_handler_hears_what_happened_and_in_which_task() {
    let heard: Log<String> = log();
    let theirs = heard.clone();
    run(async move {
        corio_runtime::set_exception_handler(move |context| {
            let task = context.task().map(|task| task.name());
            theirs.borrow_mut().push(format!("{} {:?} {:?}", context.message(), task, context.error()));
        });
        drop(corio_runtime::create_task_named("lost", async { panic!("zero") }));
        yield_now().await;
        let error = std::io::Error::other("a cause");
        let context = corio_runtime::ExceptionContext::new("told").with_error(error);
        corio_runtime::call_exception_handler(&context);
    });
    let heard = heard.borrow();
    let is_heard = |a: &str, b: &str| heard.iter().any(|text| text.contains(a) && text.contains(b));
    assert!(is_heard("zero", "Some(\"lost\")") && is_heard("told None", "a cause"), "{heard:?}");
}
