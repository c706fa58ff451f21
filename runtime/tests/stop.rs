//! `stop`, `run_forever` and `try_run`: runs that end otherwise than with main's value.

mod common;

use std::{cell::Cell, future::pending, rc::Rc, thread};

use common::{DropCount, Log, kernels, ms, on, turns};
use corio_runtime::{
    Backend, RunError, Runner, TaskError, TaskInfo, call_soon, create_task, current_task, run, stop,
    time::{now, sleep},
    with_cleanup, yield_now,
};

fn on_each(test: impl Fn(&mut Runner)) {
    kernels().into_iter().for_each(|backend| test(&mut on(backend)));
}

/// The message of the panic of `f`.
fn panic_message(f: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let payload = std::panic::catch_unwind(f).unwrap_err();
    payload.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn run_20_a_cancel_of_main_ends_try_run_with_cancelled() {
    on_each(|runner| {
        let ended = runner.try_run(async {
            let main = current_task().unwrap();
            let child = create_task(async move {
                yield_now().await;
                assert!(main.cancel());
            });
            sleep(ms(60_000)).await;
            drop(child);
        });
        assert_eq!(ended, Err(RunError::Cancelled));
        assert_eq!(runner.try_run(async { 1 }), Ok(1), "the loop goes on");
    });
}

#[test]
fn run_20_the_cancel_works_from_another_thread_and_for_a_main_that_is_busy() {
    on_each(|runner| {
        let ended = runner.try_run(async {
            let main = current_task().unwrap();
            let thread = thread::spawn(move || main.cancel());
            loop {
                yield_now().await;
                if thread.is_finished() {
                    sleep(ms(1)).await;
                }
            }
        });
        assert_eq!(ended, Err::<(), _>(RunError::Cancelled));
    });
}

#[test]
fn run_20_main_is_dropped_in_its_step_and_the_rest_of_the_turn_still_runs() {
    struct Say(Log<&'static str>, &'static str);
    impl Drop for Say {
        fn drop(&mut self) {
            self.0.push(self.1);
        }
    }
    on_each(|runner| {
        let log = Log::new();
        let (mains, others) = (log.clone(), log.clone());
        let ended = runner.try_run(async move {
            let _main = Say(mains, "main");
            let main = current_task().unwrap();
            drop(create_task(async move {
                main.cancel();
                // Behind main in the next turn.
                drop(create_task(async move {
                    others.push("task");
                    yield_now().await;
                    others.push("next turn");
                }));
            }));
            pending::<()>().await;
        });
        assert_eq!(ended, Err(RunError::Cancelled));
        assert_eq!(log.get(), ["main", "task"], "the task's second step is of a later turn");
        runner.run(turns(2));
        assert_eq!(log.get(), ["main", "task", "next turn"]);
    });
}

#[test]
fn run_20_the_run_waits_for_mains_cleanups() {
    on_each(|runner| {
        let cleaned = Rc::new(Cell::new(0));
        let (main, child) = (cleaned.clone(), cleaned.clone());
        let ended = runner.try_run(async move {
            let cleanup = move || async move {
                sleep(ms(2)).await;
                main.set(main.get() + 1);
            };
            let with_child = async {
                let child = create_task(with_cleanup(pending::<()>(), move || async move {
                    sleep(ms(4)).await;
                    child.set(child.get() + 1);
                }));
                turns(1).await;
                let _child = child.cancel_on_drop();
                current_task().unwrap().cancel();
                pending::<()>().await;
            };
            with_cleanup(with_child, cleanup).await;
        });
        assert_eq!((ended, cleaned.get()), (Err(RunError::Cancelled), 2));
    });
}

#[test]
fn run_20_a_cancel_wins_over_a_value_of_the_same_step_and_run_refuses_it() {
    on_each(|runner| {
        let cancelled = || current_task().unwrap().cancel();
        assert_eq!(runner.try_run(async { cancelled() }), Err(RunError::Cancelled));
        assert!(!runner.run(async { cancelled() }), "`run` has no other end");
        let main: TaskInfo = runner.run(async { current_task().unwrap() });
        runner.enter(|| assert!(!main.cancel(), "it has ended"));
    });
}

#[test]
fn run_27_a_stop_ends_the_run_before_main_is_done() {
    on_each(|runner| {
        let dropped = DropCount::default();
        let probe = dropped.probe();
        let ended = runner.try_run(async move {
            let _probe = probe;
            stop();
            pending::<()>().await;
        });
        assert_eq!((ended, dropped.get()), (Err(RunError::Stopped), 1));
        assert_eq!(RunError::Stopped.to_string(), "event loop stopped before main completed");
        let later = runner.try_run(async {
            sleep(ms(1)).await;
            2
        });
        assert_eq!(later, Ok(2), "the next run is not stopped");
        let value = runner.try_run(async {
            stop();
            3
        });
        assert_eq!(value, Ok(3), "main was done in that turn");
    });
}

#[test]
fn run_27_a_plain_run_panics() {
    let text = panic_message(|| {
        run(async {
            stop();
            pending::<()>().await;
        });
    });
    assert!(text.contains("event loop stopped before main completed"), "{text}");
}

#[test]
fn run_28_a_stopped_task_is_pending_and_goes_on_or_is_cancelled_in_the_next_run() {
    let mut runner = on(Backend::Sim { seed: 7 });
    let counted = Rc::new(Cell::new(0u32));
    let count = counted.clone();
    let mut task = runner.create_task(async move {
        while count.get() < 10 {
            sleep(ms(100)).await;
            count.set(count.get() + 1);
            if count.get().is_multiple_of(2) {
                stop();
            }
        }
    });
    let start = runner.enter(now);
    for round in 1..3u64 {
        assert!(matches!(runner.try_run(&mut task), Err(RunError::Stopped)));
        assert_eq!((counted.get(), runner.enter(|| task.done())), (2 * round as u32, false));
        assert_eq!(runner.enter(now) - start, ms(200 * round), "the stop waits for nothing");
    }
    assert!(runner.enter(|| task.cancel()));
    assert!(matches!(runner.try_run(task), Ok(Err(TaskError::Cancelled))));
    assert_eq!(counted.get(), 4);
}

#[test]
fn run_31_a_stop_lets_the_turn_end_and_leaves_the_next_one() {
    on_each(|runner| {
        let log = Log::new();
        let theirs = log.clone();
        runner.enter(|| {
            let (first, second) = (theirs.clone(), theirs.clone());
            call_soon(move || {
                stop();
                first.push(1);
                call_soon(move || first.push(3));
            });
            call_soon(move || second.push(2));
        });
        runner.run_forever().unwrap();
        assert_eq!(log.get(), [1, 2]);
        runner.enter(stop);
        runner.run_forever().unwrap();
        assert_eq!(log.get(), [1, 2, 3], "stopped before it begins, a run has one turn");
    });
}

#[test]
fn another_thread_stops_a_loop_that_sleeps() {
    on_each(|runner| {
        let handle = runner.handle();
        let log = Log::new();
        let theirs = log.clone();
        let task = runner.create_task(async move {
            theirs.push("begun");
            pending::<()>().await;
        });
        let thread = thread::spawn(move || handle.stop().unwrap());
        runner.run_forever().unwrap();
        thread.join().unwrap();
        assert!(!runner.enter(|| task.done()));
        let (sender, received) = std::sync::mpsc::channel();
        let sent = thread::spawn(move || {
            handle.call_soon_threadsafe(move || sender.send(1).unwrap()).unwrap();
            handle.stop().unwrap();
        });
        sent.join().unwrap();
        runner.run_forever().unwrap();
        assert_eq!(received.try_recv(), Ok(1), "what was sent before the stop is done");
        assert_eq!(log.get(), ["begun"]);
        drop(task);
    });
}

#[test]
fn the_cleanups_of_a_closing_loop_cannot_stop_it() {
    for backend in kernels() {
        let cleaned = Rc::new(Cell::new(false));
        let flag = cleaned.clone();
        let mut runner = on(backend);
        drop(runner.create_task(with_cleanup(pending::<()>(), move || async move {
            stop();
            sleep(ms(2)).await;
            flag.set(true);
        })));
        runner.run(turns(1));
        runner.enter(stop);
        runner.close();
        assert!(cleaned.get());
    }
}

#[test]
fn a_host_that_turns_the_loop_sees_a_turn_that_does_not_wait() {
    for backend in common::real_kernels() {
        let mut runner = on(backend);
        drop(runner.create_task(async { stop() }));
        runner.turn(None).unwrap();
        let slept = runner.create_task(sleep(ms(2)));
        while !runner.enter(|| slept.done()) {
            runner.turn(None).unwrap();
        }
    }
}
