//! Ctrl-C during `run`, as in asyncio. SIGINT belongs to the main thread, where the usual harness runs no tests: this
//! binary has a small one of its own.

mod common;

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::ExitStatusExt,
    pin::Pin,
    process::{Child, ChildStdout, ExitStatus, Stdio},
    task::{Context, Poll},
    time::Duration,
};

use common::{Nop, child, is_child, ms, poll_once, turns};
use corio_runtime::{
    Cores, RunError, Runner, create_future, create_task, current_task, op::submit, run,
    run_coroutine_threadsafe, run_per_core, time::sleep, with_cleanup, yield_now,
};
use nix::{
    libc::{SIGINT, SIGTERM},
    sys::signal::{SigHandler, Signal, kill, signal as signal_action},
    unistd::{Pid, getpid, gettid},
};

/// The test again, alone on the main thread of a process of its own, once it has said "ready".
fn started(test: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = child(test).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the child ended early: {:?}", child.wait());
    }
    (child, lines)
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
}

fn end(mut child: Child, mut lines: BufReader<ChildStdout>) -> (ExitStatus, String) {
    let mut said = String::new();
    lines.read_to_string(&mut said).unwrap();
    (child.wait().unwrap(), said)
}

fn ready() {
    assert_eq!(gettid(), getpid(), "SIGINT is the main thread's");
    println!("ready");
}

/// Says something when it is dropped.
struct Say(&'static str);

impl Drop for Say {
    fn drop(&mut self) {
        println!("{}", self.0);
    }
}

fn run_18_run_19_run_21_the_first_sigint_cancels_main_and_ends_in_order() {
    const TEST: &str = "run_18_run_19_run_21_the_first_sigint_cancels_main_and_ends_in_order";
    if is_child(TEST) {
        run(async {
            drop(create_task(with_cleanup(std::future::pending::<()>(), || async {
                sleep(ms(2)).await;
                println!("task cleaned up");
            })));
            let _main = Say("main dropped");
            turns(2).await;
            ready();
            // Blocked without a timeout.
            let (_resolver, future) = create_future::<()>();
            let _ = future.await;
        });
        println!("never said");
        return;
    }
    let (child, lines) = started(TEST);
    signal(&child, Signal::SIGINT);
    let (status, said) = end(child, lines);
    assert_eq!(status.signal(), Some(SIGINT), "{status:?} {said}");
    assert!(said.contains("main dropped\ntask cleaned up"), "{said}");
    assert!(!said.contains("never said"));
}

fn run_18_a_busy_main_is_cancelled_too() {
    const TEST: &str = "run_18_a_busy_main_is_cancelled_too";
    if is_child(TEST) {
        run(async {
            let cleanup = || async {
                sleep(ms(1)).await;
                println!("cleaned up");
            };
            let busy = async {
                let _main = Say("main dropped");
                ready();
                loop {
                    yield_now().await;
                }
            };
            with_cleanup(busy, cleanup).await;
        });
        println!("never said");
        return;
    }
    let (child, lines) = started(TEST);
    signal(&child, Signal::SIGINT);
    let (status, said) = end(child, lines);
    // The signal's default action alone would say nothing.
    assert_eq!((status.signal(), said.as_str()), (Some(SIGINT), "main dropped\ncleaned up\n"));
}

fn run_18_run_forever_gives_an_error_and_leaves_the_loop_to_its_owner() {
    const TEST: &str = "run_18_run_forever_gives_an_error_and_leaves_the_loop_to_its_owner";
    if is_child(TEST) {
        let mut runner = Runner::new().unwrap();
        drop(runner.create_task(async {
            let _task = Say("task dropped");
            ready();
            std::future::pending::<()>().await;
        }));
        assert_eq!(runner.run_forever(), Err(RunError::Cancelled));
        assert_eq!(runner.run(async { 7 }), 7);
        println!("still there");
        runner.close();
        return;
    }
    let (child, lines) = started(TEST);
    signal(&child, Signal::SIGINT);
    let (status, said) = end(child, lines);
    assert!(status.success() && said.starts_with("still there\ntask dropped\n"), "{status}: {said}");
}

fn run_20_a_cancel_that_came_before_the_sigint_is_not_turned_into_one() {
    const TEST: &str = "run_20_a_cancel_that_came_before_the_sigint_is_not_turned_into_one";
    if is_child(TEST) {
        ready();
        let mut runner = Runner::new().unwrap();
        let ended = runner.try_run(async {
            let main = current_task().unwrap();
            let child = create_task(async move {
                yield_now().await;
                main.cancel();
                kill(getpid(), Signal::SIGINT).unwrap();
                // This turn enters the kernel, and so hears the signal before main's next step.
                let _ = poll_once(&mut submit(Nop));
            });
            sleep(Duration::from_secs(60)).await;
            drop(child);
        });
        println!("{ended:?}");
        // Without the cancel the signal ends the run.
        let _ = runner.try_run(async {
            kill(getpid(), Signal::SIGINT).unwrap();
            sleep(Duration::from_secs(60)).await;
        });
        println!("never said");
        return;
    }
    let (child, lines) = started(TEST);
    let (status, said) = end(child, lines);
    assert_eq!((status.signal(), said.as_str()), (Some(SIGINT), "Err(Cancelled)\n"));
}

fn run_21_a_loop_of_another_thread_leaves_sigint_as_it_was() {
    const TEST: &str = "run_21_a_loop_of_another_thread_leaves_sigint_as_it_was";
    if is_child(TEST) {
        let thread = std::thread::spawn(|| {
            run(async {
                let _main = Say("main dropped");
                println!("ready");
                std::future::pending::<()>().await;
            });
        });
        thread.join().unwrap();
        return;
    }
    let (child, lines) = started(TEST);
    signal(&child, Signal::SIGINT);
    let (status, said) = end(child, lines);
    assert_eq!((status.signal(), said.as_str()), (Some(SIGINT), ""), "the default action drops nothing");
}

fn run_21_the_second_sigint_ends_it_at_once() {
    const TEST: &str = "run_21_the_second_sigint_ends_it_at_once";
    if is_child(TEST) {
        run(async {
            let stuck = with_cleanup(std::future::pending::<()>(), || async {
                println!("in the cleanup");
                sleep(Duration::from_secs(9)).await;
                println!("never said");
            });
            drop(create_task(stuck));
            turns(2).await;
            ready();
            std::future::pending::<()>().await;
        });
        return;
    }
    let (child, mut lines) = started(TEST);
    signal(&child, Signal::SIGINT);
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert!(line.contains("in the cleanup"), "{line}");
    signal(&child, Signal::SIGINT);
    let (status, said) = end(child, lines);
    assert_eq!(status.signal(), Some(SIGINT));
    assert!(!said.contains("never said"));
}

fn run_21_between_and_after_runs_sigint_does_what_it_did() {
    const TEST: &str = "run_21_between_and_after_runs_sigint_does_what_it_did";
    if is_child(TEST) {
        for _ in 0..3 {
            run(async {});
        }
        ready();
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let (child, lines) = started(TEST);
    signal(&child, Signal::SIGINT);
    assert_eq!(end(child, lines).0.signal(), Some(SIGINT));
}

fn run_22_a_sigint_that_others_ignore_or_handle_is_left_to_them() {
    const TEST: &str = "run_22_a_sigint_that_others_ignore_or_handle_is_left_to_them";
    if is_child(TEST) {
        let seen = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        signal_hook::flag::register(SIGINT, seen.clone()).unwrap();
        run(async {
            ready();
            while !seen.load(std::sync::atomic::Ordering::SeqCst) {
                sleep(ms(1)).await;
            }
        });
        println!("went on");
        return;
    }
    let (child, lines) = started(TEST);
    signal(&child, Signal::SIGINT);
    let (status, said) = end(child, lines);
    assert!(status.success() && said.contains("went on"), "{status:?} {said}");
}

fn other_signals_keep_their_action() {
    const TEST: &str = "other_signals_keep_their_action";
    if is_child(TEST) {
        run(async {
            ready();
            std::future::pending::<()>().await;
        });
        return;
    }
    let (child, lines) = started(TEST);
    signal(&child, Signal::SIGTERM);
    assert_eq!(end(child, lines).0.signal(), Some(SIGTERM));
}

fn run_18_sigint_ends_the_loops_of_all_cores_in_order() {
    const TEST: &str = "run_18_sigint_ends_the_loops_of_all_cores_in_order";
    if is_child(TEST) {
        run_per_core(Cores::Count(3), |core| async move {
            let cleanup = || async {
                sleep(ms(5)).await;
                println!("cleaned up");
            };
            if core.index() == 0 {
                // All mains have begun.
                for other in 1..3 {
                    run_coroutine_threadsafe(&core.handle(other), || turns(3)).await.unwrap();
                }
                ready();
            }
            with_cleanup(std::future::pending::<()>(), cleanup).await;
        });
        println!("never said");
        return;
    }
    let (child, lines) = started(TEST);
    signal(&child, Signal::SIGINT);
    let (status, said) = end(child, lines);
    assert_eq!(status.signal(), Some(SIGINT), "{status:?} {said}");
    assert_eq!(said.matches("cleaned up").count(), 3, "{said}");
    assert!(!said.contains("never said"));
}

/// Whatever the moment in which it comes as a run ends, it is not for the next one.
fn run_21_a_sigint_as_a_run_ends_does_not_end_the_next() {
    const TEST: &str = "run_21_a_sigint_as_a_run_ends_does_not_end_the_next";
    /// Main's last step, or its destructor, which runs behind the last turn.
    struct Ends {
        in_the_step: bool,
    }
    impl Future for Ends {
        type Output = ();
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            if self.in_the_step {
                kill(getpid(), Signal::SIGINT).unwrap();
            }
            Poll::Ready(())
        }
    }
    impl Drop for Ends {
        fn drop(&mut self) {
            if !self.in_the_step {
                kill(getpid(), Signal::SIGINT).unwrap();
            }
        }
    }
    if is_child(TEST) {
        ready();
        let mut runner = Runner::new().unwrap();
        for in_the_step in [true, false] {
            runner.run(Ends { in_the_step });
            runner.run(sleep(ms(2)));
            println!("went on");
        }
        // It still has one of its own.
        runner.run(async {
            kill(getpid(), Signal::SIGINT).unwrap();
            sleep(Duration::from_secs(60)).await;
        });
        println!("never said");
        return;
    }
    let (child, lines) = started(TEST);
    let (status, said) = end(child, lines);
    assert_eq!(status.signal(), Some(SIGINT), "{status:?} {said}");
    assert!(said.matches("went on").count() == 2 && !said.contains("never said"), "{said}");
}

const TESTS: [(&str, fn()); 11] = [
    (
        "run_18_run_19_run_21_the_first_sigint_cancels_main_and_ends_in_order",
        run_18_run_19_run_21_the_first_sigint_cancels_main_and_ends_in_order,
    ),
    ("run_18_a_busy_main_is_cancelled_too", run_18_a_busy_main_is_cancelled_too),
    (
        "run_18_run_forever_gives_an_error_and_leaves_the_loop_to_its_owner",
        run_18_run_forever_gives_an_error_and_leaves_the_loop_to_its_owner,
    ),
    (
        "run_20_a_cancel_that_came_before_the_sigint_is_not_turned_into_one",
        run_20_a_cancel_that_came_before_the_sigint_is_not_turned_into_one,
    ),
    (
        "run_21_a_loop_of_another_thread_leaves_sigint_as_it_was",
        run_21_a_loop_of_another_thread_leaves_sigint_as_it_was,
    ),
    ("run_21_the_second_sigint_ends_it_at_once", run_21_the_second_sigint_ends_it_at_once),
    (
        "run_21_between_and_after_runs_sigint_does_what_it_did",
        run_21_between_and_after_runs_sigint_does_what_it_did,
    ),
    (
        "run_21_a_sigint_as_a_run_ends_does_not_end_the_next",
        run_21_a_sigint_as_a_run_ends_does_not_end_the_next,
    ),
    (
        "run_22_a_sigint_that_others_ignore_or_handle_is_left_to_them",
        run_22_a_sigint_that_others_ignore_or_handle_is_left_to_them,
    ),
    (
        "run_18_sigint_ends_the_loops_of_all_cores_in_order",
        run_18_sigint_ends_the_loops_of_all_cores_in_order,
    ),
    ("other_signals_keep_their_action", other_signals_keep_their_action),
];

/// What cargo and its relatives ask of a test binary: `--list`, names to run, `--exact`.
fn main() {
    // A shell without job control starts what runs in the background with SIGINT ignored.
    // SAFETY: the default action runs no code of this process.
    unsafe { signal_action(Signal::SIGINT, SigHandler::SigDfl) }.unwrap();
    if let Some((_, test)) = TESTS.iter().find(|(name, _)| is_child(name)) {
        return test();
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--list") {
        // There are no ignored ones.
        let listed = if args.iter().any(|arg| arg == "--ignored") { &[] } else { &TESTS[..] };
        return listed.iter().for_each(|(name, _)| println!("{name}: test"));
    }
    let exact = args.iter().any(|arg| arg == "--exact");
    let filters: Vec<_> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| {
        filters.is_empty()
            || filters.iter().any(|f| if exact { **f == name } else { name.contains(f.as_str()) })
    };
    for (name, test) in TESTS.iter().filter(|(name, _)| wanted(name)) {
        test();
        println!("test {name} ... ok");
    }
}
