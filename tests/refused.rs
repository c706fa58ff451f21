//! Programs on systems that refuse io_uring: each test is alone in a process, with a filter of system calls.

#[path = "../runtime/tests/common/filter.rs"]
mod filter;
#[path = "../runtime/tests/common/shared.rs"]
mod shared;

use std::{
    fs::File,
    future::pending,
    io,
    os::{fd::AsRawFd, unix::process::ExitStatusExt},
    panic,
    process::Output,
    time::Duration,
};

use corio::{
    Backend, BackendInfo, Builder, Cores, Runner, create_task,
    event_loop::{Reason, backend, metrics},
    open_connection, run_coroutine_threadsafe, run_per_core,
    signal::{SignalKind, signal},
    sleep, start_server,
    subprocess::{Command, Stdio},
    timeout, to_thread,
};
use filter::{Answer, IO_URING, forbid, forbid_some};
use libc::{EACCES, EINVAL, ENOSYS, EPERM};
use nix::sys::{
    signal::{Signal, raise},
    wait,
};
use shared::{assert_passed, child, is_child, kernels, on, open_fds};

/// The errors of filters, settings and old kernels for a call of io_uring.
const REFUSALS: [(&str, libc::c_long, i32); 8] = [
    ("io_uring_setup", libc::SYS_io_uring_setup, EPERM),
    ("io_uring_setup", libc::SYS_io_uring_setup, ENOSYS),
    ("io_uring_setup", libc::SYS_io_uring_setup, EACCES),
    ("io_uring_setup", libc::SYS_io_uring_setup, EINVAL),
    ("io_uring_register", libc::SYS_io_uring_register, EPERM),
    ("io_uring_register", libc::SYS_io_uring_register, ENOSYS),
    ("io_uring_enter", libc::SYS_io_uring_enter, EPERM),
    ("io_uring_enter", libc::SYS_io_uring_enter, ENOSYS),
];

const CASE: &str = "CORIO_TEST_CASE";

/// Runs `test` again for one of its cases, in its own process with this `CORIO_BACKEND`.
fn alone(test: &str, backend: Option<&str>, case: usize) -> Output {
    let mut child = child(test);
    child.env(CASE, case.to_string()).env_remove("CORIO_BACKEND").env_remove("CORIO_DEBUG");
    child.envs(backend.map(|name| ("CORIO_BACKEND", name))).output().unwrap()
}

/// The case, in its own process; `None` in the parent, after all cases have passed.
fn case_of(test: &str, backend: Option<&str>, cases: usize) -> Option<usize> {
    if is_child(test) {
        return Some(std::env::var(CASE).unwrap().parse().unwrap());
    }
    for case in 0..cases {
        assert_passed(&format!("{test}, case {case}"), &alone(test, backend, case));
    }
    None
}

/// If io_uring is refused anyway, the refusals of this test have no visible effect.
fn without_uring(test: &str) -> bool {
    let refused = !is_child(test) && !kernels().contains(&Backend::Uring);
    if refused {
        eprintln!("SKIPPED {test}: io_uring is refused here");
    }
    refused
}

/// epoll, chosen because this call was refused.
fn epoll_for(call: &str, errno: i32) -> (Backend, String) {
    let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    let sysctl = sysctl.map(|value| value.trim().parse::<u8>().unwrap());
    (Backend::Epoll, format!("{call} {errno} {sysctl:?}"))
}

fn parts(info: BackendInfo) -> (Backend, String) {
    match info.reason() {
        Reason::Refused { call, errno, sysctl, .. } => (info.backend(), format!("{call} {errno} {sysctl:?}")),
        other => (info.backend(), other.to_string()),
    }
}

/// Uses streams, timers, another thread and a child.
async fn work() {
    let server = start_server("127.0.0.1:0", async |mut reader, mut writer| {
        let line = reader.readline().await?;
        writer.write_all(line).await
    });
    let server = server.await.unwrap();
    let (mut reader, mut writer) = open_connection(server.local_addr().unwrap()).await.unwrap();
    writer.write_all(b"there and back\n").await.unwrap();
    assert_eq!(&reader.readline().await.unwrap()[..], b"there and back\n");
    sleep(Duration::from_millis(1)).await;
    assert!(timeout(Duration::from_millis(1), pending::<()>()).await.is_err());
    assert_eq!(to_thread(|| 7).await, 7);
    let mut cat = Command::new("cat").stdin(Stdio::Pipe).stdout(Stdio::Pipe).spawn().await.unwrap();
    assert_eq!(cat.communicate(Some(b"a child")).await.unwrap().stdout, b"a child");
    server.close();
    server.wait_closed().await;
}

/// One loop of the process takes the signals.
async fn hear_a_signal() {
    let mut hang_ups = signal(SignalKind::HANGUP).unwrap();
    raise(Signal::SIGHUP).unwrap();
    hang_ups.recv().await;
}

/// Work for the end of the loop: a task, a connection with unread bytes, a listener, a child.
async fn leave_something() {
    let server = start_server("127.0.0.1:0", async |_reader, mut writer| {
        writer.write(&[0; 100_000])?;
        pending().await
    });
    let server = server.await.unwrap();
    let connection = open_connection(server.local_addr().unwrap()).await.unwrap();
    let child = Command::new("sleep").arg("100").kill_on_drop(true).spawn().await.unwrap();
    drop(create_task(async move {
        let _kept = (server, connection, child);
        pending::<()>().await;
    }));
    sleep(Duration::from_millis(5)).await;
    assert!(metrics().operations > 0, "{:?}", metrics());
}

#[test]
fn auto_goes_on_with_epoll_and_names_the_call_and_its_error() {
    let test = "auto_goes_on_with_epoll_and_names_the_call_and_its_error";
    if without_uring(test) {
        return;
    }
    let Some(case) = case_of(test, None, REFUSALS.len()) else { return };
    let (call, number, errno) = REFUSALS[case];
    // Descriptors that the first loop of a process opens stay open.
    on(Backend::Epoll).run(async {
        work().await;
        hear_a_signal().await;
    });
    let fds = open_fds();
    forbid(&[number], Answer::Errno(errno)).unwrap();
    let mut runner = Runner::new().unwrap();
    assert_eq!(parts(runner.backend()), epoll_for(call, errno));
    let said = runner.backend().to_string();
    let os_error = format!("(os error {errno})");
    assert!(said.starts_with(&format!("epoll ({call} was refused: ")) && said.contains(&os_error), "{said}");
    let inside = runner.run(async {
        work().await;
        hear_a_signal().await;
        backend()
    });
    assert_eq!(inside, runner.backend());
    runner.close();
    assert_eq!(open_fds(), fds, "the ring that was made is closed");
}

/// The error of a loop that requires io_uring: by `Backend::Uring`, or by the environment.
fn error_of(backend: Backend, call: &str, errno: i32) {
    let fds = open_fds();
    let error = Runner::builder().backend(backend).build().unwrap_err();
    let text = error.to_string();
    for word in [call, "CORIO_BACKEND=epoll", "Backend::Auto"] {
        assert!(text.contains(word), "no {word} for {errno}: {text}");
    }
    assert_eq!(open_fds(), fds, "the ring that was made is closed");
}

#[test]
fn io_uring_asked_for_and_refused_is_an_error_that_names_the_way_out() {
    let test = "io_uring_asked_for_and_refused_is_an_error_that_names_the_way_out";
    if without_uring(test) {
        return;
    }
    let Some(case) = case_of(test, None, REFUSALS.len()) else { return };
    let (call, number, errno) = REFUSALS[case];
    forbid(&[number], Answer::Errno(errno)).unwrap();
    error_of(Backend::Uring, call, errno);
}

#[test]
fn io_uring_named_by_the_environment_and_refused_is_an_error_that_names_the_way_out() {
    let test = "io_uring_named_by_the_environment_and_refused_is_an_error_that_names_the_way_out";
    if without_uring(test) {
        return;
    }
    let Some(case) = case_of(test, Some("uring"), REFUSALS.len()) else { return };
    let (call, number, errno) = REFUSALS[case];
    forbid(&[number], Answer::Errno(errno)).unwrap();
    error_of(Backend::Auto, call, errno);
}

/// Uses every kernel feature, under a filter that kills the process at a call of io_uring.
fn everything(builder: Builder, reason: Reason) {
    forbid(&IO_URING, Answer::Kill).unwrap();
    let mut runner = builder.clone().build().unwrap();
    assert_eq!(parts(runner.backend()), (Backend::Epoll, reason.to_string()));
    runner.run(async {
        work().await;
        hear_a_signal().await;
        leave_something().await;
    });
    runner.close();
    let cores = builder.clone().run_per_core(Cores::Count(2), |core| async move {
        work().await;
        let other = core.handle(1 - core.index());
        run_coroutine_threadsafe(&other, || async { parts(backend()) }).await.unwrap()
    });
    assert_eq!(cores, vec![(Backend::Epoll, reason.to_string()); 2]);
    let mut embedded = builder.build().unwrap();
    let task = embedded.create_task(work());
    let _ = embedded.as_fd();
    while !embedded.enter(|| task.done()) {
        embedded.turn(Some(Duration::from_millis(10))).unwrap();
    }
    embedded.run(task).unwrap();
}

#[test]
fn epoll_asked_for_makes_no_call_of_io_uring() {
    let test = "epoll_asked_for_makes_no_call_of_io_uring";
    let Some(_) = case_of(test, None, 1) else { return };
    everything(Runner::builder().backend(Backend::Epoll), Reason::AskedFor);
}

#[test]
fn epoll_named_by_the_environment_makes_no_call_of_io_uring() {
    let test = "epoll_named_by_the_environment_makes_no_call_of_io_uring";
    let Some(_) = case_of(test, Some("epoll"), 1) else { return };
    everything(Runner::builder(), Reason::Environment);
}

/// Without this check the two tests above would prove nothing.
#[test]
fn a_call_of_io_uring_ends_the_process_under_the_filter_that_kills() {
    let test = "a_call_of_io_uring_ends_the_process_under_the_filter_that_kills";
    if without_uring(test) {
        return;
    }
    if !is_child(test) {
        for case in 0..IO_URING.len() {
            let status = alone(test, None, case).status;
            assert_eq!(status.signal(), Some(libc::SIGSYS), "call {case}: {status}");
        }
        return;
    }
    let case: usize = std::env::var(CASE).unwrap().parse().unwrap();
    forbid(&IO_URING[case..=case], Answer::Kill).unwrap();
    drop(Runner::builder().backend(Backend::Uring).build());
}

#[test]
fn the_loops_of_all_cores_run_on_what_the_first_one_comes_to() {
    let test = "the_loops_of_all_cores_run_on_what_the_first_one_comes_to";
    let Some(_) = case_of(test, None, 1) else { return };
    forbid(&IO_URING, Answer::Errno(EPERM)).unwrap();
    let all = run_per_core(Cores::Count(4), |_| async {
        work().await;
        parts(backend())
    });
    assert_eq!(all, vec![epoll_for("io_uring_setup", EPERM); 4]);
}

/// The number of the next descriptor to be opened.
fn next_fd() -> u32 {
    File::open("/dev/null").unwrap().as_raw_fd().try_into().unwrap()
}

#[test]
fn a_group_does_not_ask_again_once_the_first_loop_is_refused() {
    let test = "a_group_does_not_ask_again_once_the_first_loop_is_refused";
    if without_uring(test) {
        return;
    }
    let Some(_) = case_of(test, None, 1) else { return };
    // The first ring is refused, and a ring of any later loop would not be.
    let first = next_fd();
    forbid_some(&[libc::SYS_io_uring_register], first..=first, Answer::Errno(EPERM)).unwrap();
    let all = run_per_core(Cores::Count(4), |_| async { parts(backend()) });
    assert_eq!(all, vec![epoll_for("io_uring_register", EPERM); 4]);
}

#[test]
fn a_group_on_io_uring_fails_with_a_loop_that_is_refused() {
    let test = "a_group_on_io_uring_fails_with_a_loop_that_is_refused";
    if without_uring(test) {
        return;
    }
    let Some(_) = case_of(test, None, 1) else { return };
    let first = next_fd();
    forbid_some(&[libc::SYS_io_uring_register], first + 1..=u32::MAX, Answer::Errno(EPERM)).unwrap();
    let alone = run_per_core(Cores::Count(1), |_| async { parts(backend()) });
    assert_eq!(alone, [(Backend::Uring, Reason::Offered.to_string())]);
    let failed = panic::catch_unwind(|| run_per_core(Cores::Count(4), |_| async {})).unwrap_err();
    let text = failed.downcast_ref::<String>().unwrap();
    assert!(text.starts_with("cannot start the loop of core ") && text.contains("EPERM"), "{text}");
    assert!(text.contains("CORIO_BACKEND=epoll"), "{text}");
}

/// The lines of a child's output that come from corio.
fn said_by_corio(output: &Output) -> Vec<String> {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    said.lines().filter(|line| line.contains("corio:")).map(str::to_owned).collect()
}

#[test]
fn debug_mode_tells_the_kernel_and_the_reason_in_a_line() {
    let test = "debug_mode_tells_the_kernel_and_the_reason_in_a_line";
    if !is_child(test) {
        let output = alone(test, None, 1);
        assert_passed(test, &output);
        let os_error = io::Error::from_raw_os_error(EPERM);
        let expected = format!("corio: the loop runs on epoll (io_uring_setup was refused: {os_error}");
        let said = said_by_corio(&output);
        assert!(said.len() == 1 && said[0].starts_with(&expected), "{said:?}");
        let silent = alone(test, None, 0);
        assert_passed(test, &silent);
        assert_eq!(said_by_corio(&silent), Vec::<String>::new());
        return;
    }
    forbid(&IO_URING, Answer::Errno(EPERM)).unwrap();
    let debug = std::env::var(CASE).unwrap() == "1";
    let mut runner = Runner::builder().debug(debug).build().unwrap();
    assert_eq!(runner.run(async { 1 }), 1);
}

#[test]
fn auto_and_nothing_in_the_environment_leave_it_open() {
    let test = "auto_and_nothing_in_the_environment_leave_it_open";
    if !is_child(test) {
        for name in ["", "auto"] {
            assert_passed(&format!("{test}: {name:?}"), &alone(test, Some(name), 0));
        }
        return;
    }
    forbid(&IO_URING, Answer::Errno(EPERM)).unwrap();
    assert_eq!(parts(Runner::new().unwrap().backend()), epoll_for("io_uring_setup", EPERM));
}

#[test]
fn a_name_that_is_no_kernel_is_an_error_with_the_names_that_are() {
    let test = "a_name_that_is_no_kernel_is_an_error_with_the_names_that_are";
    if !is_child(test) {
        for name in ["Epoll", "io_uring", "Auto", "sim", "sim:", "sim:x", "sim:-1", " epoll"] {
            assert_passed(&format!("{test}: {name:?}"), &alone(test, Some(name), 0));
        }
        return;
    }
    let error = Runner::new().unwrap_err();
    let (text, name) = (error.to_string(), std::env::var("CORIO_BACKEND").unwrap());
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert_eq!(text, format!("CORIO_BACKEND is '{name}': it must be auto, epoll, uring or sim:SEED"));
    // The environment decides only if the program names no kernel.
    assert_eq!(on(Backend::Epoll).run(async { 1 }), 1);
}

#[test]
fn children_are_watched_by_a_thread_where_there_are_no_pidfds() {
    let test = "children_are_watched_by_a_thread_where_there_are_no_pidfds";
    let Some(case) = case_of(test, None, 4) else { return };
    let (kernel, errno) = [Backend::Uring, Backend::Epoll].map(|kernel| [(kernel, ENOSYS), (kernel, EPERM)])
        [case / 2][case % 2];
    if !kernels().contains(&kernel) {
        return;
    }
    let mut runner = on(kernel);
    forbid(&[libc::SYS_pidfd_open], Answer::Errno(errno)).unwrap();
    let outlives = runner.run(async {
        work().await;
        let sleeper = Command::new("sleep").arg("100").spawn().await.unwrap();
        sleeper.send_signal(Signal::SIGTERM as i32).unwrap();
        assert_eq!(sleeper.wait().await.unwrap(), -(Signal::SIGTERM as i32));
        assert!(sleeper.kill().is_err(), "it was reaped");
        let codes = [0, 1, 2].map(|code| async move {
            let child = Command::new("sh").args(["-c", &format!("exit {code}")]).spawn().await.unwrap();
            child.wait().await.unwrap()
        });
        for (code, exits) in codes.into_iter().enumerate() {
            assert_eq!(exits.await, code as i32);
        }
        Command::new("sleep").arg("0.05").spawn().await.unwrap()
    });
    drop(runner);
    // The child is reaped although its loop has ended, and every thread ends with its child.
    assert_eq!(on(kernel).run(async { outlives.wait().await.unwrap() }), 0);
    assert_eq!(wait::waitpid(None, Some(wait::WaitPidFlag::WNOHANG)), Err(nix::errno::Errno::ECHILD));
}
