//! Errors that nobody awaits: `Task::report_error`, and what the exception handler is told of them.

mod common;

use std::{
    cell::{Cell, RefCell},
    future::pending,
    panic::Location,
    process::Command,
    rc::Rc,
    thread,
};

use common::{assert_passed, child, is_child, ms, on_every, reports, turns};
use corio_runtime::{
    ExceptionContext, Runner, Task, call_exception_handler, call_later, call_soon, clear_exception_handler,
    create_task, create_task_named, run, set_exception_handler, time::sleep, yield_now,
};

/// What a report says: its message, its task's name, and the line of its place.
type Heard = (String, Option<String>, Option<u32>);

fn heard() -> Rc<RefCell<Vec<Heard>>> {
    let heard = Rc::<RefCell<Vec<Heard>>>::default();
    let list = heard.clone();
    set_exception_handler(move |context| {
        let (task, place) =
            (context.task().map(|task| task.name()), context.created_at().map(Location::line));
        list.borrow_mut().push((context.message().to_owned(), task, place));
    });
    heard
}

#[test]
fn fut_08_an_error_that_nobody_awaits_is_reported_with_its_task_and_place() {
    on_every(async || {
        let heard = heard();
        let line = line!() + 1;
        let task = create_task_named("fetcher", async {
            yield_now().await;
            Err::<u32, _>("no route")
        });
        task.report_error();
        turns(1).await;
        assert!(heard.borrow().is_empty(), "it has not failed yet");
        turns(1).await;
        let message = "Task exception was never retrieved: no route".to_owned();
        assert_eq!(*heard.borrow(), [(message, Some("fetcher".to_owned()), Some(line))]);
    });
}

#[test]
fn fut_08_so_is_one_that_is_there_already_and_a_panic_but_once() {
    on_every(async || {
        let heard = reports();
        let failed = create_task(async { Err::<(), _>("before") });
        turns(1).await;
        assert!(failed.done());
        failed.report_error();
        let panics: Task<Result<(), &str>> = create_task(async { panic!("in the task") });
        panics.report_error();
        turns(3).await;
        let texts = heard.borrow();
        assert!(texts[0].contains("retrieved: before"), "{texts:?}");
        assert!(texts[1].contains("retrieved: panicked: in the task"), "{texts:?}");
        assert_eq!(texts.len(), 2, "{texts:?}");
    });
}

#[test]
fn fut_09_values_cancels_and_results_that_were_taken_are_not_reported() {
    on_every(async || {
        let heard = reports();
        create_task(async { Ok::<_, String>(1) }).report_error();
        let cancelled = create_task(pending::<Result<(), String>>());
        assert!(cancelled.cancel());
        cancelled.report_error();
        let mut taken = create_task(async { Err::<(), _>("taken") });
        assert_eq!((&mut taken).await.unwrap(), Err("taken"));
        taken.report_error();
        drop(create_task(async { Err::<(), _>("without report_error") }));
        turns(3).await;
        assert!(heard.borrow().is_empty(), "{heard:?}");
    });
}

#[test]
fn fut_08_a_reported_task_goes_on_by_itself() {
    on_every(async || {
        let done = Rc::new(Cell::new(false));
        let flag = done.clone();
        create_task(async move {
            sleep(ms(1)).await;
            flag.set(true);
            Ok::<_, String>(())
        })
        .report_error();
        sleep(ms(2)).await;
        assert!(done.get());
    });
}

#[test]
fn fut_08_another_thread_may_ask_for_the_report() {
    run(async {
        let heard = reports();
        let task = create_task(async {
            sleep(ms(5)).await;
            Err::<(), _>("from home")
        });
        thread::spawn(move || task.report_error()).join().unwrap();
        common::until(|| !heard.borrow().is_empty()).await;
        assert!(heard.borrow()[0].contains("retrieved: from home"), "{heard:?}");
    });
}

#[test]
fn loop_19_the_handler_hears_the_message_the_task_and_the_place_of_a_callback() {
    on_every(async || {
        let heard = heard();
        let line = line!();
        call_soon(|| panic!("soon"));
        call_later(ms(1), || panic!("later"));
        call_exception_handler(&ExceptionContext::new("by hand"));
        sleep(ms(2)).await;
        let of = |text: &str| format!("Exception in callback: panicked: {text}");
        let expected = [
            ("by hand".to_owned(), None, None),
            (of("soon"), None, Some(line + 1)),
            (of("later"), None, Some(line + 2)),
        ];
        assert_eq!(*heard.borrow(), expected);
    });
}

/// What the child `test` printed by the default handler.
fn printed(test: &str, command: &mut Command) -> Vec<String> {
    let output = command.output().unwrap();
    assert_passed(test, &output);
    let text = String::from_utf8(output.stderr).unwrap();
    text.lines().filter(|line| line.starts_with("corio: ")).map(str::to_owned).collect()
}

#[test]
fn loop_19_without_its_handler_a_loop_prints_again() {
    const TEST: &str = "loop_19_without_its_handler_a_loop_prints_again";
    if is_child(TEST) {
        let mut runner = Runner::new().unwrap();
        let heard = runner.run(async {
            let heard = reports();
            call_exception_handler(&ExceptionContext::new("to the handler"));
            clear_exception_handler();
            call_exception_handler(&ExceptionContext::new("printed"));
            clear_exception_handler();
            call_soon(|| panic!("in a callback"));
            yield_now().await;
            heard
        });
        assert_eq!(*heard.borrow(), ["to the handler"]);
        assert_eq!(Rc::strong_count(&heard), 1, "the handler is gone");
        return;
    }
    let lines = printed(TEST, &mut child(TEST));
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].ends_with("printed"), "{lines:?}");
    assert!(lines[1].contains("in a callback [created at "), "{lines:?}");
    assert!(lines[1].contains("unawaited.rs:"), "{lines:?}");
}
