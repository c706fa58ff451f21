//! Process groups of real shells with children of their own: signals to all of a group, and groups that end with the
//! handle.

#[path = "../../runtime/tests/common/shared.rs"]
mod shared;

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use corio_process::{Command, Process, Stdio};
use corio_runtime::{try_gather, yield_now};
use nix::{
    errno::Errno,
    sys::{signal::kill, wait::waitpid},
    unistd::Pid,
};
use shared::{in_own_process, on, real_kernels};

/// On each real kernel.
fn on_every(test: impl AsyncFn()) {
    for backend in real_kernels() {
        on(backend).run(test());
    }
}

/// A shell with two children, one of them a shell with a child: they print their process numbers before it goes on
/// with `then`.
fn family(then: &str) -> Command {
    let script =
        format!("sleep 3600 & echo $!; sh -c 'sleep 3600 & echo $!; wait' & read go; echo $!; {then}");
    let mut command = Command::shell(script);
    command.stdin(Stdio::Pipe).stdout(Stdio::Pipe);
    command
}

/// The numbers of the descendants of a `family`, which then goes on.
async fn descendants(shell: &mut Process) -> Vec<Pid> {
    let mut stdout = shell.stdout.take().unwrap();
    let mut pids = Vec::new();
    for n in 0..3 {
        if n == 2 {
            shell.stdin.as_mut().unwrap().write_all("go\n").await.unwrap();
        }
        let line = stdout.readline().await.unwrap();
        pids.push(Pid::from_raw(String::from_utf8_lossy(&line).trim().parse().unwrap()));
    }
    shell.stdout = Some(stdout);
    pids
}

/// Whether the process runs; a zombie does not.
fn runs(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Waits until none of them runs.
async fn all_gone(pids: &[Pid]) {
    let begin = Instant::now();
    while let Some(pid) = pids.iter().find(|pid| runs(**pid)) {
        assert!(begin.elapsed() < Duration::from_secs(20), "process {pid} still runs");
        yield_now().await;
    }
}

/// Waits until the process is neither running nor a zombie of ours.
async fn reaped(pid: Pid) {
    let begin = Instant::now();
    while kill(pid, None) != Err(Errno::ESRCH) {
        assert!(begin.elapsed() < Duration::from_secs(20), "process {pid} is left");
        yield_now().await;
    }
}

fn number(process: &Process) -> Pid {
    Pid::from_raw(process.pid().cast_signed())
}

#[test]
fn a_signal_to_the_group_reaches_the_grandchildren_too() {
    on_every(async || {
        let mut shell = family("wait").process_group(0).spawn().await.unwrap();
        let pids = descendants(&mut shell).await;
        assert!(pids.iter().all(|pid| runs(*pid)));
        shell.send_signal_group(15).unwrap();
        assert_eq!(shell.wait().await.unwrap(), -15);
        all_gone(&pids).await;
    });
}

#[test]
fn a_signal_to_the_child_alone_leaves_its_group() {
    on_every(async || {
        let mut shell = family("wait").kill_group_on_drop(true).spawn().await.unwrap();
        let pids = descendants(&mut shell).await;
        shell.kill().unwrap();
        assert_eq!(shell.wait().await.unwrap(), -9);
        assert!(pids.iter().all(|pid| runs(*pid)));
    });
}

#[test]
fn a_dropped_handle_takes_its_group_with_it_if_asked() {
    on_every(async || {
        let mut shell = family("wait").kill_group_on_drop(true).spawn().await.unwrap();
        let (mut pids, pid) = (descendants(&mut shell).await, number(&shell));
        drop(shell);
        pids.push(pid);
        all_gone(&pids).await;
        reaped(pid).await;
    });
}

#[test]
fn a_group_whose_leader_has_exited_is_killed_too_and_the_leader_reaped() {
    on_every(async || {
        let mut shell = family("exit 3").kill_group_on_drop(true).spawn().await.unwrap();
        let (pids, pid) = (descendants(&mut shell).await, number(&shell));
        assert_eq!((shell.wait().await.unwrap(), shell.returncode()), (3, Some(3)));
        assert_eq!(shell.send_signal(15).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(pids.iter().all(|pid| runs(*pid)));
        assert_eq!(kill(pid, None), Ok(()), "its number is kept");
        drop(shell);
        all_gone(&pids).await;
        assert_eq!(kill(pid, None), Err(Errno::ESRCH));
    });
}

#[test]
fn without_being_asked_a_dropped_handle_leaves_the_group() {
    on_every(async || {
        let mut shell = family("exit 0").process_group(0).kill_on_drop(true).spawn().await.unwrap();
        let (pids, pid) = (descendants(&mut shell).await, number(&shell));
        shell.wait().await.unwrap();
        reaped(pid).await;
        drop(shell);
        assert!(pids.iter().all(|pid| runs(*pid)));
        for pid in &pids {
            kill(*pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        all_gone(&pids).await;
    });
}

#[test]
fn a_group_is_signalled_only_while_it_is_surely_the_childs() {
    on_every(async || {
        let kind = |process: &Process| process.send_signal_group(18).unwrap_err().kind();
        let inherits = Command::new("sleep").arg("60").kill_on_drop(true).spawn().await.unwrap();
        assert_eq!(kind(&inherits), ErrorKind::InvalidInput, "the group is ours");
        let gone = Command::new("true").process_group(0).spawn().await.unwrap();
        gone.wait().await.unwrap();
        assert_eq!(kind(&gone), ErrorKind::InvalidInput, "the leader was reaped");
        let leads = Command::new("sleep").arg("60").kill_group_on_drop(true).spawn().await.unwrap();
        assert_eq!(leads.send_signal_group(99).unwrap_err().kind(), ErrorKind::InvalidInput);
        leads.send_signal_group(18).unwrap();
        let joins = i32::try_from(leads.pid()).unwrap();
        let mut command = Command::new("sleep");
        let joined = command.arg("60").kill_on_drop(true).process_group(joins).spawn().await.unwrap();
        assert_eq!(kind(&joined), ErrorKind::InvalidInput, "the group is another's");
        let refused = Command::new("true").process_group(joins).kill_group_on_drop(true).spawn().await;
        let refused = refused.unwrap_err();
        assert!(refused.to_string().contains("is not the child's own"), "{refused}");
    });
}

#[test]
fn no_child_is_left_however_its_handle_goes() {
    let name = "no_child_is_left_however_its_handle_goes";
    if !in_own_process(name) {
        return;
    }
    on_every(async || {
        for script in ["exit 0", "sleep 3600 & exit 0", "sleep 3600 & wait"] {
            let mut handles = Vec::new();
            for n in 0..9 {
                let mut command = Command::shell(script);
                let shell = command.kill_group_on_drop(true).spawn().await.unwrap();
                if n % 3 == 0 && script != "sleep 3600 & wait" {
                    shell.wait().await.unwrap();
                }
                handles.push((number(&shell), shell));
            }
            let pids: Vec<Pid> = handles.iter().map(|(pid, _)| *pid).collect();
            drop(handles);
            for pid in pids {
                reaped(pid).await;
            }
        }
    });
    assert_eq!(waitpid(None, None), Err(Errno::ECHILD), "no child and no zombie");
}

#[test]
fn a_loop_that_ends_first_leaves_the_group_to_the_handle() {
    for backend in real_kernels() {
        let (shell, pids) = on(backend).run(async {
            let mut shell = family("wait").kill_group_on_drop(true).spawn().await.unwrap();
            let pids = descendants(&mut shell).await;
            (shell, pids)
        });
        assert!(pids.iter().all(|pid| runs(*pid)));
        let pid = number(&shell);
        drop(shell);
        corio_runtime::run(async {
            all_gone(&pids).await;
            reaped(pid).await;
        });
    }
}

#[test]
fn a_started_program_can_be_returned_from_a_closure() {
    on_every(async || {
        let start = |code: &str| Command::new("sh").arg("-c").arg(format!("exit {code}")).spawn();
        let processes = try_gather(["3", "4"].map(start)).await.unwrap();
        let mut codes = Vec::new();
        for process in &processes {
            codes.push(process.wait().await.unwrap());
        }
        assert_eq!(codes, [3, 4]);
        assert!(Command::new("/no/such/program").spawn().await.is_err());
    });
}
