//! Errors with a better text keep their cause.

mod common;

use std::{error::Error, io};

use common::{FewDescriptors, in_own_process};
use corio_runtime::{
    ConcurrentError, ExceptionContext, Runner, TaskGroupError, TryGatherError, create_task, run,
    signals::{SignalKind, signal},
    task_group, try_gather_tasks,
};

fn reset() -> io::Error {
    io::Error::from_raw_os_error(libc::ECONNRESET)
}

async fn group_of_one<E: std::fmt::Debug + 'static>(e: E) -> TaskGroupError<E> {
    let ended = task_group(async |group| {
        drop(group.create_task(async { Err::<(), E>(e) }));
        std::future::pending::<Result<(), E>>().await
    });
    ended.await.unwrap_err()
}

#[test]
fn the_error_of_a_group_has_the_first_of_its_errors_as_its_source() {
    run(async {
        let error = io::Error::from(group_of_one(reset()).await);
        assert_eq!(error.to_string(), "unhandled errors in a TaskGroup (1 sub-error)");
        let source = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
        assert_eq!(source.raw_os_error(), Some(libc::ECONNRESET));
        // A report says both.
        let context = ExceptionContext::new("a handler failed").with_error(error);
        let text =
            "a handler failed: unhandled errors in a TaskGroup (1 sub-error): Connection reset by peer";
        assert!(context.to_string().starts_with(text), "{context}");

        let boxed = group_of_one::<Box<dyn Error + Send + Sync>>("as text".into()).await;
        assert_eq!(boxed.source().unwrap().to_string(), "as text");
        assert!(group_of_one("no error").await.source().is_none());
    });
}

#[test]
fn the_error_of_a_task_that_was_gathered_is_its_own() {
    run(async {
        let mut tasks = [create_task(async { Err::<(), _>(reset()) })];
        let failed: TryGatherError<io::Error> = try_gather_tasks(&mut tasks).await.unwrap_err();
        let error = io::Error::from(failed);
        assert_eq!(
            (error.kind(), error.raw_os_error()),
            (io::ErrorKind::ConnectionReset, Some(libc::ECONNRESET))
        );
    });
}

#[test]
fn a_closed_loop_is_of_one_kind_of_error() {
    let (handle, closed) = run(async {
        let handle = corio_runtime::handle();
        (handle, io::Error::from(ConcurrentError::LoopClosed).kind())
    });
    let called = io::Error::from(handle.call_soon_threadsafe(|| ()).unwrap_err());
    assert_eq!((called.kind(), closed), (io::ErrorKind::NotConnected, io::ErrorKind::NotConnected));
}

#[test]
fn without_descriptors_a_signal_is_named() {
    if !in_own_process("without_descriptors_a_signal_is_named") {
        return;
    }
    let mut runner = Runner::new().unwrap();
    let _few = FewDescriptors::at_most(3);
    let error = runner.run(async { signal(SignalKind::TERMINATE).unwrap_err() });
    assert!(error.to_string().starts_with("cannot listen to signal 15: "), "{error}");
    let source = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!(source.raw_os_error(), Some(libc::EMFILE));
}
