//! Reports about tasks that block the loop.

mod common;

use std::{
    cell::Cell,
    future::Future,
    thread,
    time::{Duration, Instant},
};

use common::{Log, assert_passed, child, is_child, ms};
use corio_runtime::{
    Runner, create_future, create_task, create_task_named, set_exception_handler, time, yield_now,
};

/// The reports of a run in which a task named "slow" blocks the thread for `time`.
fn reports(runner: &mut Runner, time: Duration) -> Vec<String> {
    let log = Log::new();
    let heard = log.clone();
    runner.run(async move {
        set_exception_handler(move |context| heard.push(context.to_string()));
        create_task_named("slow", async move { thread::sleep(time) }).await.unwrap();
        time::sleep(ms(1)).await;
    });
    log.get()
}

#[test]
fn run_10_loop_22_debug_mode_reports_slow_steps_with_task_and_place() {
    let mut runner = Runner::builder().debug(true).build().unwrap();
    assert!(runner.is_debug());
    let mut said = reports(&mut runner, ms(110));
    // A slow machine may make others slow, too.
    said.retain(|said| said.contains("[slow created at runtime/tests/debug_mode.rs:"));
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("Executing a task's step took "), "{said:?}");
    let mut limited = Runner::builder().slow_callback(ms(1)).build().unwrap();
    assert!(!reports(&mut limited, ms(5)).is_empty());
}

#[test]
fn run_10_debug_mode_reports_slow_callbacks_too() {
    let log = Log::new();
    let heard = log.clone();
    Runner::builder().slow_callback(ms(50)).build().unwrap().run(async {
        set_exception_handler(move |context| heard.push(context.to_string()));
        let slow = || thread::sleep(ms(60));
        corio_runtime::call_soon(slow);
        corio_runtime::call_later(ms(1), slow);
        corio_runtime::handle().call_soon_threadsafe(slow).unwrap();
        time::sleep(ms(2)).await;
        let call = corio_runtime::run_coroutine_threadsafe(&corio_runtime::handle(), move || {
            slow();
            async {}
        });
        call.await.unwrap();
    });
    let count = |text: &str| log.get().iter().filter(|said| said.starts_with(text)).count();
    assert_eq!(count("Executing a callback took 0."), 3, "{:?}", log.get());
    assert_eq!(count("Executing a call from another thread took 0."), 1, "{:?}", log.get());
}

#[test]
fn a_step_of_a_second_is_noticed_without_debug_mode() {
    let mut runner = Runner::builder().debug(false).build().unwrap();
    assert!(!runner.is_debug());
    assert!(reports(&mut runner, ms(10)).is_empty());
    let said = reports(&mut runner, ms(1100));
    let named = |said: &String| {
        said.contains("kept the loop for ") && said.contains("[slow created at runtime/tests/debug_mode.rs:")
    };
    assert!(said.iter().any(named), "{said:?}");
}

/// The reports of a run of `main`, which itself may be what is slow.
fn heard(main: impl Future<Output = ()>) -> Vec<String> {
    let log = Log::new();
    let heard = log.clone();
    Runner::builder().debug(false).build().unwrap().run(async move {
        set_exception_handler(move |context| heard.push(context.to_string()));
        main.await;
    });
    log.get()
}

fn block() {
    thread::sleep(ms(1100));
}

#[test]
fn the_step_that_ends_a_run_is_noticed_too() {
    let said = heard(async { block() });
    assert!(
        said.iter().any(|said| said.contains("kept the loop for ") && said.contains("[Task-")),
        "{said:?}"
    );
    // Nobody waits for it, and the run ends in the same turn.
    let said = heard(async {
        drop(create_task_named("last", async { block() }));
        yield_now().await;
    });
    assert!(
        said.iter().any(|said| said.contains("[last created at runtime/tests/debug_mode.rs:")),
        "{said:?}"
    );
}

#[test]
fn a_slow_step_amid_many_is_named_with_the_others_and_alone_the_next_time() {
    let said = heard(async {
        let tasks: Vec<_> = (0..40)
            .map(|n| {
                create_task_named(format!("of-many-{n}"), async move {
                    for _ in 0..2 {
                        if n == 7 {
                            block();
                        }
                        yield_now().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    let named = said
        .iter()
        .position(|said| said.contains("steps kept the loop for ") && said.contains("of-many-7 created at"));
    let alone = said.iter().position(|said| said.contains("[of-many-7 created at"));
    assert!(named.is_some_and(|named| alone.is_some_and(|alone| named < alone)), "{said:?}");
}

#[test]
fn what_is_no_step_of_a_task_is_told_apart() {
    let said = heard(async {
        corio_runtime::call_soon(block);
        time::sleep(ms(1)).await;
    });
    assert!(said.iter().any(|said| said.contains("a callback kept the loop for ")), "{said:?}");
    let said = heard(async {
        let home = corio_runtime::handle();
        let call = corio_runtime::run_coroutine_threadsafe(&home, || {
            block();
            async {}
        });
        call.await.unwrap();
    });
    assert!(said.iter().any(|said| said.contains("calls from other threads kept the loop for ")), "{said:?}");
    assert!(!said.iter().any(|said| said.contains("[Task-")), "{said:?}");
}

#[test]
fn whom_the_report_of_a_slow_step_wakes_runs_before_the_loop_sleeps() {
    Runner::builder().debug(false).build().unwrap().run(async {
        let (resolver, heard) = create_future();
        let resolver = Cell::new(Some(resolver));
        set_exception_handler(move |_| resolver.take().into_iter().for_each(|r| r.set_result(()).unwrap()));
        let (started, waits) = (Instant::now(), create_task(heard));
        let _timer = create_task(time::sleep(Duration::from_secs(600)));
        yield_now().await;
        thread::sleep(ms(1100));
        waits.await.unwrap().unwrap();
        assert!(started.elapsed() < Duration::from_secs(500), "the loop slept");
    });
}

#[test]
fn run_04_debug_given_explicitly_wins_over_the_environment() {
    const TEST: &str = "run_04_debug_given_explicitly_wins_over_the_environment";
    if is_child(TEST) {
        let expected = std::env::var("CORIO_DEBUG").unwrap() == "1";
        assert_eq!(Runner::new().unwrap().is_debug(), expected);
        assert!(!Runner::builder().debug(false).build().unwrap().is_debug());
        assert!(Runner::builder().debug(true).build().unwrap().is_debug());
        return;
    }
    for value in ["", "0", "1"] {
        assert_passed(TEST, &child(TEST).env("CORIO_DEBUG", value).output().unwrap());
    }
}

#[test]
fn a_task_that_will_not_end_is_named_when_the_loop_closes() {
    async fn never(_again: Again) {
        std::future::pending::<()>().await;
    }
    struct Again(Log<String>);
    impl Drop for Again {
        fn drop(&mut self) {
            if self.0.get().is_empty() {
                drop(create_task_named("again", never(Again(self.0.clone()))));
            }
        }
    }
    let log = Log::new();
    let (heard, seen) = (log.clone(), log.clone());
    let mut runner = Runner::new().unwrap();
    runner.run(async move {
        set_exception_handler(move |context| heard.push(context.to_string()));
        drop(create_task_named("again", never(Again(seen))));
        yield_now().await;
    });
    runner.close();
    assert!(
        log.get().iter().any(|said| said.contains("destroyed but it is pending! [again")),
        "{:?}",
        log.get()
    );
}
