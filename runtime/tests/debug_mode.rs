//! What the loop reports of tasks that do not behave.

mod common;

use std::{
    cell::Cell,
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
fn a_step_of_a_second_is_noticed_without_debug_mode() {
    let mut runner = Runner::builder().debug(false).build().unwrap();
    assert!(!runner.is_debug());
    assert!(reports(&mut runner, ms(10)).is_empty());
    let said = reports(&mut runner, ms(1100));
    assert!(said[0].contains("kept the loop for "), "{said:?}");
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
