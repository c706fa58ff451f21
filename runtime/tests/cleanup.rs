//! `with_cleanup`: cleanups that await after a cancel.

mod common;

use std::{cell::Cell, rc::Rc, time::Duration};

use common::{Log, kernels, ms, on, on_every, turns, until};
use corio_runtime::{
    Backend, Runner, TaskError, create_task,
    time::{self, sleep, timeout},
    with_cleanup,
};

#[test]
fn a_cancelled_future_is_cleaned_up_by_the_loop() {
    on_every(async || {
        let log = Log::new();
        let theirs = log.clone();
        let task = create_task(with_cleanup(std::future::pending::<()>(), move || async move {
            theirs.push("begun");
            sleep(ms(1)).await;
            theirs.push("ended");
        }));
        turns(1).await;
        task.cancel();
        assert!(matches!(task.await, Err(TaskError::Cancelled)));
        until(|| log.get() == ["begun", "ended"]).await;
    });
}

#[test]
fn a_future_that_ends_or_never_began_has_nothing_to_clean_up() {
    on_every(async || {
        let called = Rc::new(Cell::new(false));
        let cleanup = || {
            let called = called.clone();
            move || {
                called.set(true);
                async {}
            }
        };
        assert_eq!(with_cleanup(async { 1 }, cleanup()).await, 1);
        drop(with_cleanup(async { 1 }, cleanup()));
        turns(2).await;
        assert!(!called.get());
    });
}

#[test]
fn to_04_a_timeout_cleans_up_too() {
    on_every(async || {
        let cleaned = Rc::new(Cell::new(false));
        let flag = cleaned.clone();
        let future = with_cleanup(std::future::pending::<()>(), move || async move { flag.set(true) });
        assert!(timeout(ms(1), future).await.is_err());
        turns(1).await;
        assert!(cleaned.get());
    });
}

#[test]
fn run_06_run_24_the_end_of_run_awaits_cleanups() {
    for mut runner in kernels().into_iter().map(on) {
        let log = Log::new();
        let theirs = log.clone();
        runner.run(async {
            drop(create_task(with_cleanup(std::future::pending::<()>(), move || async move {
                for n in 0..3 {
                    sleep(ms(2)).await;
                    theirs.push(n);
                }
            })));
            turns(1).await;
        });
        runner.close();
        assert_eq!(log.get(), [0, 1, 2]);
    }
}

#[test]
fn cleanups_have_ten_seconds() {
    let log = Log::new();
    let theirs = log.clone();
    let mut runner = Runner::builder().backend(Backend::Sim { seed: 1 }).build().unwrap();
    runner.run(async {
        drop(create_task(with_cleanup(std::future::pending::<()>(), move || async move {
            let start = time::now();
            loop {
                sleep(Duration::from_secs(1)).await;
                theirs.push((time::now() - start).as_secs());
            }
        })));
        turns(1).await;
    });
    runner.close();
    assert!((9..=10).contains(&log.get().len()), "{:?}", log.get());
}

#[test]
fn run_07_a_panic_of_a_cleanup_goes_to_the_exception_handler() {
    let heard = Rc::new(Cell::new(0));
    let count = heard.clone();
    let mut runner = Runner::builder().backend(Backend::Sim { seed: 1 }).build().unwrap();
    let value = runner.run(async {
        corio_runtime::set_exception_handler(move |context| {
            assert!(context.message().contains("in the cleanup"), "{context}");
            count.set(count.get() + 1);
        });
        drop(create_task(with_cleanup(std::future::pending::<()>(), || async { panic!("in the cleanup") })));
        turns(1).await;
        123
    });
    runner.close();
    assert_eq!((value, heard.get()), (123, 1));
}
