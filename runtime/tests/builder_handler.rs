//! `Builder::exception_handler`: one handler for all loops of a process.

use std::sync::{Arc, Mutex};

use corio_runtime::{
    Builder, Cores, ExceptionContext, Runner, call_exception_handler, clear_exception_handler, create_task,
    set_exception_handler, yield_now,
};

mod common;
use common::*;

type Heard = Arc<Mutex<Vec<String>>>;

/// What a builder's handler hears, and the builder.
fn listening() -> (Heard, Builder) {
    let heard = Heard::default();
    let log = heard.clone();
    let builder = Runner::builder().exception_handler(move |context| {
        if !context.message().contains("kept the loop for") {
            log.lock().unwrap().push(context.to_string());
        }
    });
    (heard, builder)
}

fn report(text: &str) {
    call_exception_handler(&ExceptionContext::new(text));
}

#[test]
fn each_loop_of_a_builder_reports_to_its_handler() {
    for backend in kernels() {
        let (heard, builder) = listening();
        for n in 1..=2 {
            builder.clone().backend(backend).build().unwrap().run(async {
                create_task(async { panic!("nobody awaits this") }).detach();
                yield_now().await;
            });
            assert_eq!(heard.lock().unwrap().len(), n);
        }
        assert!(heard.lock().unwrap().iter().all(|text| text.contains("nobody awaits this")));
        on(backend).run(async { set_exception_handler(|_| ()) });
        assert_eq!(heard.lock().unwrap().len(), 2, "a loop of another builder does not");
    }
}

#[test]
fn all_loops_of_run_per_core_report_to_it() {
    let (heard, builder) = listening();
    builder.run_per_core(Cores::Count(3), |core| async move {
        report(&format!("core {}", core.index()));
    });
    let mut heard = heard.lock().unwrap();
    heard.sort();
    assert_eq!(*heard, ["core 0", "core 1", "core 2"]);
}

#[test]
fn a_handler_of_the_loop_overrides_it_and_clearing_that_brings_it_back() {
    for backend in kernels() {
        let (heard, builder) = listening();
        builder.backend(backend).build().unwrap().run(async {
            report("before");
            let own = reports();
            report("own");
            clear_exception_handler();
            report("after");
            clear_exception_handler();
            report("still");
            assert_eq!(*own.borrow(), ["own"]);
        });
        assert_eq!(*heard.lock().unwrap(), ["before", "after", "still"]);
    }
}

#[test]
fn it_hears_what_fails_while_the_loop_closes() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("in a destructor at the end");
        }
    }
    for backend in kernels() {
        let (heard, builder) = listening();
        builder.backend(backend).build().unwrap().run(async {
            create_task(async {
                let _panics = Panics;
                std::future::pending::<()>().await;
            })
            .detach();
            yield_now().await;
        });
        assert!(heard.lock().unwrap().iter().any(|text| text.contains("in a destructor at the end")));
    }
}

#[test]
fn one_that_panics_ends_nothing() {
    for backend in kernels() {
        let builder = Runner::builder().exception_handler(|_| panic!("the handler"));
        let done = builder.backend(backend).build().unwrap().run(async {
            report("a report");
            create_task(async { 7 }).await.unwrap()
        });
        assert_eq!(done, 7);
    }
}
