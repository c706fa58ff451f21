//! Loops that cannot be set up: the error says why, and what to do. Each test runs in a process of its own.

mod common;
#[path = "common/filter.rs"]
#[allow(dead_code, reason = "its refusals of io_uring are in the tests of the whole")]
mod filter;

use std::{error::Error, fs::File, io, os::unix::fs::MetadataExt, sync::mpsc, thread};

use common::{FewDescriptors, assert_passed, child, in_own_process, is_child, kernels, on, open_fds};
use corio_runtime::{Backend, Runner, TaskError, create_task, run, to_thread, yield_now};
use filter::{Answer, forbid};
use nix::sys::resource::{Resource, setrlimit};

/// Makes the system call `number` fail with `errno` on this thread.
fn refuse(number: libc::c_long, errno: i32) {
    forbid(&[number], Answer::Errno(errno)).unwrap();
}

/// As `in_own_process`, where only io_uring will do: these are its refusals.
fn in_own_process_on_uring(test: &str) -> bool {
    if !kernels().contains(&Backend::Uring) {
        eprintln!("SKIPPED {test}: io_uring is refused here");
        return false;
    }
    if !is_child(test) {
        assert_passed(test, &child(test).env("CORIO_BACKEND", "uring").output().unwrap());
    }
    is_child(test)
}

/// The same, where the program leaves the kernel open.
fn in_own_process_by_auto(test: &str) -> bool {
    if !kernels().contains(&Backend::Uring) {
        eprintln!("SKIPPED {test}: io_uring is refused here");
        return false;
    }
    if !is_child(test) {
        assert_passed(test, &child(test).env_remove("CORIO_BACKEND").output().unwrap());
    }
    is_child(test)
}

fn refusal() -> String {
    Runner::new().expect_err("the ring was to be refused").to_string()
}

/// Becomes a user without privileges, with this limit of locked memory. The kernel charges rings to the user,
/// so it is one that no other process is.
fn become_nobody(memlock_bytes: u64) {
    setrlimit(Resource::RLIMIT_MEMLOCK, memlock_bytes, memlock_bytes).unwrap();
    // SAFETY: takes a number only.
    let done = unsafe { libc::setuid(0x1000_0000 + std::process::id()) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
    // The detector of leaks reads `/proc/self`, which is root's otherwise.
    // SAFETY: takes numbers only.
    let done = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}

fn is_root(test: &str) -> bool {
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        eprintln!("SKIPPED {test}: it must be root to become another user");
    }
    root
}

#[test]
fn i3_setup_refused_by_seccomp_names_the_sysctl_and_the_profile() {
    if !in_own_process_on_uring("i3_setup_refused_by_seccomp_names_the_sysctl_and_the_profile") {
        return;
    }
    refuse(libc::SYS_io_uring_setup, libc::EPERM);
    let text = refusal();
    for word in ["EPERM", "kernel.io_uring_disabled", "seccomp", "io_uring_setup"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let panic = std::panic::catch_unwind(|| run(async {})).unwrap_err();
    let panic = panic.downcast_ref::<String>().unwrap();
    assert!(panic.starts_with("cannot start the event loop: ") && panic.ends_with(&text), "{panic}");
}

#[test]
fn i3_setup_hidden_by_seccomp_names_the_kernel_and_the_sandbox() {
    if !in_own_process_on_uring("i3_setup_hidden_by_seccomp_names_the_kernel_and_the_sandbox") {
        return;
    }
    refuse(libc::SYS_io_uring_setup, libc::ENOSYS);
    let text = refusal();
    for word in ["ENOSYS", "6.1", "sandbox", "io_uring_setup"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn i3_register_refused_by_seccomp_names_it() {
    if !in_own_process_on_uring("i3_register_refused_by_seccomp_names_it") {
        return;
    }
    let fds = open_fds();
    refuse(libc::SYS_io_uring_register, libc::EPERM);
    let text = refusal();
    assert!(text.contains("seccomp") && text.contains("io_uring_register"), "{text}");
    assert_eq!(open_fds(), fds, "the ring that was made is closed");
}

#[test]
fn i3_enter_refused_by_seccomp_names_it() {
    if !in_own_process_on_uring("i3_enter_refused_by_seccomp_names_it") {
        return;
    }
    let fds = open_fds();
    refuse(libc::SYS_io_uring_enter, libc::EPERM);
    let text = refusal();
    assert!(text.contains("seccomp") && text.contains("io_uring_enter"), "{text}");
    assert_eq!(open_fds(), fds, "the ring that was made is closed");
}

/// The kernel's error, as the source of the one with the text.
fn cause(error: &io::Error) -> Option<i32> {
    let mut source = error.source();
    while let Some(found) = source {
        if let Some(number) = found.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(number);
        }
        source = found.source();
    }
    None
}

#[test]
fn i3_another_call_that_is_refused_is_named_and_not_taken_for_io_uring() {
    let test = "i3_another_call_that_is_refused_is_named_and_not_taken_for_io_uring";
    let refused = [
        ("uring", "eventfd2", libc::SYS_eventfd2),
        ("uring", "socketpair", libc::SYS_socketpair),
        ("uring", "pipe2", libc::SYS_pipe2),
        ("epoll", "eventfd2", libc::SYS_eventfd2),
        ("epoll", "epoll_create1", libc::SYS_epoll_create1),
    ];
    if !is_child(test) {
        for (kernel, name, _) in refused {
            if kernel == "epoll" || kernels().contains(&Backend::Uring) {
                let mut child = child(test);
                assert_passed(
                    test,
                    &child.env("REFUSED", name).env("CORIO_BACKEND", kernel).output().unwrap(),
                );
            }
        }
        return;
    }
    let chosen = std::env::var("REFUSED").unwrap();
    let (_, name, number) = refused.into_iter().find(|(_, name, _)| *name == chosen).unwrap();
    let fds = open_fds();
    refuse(number, libc::EPERM);
    let error = Runner::new().unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("{name}: ")) && text.contains("seccomp"), "{text}");
    assert!(!text.contains("io_uring was refused"), "{text}");
    assert_eq!((error.kind(), cause(&error)), (io::ErrorKind::PermissionDenied, Some(libc::EPERM)));
    assert_eq!(open_fds(), fds);
}

#[test]
fn i3_a_refusal_has_the_kernels_error_as_its_source() {
    let test = "i3_a_refusal_has_the_kernels_error_as_its_source";
    if !in_own_process_on_uring(test) {
        return;
    }
    refuse(libc::SYS_io_uring_setup, libc::EACCES);
    let error = Runner::new().unwrap_err();
    assert_eq!((error.kind(), cause(&error)), (io::ErrorKind::PermissionDenied, Some(libc::EACCES)));
    assert!(error.to_string().starts_with("io_uring was refused (EACCES)"), "{error}");
}

#[test]
fn to_thread_without_any_thread_is_an_error_and_never_runs_on_the_loop() {
    if !in_own_process("to_thread_without_any_thread_is_an_error_and_never_runs_on_the_loop") {
        return;
    }
    run(async {
        refuse(libc::SYS_clone, libc::EAGAIN);
        refuse(libc::SYS_clone3, libc::EAGAIN);
        let failed = create_task(to_thread(|| unreachable!("on the loop")));
        let Err(TaskError::Panicked(panic)) = failed.await else { panic!("there was a thread") };
        let text = panic.message();
        assert!(
            text.starts_with("to_thread: the system gives no thread") && text.contains("os error 11"),
            "{text}"
        );
    });
}

#[test]
fn to_thread_without_another_thread_waits_for_those_there_are() {
    if !in_own_process("to_thread_without_another_thread_waits_for_those_there_are") {
        return;
    }
    run(async {
        let here = thread::current().id();
        let (end, ends) = mpsc::channel::<()>();
        let first = create_task(to_thread(move || {
            let _ = ends.recv();
            thread::current().id()
        }));
        yield_now().await;
        refuse(libc::SYS_clone, libc::EAGAIN);
        refuse(libc::SYS_clone3, libc::EAGAIN);
        let second = create_task(to_thread(|| thread::current().id()));
        yield_now().await;
        assert!(!second.done());
        drop(end);
        let only = first.await.unwrap();
        assert_ne!(only, here);
        assert_eq!(second.await.unwrap(), only);
    });
}

#[test]
fn i2_no_locked_memory_names_the_limit_and_the_need() {
    let name = "i2_no_locked_memory_names_the_limit_and_the_need";
    if !is_root(name) || !in_own_process_on_uring(name) {
        return;
    }
    become_nobody(0);
    let text = refusal();
    assert!(text.contains("RLIMIT_MEMLOCK is 0 KiB"), "{text}");
    assert!(text.contains("each loop needs 40 KiB"), "{text}");
    let small = Runner::builder().entries(64).buffers(16, 4096).build().unwrap_err().to_string();
    assert!(small.contains("each loop needs 16 KiB"), "{small}");
}

#[test]
fn i2_no_locked_memory_is_no_reason_for_epoll_but_an_error_that_names_it() {
    let name = "i2_no_locked_memory_is_no_reason_for_epoll_but_an_error_that_names_it";
    if !is_root(name) || !in_own_process_by_auto(name) {
        return;
    }
    become_nobody(0);
    let text = refusal();
    assert!(text.contains("RLIMIT_MEMLOCK is 0 KiB") && text.contains("CORIO_BACKEND=epoll"), "{text}");
    assert_eq!(on(Backend::Epoll).run(async { 1 }), 1);
}

#[test]
fn i2_five_hundred_loops_in_a_row_fit_into_the_default_limit() {
    let name = "i2_five_hundred_loops_in_a_row_fit_into_the_default_limit";
    if !is_root(name) || !in_own_process_on_uring(name) {
        return;
    }
    // The kernel frees the memory of a closed ring late; a new one waits for it.
    become_nobody(8 << 20);
    for n in 0..500 {
        let mut runner = Runner::new().unwrap_or_else(|e| panic!("loop {n}: {e}"));
        runner.run(async {});
    }
}

#[test]
fn i2_a_closed_loop_gives_its_ring_back_while_its_thread_lives() {
    let name = "i2_a_closed_loop_gives_its_ring_back_while_its_thread_lives";
    if !is_root(name) || !in_own_process_on_uring(name) {
        return;
    }
    // Room for eight; the thread could keep sixteen of them by their registration.
    become_nobody(8 * (40 << 10));
    for n in 0..40 {
        Runner::new().unwrap_or_else(|e| panic!("loop {n}: {e}")).close();
    }
}

#[test]
fn i2_a_ring_that_is_too_large_for_the_limit_is_made_smaller() {
    let name = "i2_a_ring_that_is_too_large_for_the_limit_is_made_smaller";
    if !is_root(name) || !in_own_process_on_uring(name) {
        return;
    }
    become_nobody(24 << 10);
    let mut runner = Runner::new().unwrap();
    assert_eq!(runner.run(async { 1 }), 1);
}

/// With none to eleven descriptors left: how many loops there could not be, each for want of one.
fn with_few_descriptors(build: impl Fn() -> io::Result<Runner>) -> usize {
    let _few = FewDescriptors::at_most(64);
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }
    let all = files.len();
    let mut failures = 0;
    for free in 0..12 {
        files.truncate(all - free);
        match build() {
            Ok(mut runner) => assert_eq!(runner.run(async { free }), free),
            Err(e) => {
                failures += 1;
                let text = e.to_string();
                let named = text.contains("RLIMIT_NOFILE is 64") && text.contains("ulimit -n");
                assert!(named && text.contains("CORIO_BACKEND=epoll"), "with {free} left: {text}");
            }
        }
        // What the attempt opened is closed again.
        for _ in 0..free {
            files.push(File::open("/dev/null").unwrap());
        }
        assert!(File::open("/dev/null").is_err());
    }
    failures
}

#[test]
fn i1_without_descriptors_the_limit_is_named_at_every_step() {
    if !in_own_process_on_uring("i1_without_descriptors_the_limit_is_named_at_every_step") {
        return;
    }
    run(async {});
    let failures = with_few_descriptors(Runner::new);
    assert!((3..12).contains(&failures), "{failures} of 12 failed");
}

#[test]
fn i1_no_descriptor_is_no_reason_for_epoll_but_an_error_that_names_it() {
    if !in_own_process_by_auto("i1_no_descriptor_is_no_reason_for_epoll_but_an_error_that_names_it") {
        return;
    }
    run(async {});
    let failures = with_few_descriptors(|| {
        let runner = Runner::new()?;
        assert_eq!(runner.backend().backend(), Backend::Uring);
        Ok(runner)
    });
    assert!((3..12).contains(&failures), "{failures} of 12 failed");
}

#[test]
fn i1_on_epoll_a_loop_needs_two_descriptors() {
    if !in_own_process("i1_on_epoll_a_loop_needs_two_descriptors") {
        return;
    }
    on(Backend::Epoll).run(async {});
    let failures = with_few_descriptors(|| Runner::builder().backend(Backend::Epoll).build());
    assert_eq!(failures, 2, "with none left, and with one");
}
