//! Loops that cannot be set up: the error says why, and what to do. Each test runs in a process of its own.

mod common;

use std::{error::Error, fs::File, io, os::unix::fs::MetadataExt, sync::mpsc, thread};

use common::{FewDescriptors, assert_passed, child, in_own_process, is_child, open_fds};
use corio_runtime::{Runner, TaskError, create_task, run, to_thread, yield_now};
use nix::sys::resource::{Resource, setrlimit};

/// Makes the system call `number` fail with `errno` on this thread.
fn refuse(number: libc::c_long, errno: i32) {
    let statement = |code: u32, k: u32, jt, jf| libc::sock_filter { code: code as u16, jt, jf, k };
    let errno = libc::SECCOMP_RET_ERRNO | errno as u32;
    let mut filter = [
        // The number of the call is the first word of the data.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number as u32, 0, 1),
        statement(libc::BPF_RET | libc::BPF_K, errno, 0, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: takes numbers only.
    let done = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(done, 0);
    // SAFETY: the program and its filter outlive the call, which copies them.
    let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
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
    if !in_own_process("i3_setup_refused_by_seccomp_names_the_sysctl_and_the_profile") {
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
    if !in_own_process("i3_setup_hidden_by_seccomp_names_the_kernel_and_the_sandbox") {
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
    if !in_own_process("i3_register_refused_by_seccomp_names_it") {
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
    if !in_own_process("i3_enter_refused_by_seccomp_names_it") {
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
    let refused =
        [("eventfd2", libc::SYS_eventfd2), ("socketpair", libc::SYS_socketpair), ("pipe2", libc::SYS_pipe2)];
    for (name, _) in refused {
        let test = "i3_another_call_that_is_refused_is_named_and_not_taken_for_io_uring";
        if !is_child(test) {
            assert_passed(test, &child(test).env("REFUSED", name).output().unwrap());
        }
    }
    let Ok(chosen) = std::env::var("REFUSED") else { return };
    let (name, number) = refused.into_iter().find(|(name, _)| *name == chosen).unwrap();
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
    if !in_own_process(test) {
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
    if !is_root(name) || !in_own_process(name) {
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
fn i2_five_hundred_loops_in_a_row_fit_into_the_default_limit() {
    let name = "i2_five_hundred_loops_in_a_row_fit_into_the_default_limit";
    if !is_root(name) || !in_own_process(name) {
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
    if !is_root(name) || !in_own_process(name) {
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
    if !is_root(name) || !in_own_process(name) {
        return;
    }
    become_nobody(24 << 10);
    let mut runner = Runner::new().unwrap();
    assert_eq!(runner.run(async { 1 }), 1);
}

#[test]
fn i1_without_descriptors_the_limit_is_named_at_every_step() {
    if !in_own_process("i1_without_descriptors_the_limit_is_named_at_every_step") {
        return;
    }
    run(async {});
    let _few = FewDescriptors::at_most(64);
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }
    let all = files.len();
    let mut failures = 0;
    for free in 0..12 {
        files.truncate(all - free);
        match Runner::new() {
            Ok(mut runner) => assert_eq!(runner.run(async { free }), free),
            Err(e) => {
                failures += 1;
                let text = e.to_string();
                let named = text.contains("RLIMIT_NOFILE is 64") && text.contains("ulimit -n");
                assert!(named, "with {free} descriptors left: {text}");
            }
        }
        // What the attempt opened is closed again.
        for _ in 0..free {
            files.push(File::open("/dev/null").unwrap());
        }
        assert!(File::open("/dev/null").is_err());
    }
    assert!((3..12).contains(&failures), "{failures} of 12 failed");
}
