//! Thousands of children: no zombie, no lost status, no leaked descriptor; and other code that waits for them or
//! signals them.

#[path = "../../runtime/tests/common/shared.rs"]
mod shared;

use std::{io::ErrorKind, time::Duration};

use corio_process::{Command, Process, Stdio, create_subprocess_exec, create_subprocess_shell};
use corio_runtime::{create_task, gather, run, time::sleep, yield_now};
use nix::sys::resource::{Resource, setrlimit};
use shared::{in_own_process, open_fds};

/// Children of this process, zombies included.
fn children() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let of = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.ok()?.path().join("children")).ok()
    };
    tasks.filter_map(of).map(|list| list.split_whitespace().count()).sum()
}

#[test]
fn k1_a_thousand_children_waited_killed_and_dropped_leave_nothing_behind() {
    if !in_own_process("k1_a_thousand_children_waited_killed_and_dropped_leave_nothing_behind") {
        return;
    }
    run(async {
        drop(create_subprocess_shell("true").await.unwrap().wait().await);
        let before = (open_fds(), children());
        for round in 0..50 {
            let fates = (0..20).map(|n| one_child(round * 20 + n));
            gather(fates).await;
        }
        while (open_fds(), children()) != before {
            sleep(Duration::from_millis(2)).await;
        }
    });
}

/// One of the fates that a child may have, and that its status tells it.
async fn one_child(n: u64) {
    let script = format!("read line; exit {}", n % 100);
    let mut command = Command::shell(&script);
    command.stdin(Stdio::Pipe).stdout(Stdio::Pipe).kill_on_drop(n.is_multiple_of(2));
    let mut child = command.spawn().await.unwrap();
    sleep(Duration::from_micros(n * 37 % 900)).await;
    match n % 5 {
        0 => drop(child),
        1 => {
            let _ = child.kill();
            assert_eq!(child.wait().await.unwrap(), -9);
        }
        2 => {
            child.communicate(Some(b"x\n")).await.unwrap();
            assert_eq!(child.returncode(), Some((n % 100) as i32));
        }
        3 => {
            child.stdin = None;
            assert_eq!(child.wait().await.unwrap(), (n % 100) as i32);
        }
        _ => {
            let waiting = create_task(async move { child.wait().await });
            yield_now().await;
            waiting.cancel();
        }
    }
}

#[test]
fn k1_children_that_outlive_their_loop_are_reaped_and_still_waited_for() {
    if !in_own_process("k1_children_that_outlive_their_loop_are_reaped_and_still_waited_for") {
        return;
    }
    let before = children();
    let kept: Vec<Process> = run(async {
        let mut kept = Vec::new();
        for n in 0..40 {
            let child = create_subprocess_shell(format!("sleep 0.{:02}; exit {n}", n % 10)).await.unwrap();
            if n % 2 == 0 { kept.push(child) } else { drop(child) }
        }
        kept
    });
    for (n, child) in kept.iter().enumerate() {
        assert_eq!(run(child.wait()).unwrap(), 2 * n as i32);
    }
    drop(kept);
    while children() != before {
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn k1_ten_thousand_spawns_of_a_missing_program_leave_nothing_behind() {
    if !in_own_process("k1_ten_thousand_spawns_of_a_missing_program_leave_nothing_behind") {
        return;
    }
    run(async {
        let mut command = Command::new("/no/such/program");
        command.stdin(Stdio::Pipe).stdout(Stdio::Pipe).stderr(Stdio::Pipe);
        let _ = command.spawn().await;
        let before = (open_fds(), children());
        for _ in 0..10_000 {
            assert_eq!(command.spawn().await.unwrap_err().kind(), ErrorKind::NotFound);
        }
        assert_eq!((open_fds(), children()), before);
    });
}

#[test]
fn k1_i1_without_descriptors_spawning_says_so_and_leaves_nothing_behind() {
    if !in_own_process("k1_i1_without_descriptors_spawning_says_so_and_leaves_nothing_behind") {
        return;
    }
    run(async {
        let mut command = Command::new("true");
        drop(command.spawn().await.unwrap().wait().await);
        let before = open_fds();
        command.stdin(Stdio::Pipe).stdout(Stdio::Pipe).stderr(Stdio::Pipe);
        // Every number of descriptors that is too small for a child fails in one way or another.
        let mut refused = 0;
        for room in 0..16 {
            setrlimit(Resource::RLIMIT_NOFILE, before as u64 - 1 + room, 1024).unwrap();
            match command.spawn().await {
                Ok(child) => assert_eq!(child.wait().await.unwrap(), 0),
                Err(e) => {
                    refused += 1;
                    assert!(
                        e.to_string().contains("'true'") && e.to_string().contains("descriptors")
                            || e.to_string().contains("open files"),
                        "{e}"
                    );
                }
            }
        }
        assert!((3..16).contains(&refused), "{refused}");
        setrlimit(Resource::RLIMIT_NOFILE, 1024, 1024).unwrap();
        while open_fds() != before || children() != 0 {
            sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn k1_an_ignored_sigchld_costs_the_status_and_nothing_else() {
    if !in_own_process("k1_an_ignored_sigchld_costs_the_status_and_nothing_else") {
        return;
    }
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: no handler is installed.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.unwrap();
    run(async {
        let child = create_subprocess_exec("sleep", ["0.02"]).await.unwrap();
        let error = child.wait().await.unwrap_err();
        assert!(error.to_string().contains("lost") && error.to_string().contains("SIGCHLD"), "{error}");
        assert_eq!(child.kill().unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}
