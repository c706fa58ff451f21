//! The rows of the asyncio conformance list about subprocesses, on real processes.

#[path = "../../runtime/tests/common/shared.rs"]
mod shared;

use std::{
    ffi::OsString,
    io::{self, ErrorKind},
    path::PathBuf,
    pin::pin,
    sync::Arc,
    task::{Context, Wake, Waker},
    time::Duration,
};

use corio_process::{Command, Process, Stdio, create_subprocess_exec, create_subprocess_shell};
use corio_runtime::{
    Backend, Runner, create_task, gather, run,
    time::{sleep, timeout},
};
use shared::{in_own_process, open_fds, reports, until};

/// `script`, run by the shell with all its standard streams piped.
async fn piped(script: &str) -> Process {
    let mut command = Command::shell(script);
    command.stdin(Stdio::Pipe).stdout(Stdio::Pipe).stderr(Stdio::Pipe).spawn().await.unwrap()
}

#[test]
fn sub_01_cat_gives_back_what_it_is_given() {
    run(async {
        let mut cat = Command::new("cat").stdin(Stdio::Pipe).stdout(Stdio::Pipe).spawn().await.unwrap();
        let mut stdin = cat.stdin.take().unwrap();
        stdin.write(b"some data").unwrap();
        stdin.drain().await.unwrap();
        stdin.close();
        let data = cat.stdout.as_mut().unwrap().read_to_end().await.unwrap();
        assert_eq!((&data[..], cat.wait().await.unwrap()), (&b"some data"[..], 0));
        assert!(cat.stderr.is_none());
    });
}

#[test]
fn sub_02_sub_03_sub_16_communicate_writes_closes_and_reads_to_the_end() {
    run(async {
        for input in [Some(&b"some data"[..]), Some(&b""[..]), None] {
            let mut cat = piped("cat; echo done >&2").await;
            let output = cat.communicate(input).await.unwrap();
            assert_eq!(output.stdout, input.unwrap_or_default());
            assert_eq!((&output.stderr[..], cat.returncode()), (&b"done\n"[..], Some(0)));
        }
    });
}

#[test]
fn sub_04_the_status_of_a_shell_command() {
    run(async {
        let shell = create_subprocess_shell("exit 7").await.unwrap();
        assert_eq!(shell.returncode(), None);
        assert_eq!(shell.wait().await.unwrap(), 7);
        assert_eq!(shell.returncode(), Some(7));
        assert_eq!(format!("{shell:?}"), format!("<Process {} returncode: 7>", shell.pid()));
    });
}

#[test]
fn sub_05_a_session_of_its_own_by_the_std_command() {
    use std::os::unix::process::CommandExt;
    run(async {
        let mut command = Command::shell("exit 8");
        // SAFETY: `setsid` is safe to call after a fork.
        unsafe {
            command.as_std_mut().pre_exec(|| nix::unistd::setsid().map(|_| ()).map_err(io::Error::from))
        };
        assert_eq!(command.spawn().await.unwrap().wait().await.unwrap(), 8);
    });
}

#[test]
fn sub_06_sub_08_a_killed_or_terminated_process_tells_its_signal() {
    run(async {
        let sleeper = create_subprocess_exec("sleep", ["3600"]).await.unwrap();
        sleeper.kill().unwrap();
        assert_eq!(sleeper.wait().await.unwrap(), -9);
        let sleeper = create_subprocess_exec("sleep", ["3600"]).await.unwrap();
        sleeper.terminate().unwrap();
        assert_eq!(sleeper.wait().await.unwrap(), -15);
    });
}

#[test]
fn sub_07_sub_36_wait_ends_with_the_process_though_a_grandchild_keeps_the_pipe() {
    run(async {
        let mut command = Command::shell("sleep 3600 & echo $!; wait");
        let mut shell = command.stdout(Stdio::Pipe).process_group(0).spawn().await.unwrap();
        let grandchild = shell.stdout.as_mut().unwrap().readline().await.unwrap();
        let grandchild: i32 = String::from_utf8_lossy(&grandchild).trim().parse().unwrap();
        shell.kill().unwrap();
        assert_eq!(shell.wait().await.unwrap(), -9);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(grandchild), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
        assert!(shell.stdout.unwrap().read(1).await.unwrap().is_empty());
    });
}

#[test]
fn sub_09_a_signal_by_its_number() {
    run(async {
        let mut command = Command::shell("echo sleeping; exec sleep 3600");
        let mut sleeper = command.stdout(Stdio::Pipe).spawn().await.unwrap();
        assert_eq!(sleeper.stdout.as_mut().unwrap().readline().await.unwrap(), b"sleeping\n");
        sleeper.send_signal(1).unwrap();
        assert_eq!(sleeper.wait().await.unwrap(), -1);
        assert_eq!(sleeper.send_signal(0).unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn sub_10_a_process_that_has_ended_gets_no_signal() {
    run(async {
        let process = create_subprocess_exec("true", [""; 0]).await.unwrap();
        assert_eq!(process.wait().await.unwrap(), 0);
        for refused in [process.kill(), process.terminate(), process.send_signal(1)] {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&process.pid().to_string()), "{error}");
        }
        assert_eq!((process.returncode(), process.wait().await.unwrap()), (Some(0), 0));
    });
}

#[test]
fn sub_11_a_signal_at_the_moment_of_the_exit_is_delivered_or_refused() {
    run(async {
        for n in 0..100 {
            let process = create_subprocess_shell("exit 3").await.unwrap();
            sleep(Duration::from_micros(n * 17)).await;
            let sent = process.send_signal(1);
            let code = process.wait().await.unwrap();
            assert!(code == 3 || code == -1 && sent.is_ok(), "{sent:?} and {code}");
        }
    });
}

#[test]
fn sub_12_k2_a_child_that_does_not_read_breaks_the_pipe() {
    run(async {
        let mut child = Command::shell("exec sleep 0.02").stdin(Stdio::Pipe).spawn().await.unwrap();
        let stdin = child.stdin.as_mut().unwrap();
        stdin.write(vec![b'x'; 10 << 20]).unwrap();
        assert_eq!(stdin.drain().await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(child.wait().await.unwrap(), 0);
    });
}

#[test]
fn sub_13_communicate_takes_no_offence_at_a_child_that_does_not_read() {
    run(async {
        let big = vec![b'x'; 10 << 20];
        let mut child = piped("head -c 3; exit 4").await;
        let output = child.communicate(Some(&big)).await.unwrap();
        assert_eq!((&output.stdout[..], child.returncode()), (&b"xxx"[..], Some(4)));
        // It dies while it is written to.
        let mut child = piped("head -c 100000 > /dev/null; kill -9 $$").await;
        child.communicate(Some(&big)).await.unwrap();
        assert_eq!(child.returncode(), Some(-9));
    });
}

/// More than a pipe and the loop hold.
const MUCH: usize = 1 << 20;

#[test]
fn sub_14_reading_pauses_at_the_limit_and_goes_on_without_a_loss() {
    run(async {
        let mut command = Command::shell(format!("head -c {MUCH} /dev/zero"));
        let mut child = command.stdout(Stdio::Pipe).limit(10).spawn().await.unwrap();
        let first = child.stdout.as_mut().unwrap().read(5).await.unwrap().len();
        // Now nobody reads: the child cannot write it all.
        assert!(timeout(Duration::from_millis(200), child.wait()).await.is_err(), "reading did not pause");
        let output = child.communicate(None).await.unwrap();
        assert_eq!((first + output.stdout.len(), child.returncode()), (MUCH, Some(0)));
        let mut command = Command::shell("printf xxxxxxxxxxxxxxxxxxxxx");
        let mut child = command.stdout(Stdio::Pipe).limit(10).spawn().await.unwrap();
        assert_eq!(child.communicate(None).await.unwrap().stdout, [b'x'; 21]);
        assert_eq!(command.limit(0).spawn().await.unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn j3_sub_15_a_child_inherits_its_standard_streams_and_nothing_of_the_loop() {
    let list = ["-c", "exec ls /proc/self/fd"];
    // What this process was started with may have more.
    let before = std::process::Command::new("sh").args(list).output().unwrap().stdout;
    run(async {
        let mut other = piped("exec sleep 3600").await;
        assert!(timeout(Duration::from_millis(1), other.stdout.as_mut().unwrap().read(1)).await.is_err());
        let mut command = Command::new("sh");
        let mut child = command
            .args(list)
            .stdin(Stdio::Pipe)
            .stdout(Stdio::Pipe)
            .stderr(Stdio::Pipe)
            .spawn()
            .await
            .unwrap();
        let output = child.communicate(None).await.unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), String::from_utf8(before).unwrap());
        other.kill().unwrap();
    });
}

#[test]
fn sub_17_the_null_device_in_every_place() {
    run(async {
        let mut command = Command::shell("wc -c; echo err >&2");
        let mut child =
            command.stdin(Stdio::DevNull).stdout(Stdio::Pipe).stderr(Stdio::DevNull).spawn().await.unwrap();
        assert!(child.stdin.is_none() && child.stderr.is_none());
        let output = child.communicate(None).await.unwrap();
        assert_eq!((String::from_utf8(output.stdout).unwrap().trim(), &output.stderr[..]), ("0", &b""[..]));
        let mut child = Command::shell("echo out").stdout(Stdio::DevNull).spawn().await.unwrap();
        assert!(child.stdout.is_none() && child.communicate(None).await.unwrap().stdout.is_empty());
    });
}

#[test]
fn sub_18_a_piped_stdin_can_be_opened_by_its_name() {
    run(async {
        let mut child = piped("cat /dev/stdin | wc -c").await;
        let output = child.communicate(Some(b"abc")).await.unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), "3");
    });
}

#[test]
fn sub_19_sub_29_any_number_waits_and_a_cancelled_wait_changes_nothing() {
    run(async {
        let sleeper = std::rc::Rc::new(create_subprocess_exec("sleep", ["3600"]).await.unwrap());
        assert!(timeout(Duration::from_millis(5), sleeper.wait()).await.is_err());
        let waits: Vec<_> = (0..10)
            .map(|_| {
                let sleeper = sleeper.clone();
                create_task(async move { sleeper.wait().await.unwrap() })
            })
            .collect();
        sleep(Duration::from_millis(1)).await;
        sleeper.kill().unwrap();
        assert!(gather(waits).await.into_iter().all(|code| code.unwrap() == -9));
        assert_eq!(
            gather((0..10).map(|_| sleeper.wait())).await.into_iter().map(Result::unwrap).sum::<i32>(),
            -90
        );
    });
}

#[test]
fn sub_29_a_cancelled_wait_leaves_nothing_with_the_process() {
    struct Idle;
    impl Wake for Idle {
        fn wake(self: Arc<Self>) {}
    }
    run(async {
        let sleeper = Command::new("sleep").arg("3600").kill_on_drop(true).spawn().await.unwrap();
        let wakers = [Arc::new(Idle), Arc::new(Idle)];
        for _ in 0..3 {
            let mut wait = pin!(sleeper.wait());
            for waker in &wakers {
                let waker = Waker::from(Arc::clone(waker));
                assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            }
            // The one that was polled with last.
            assert_eq!(wakers.each_ref().map(Arc::strong_count), [1, 2]);
        }
        assert_eq!(wakers.each_ref().map(Arc::strong_count), [1, 1]);
        sleeper.kill().unwrap();
        assert_eq!(sleeper.wait().await.unwrap(), -9);
    });
}

#[test]
fn sub_20_sub_21_spawning_is_one_step_so_a_cancelled_one_has_a_process_or_none() {
    run(async {
        let mut command = Command::new("sleep");
        command.arg("3600").kill_on_drop(true);
        let mut spawning = Box::pin(command.spawn());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let polled = std::future::Future::poll(spawning.as_mut(), &mut cx);
        let std::task::Poll::Ready(Ok(process)) = polled else { panic!("it is done at once") };
        let pid = nix::unistd::Pid::from_raw(process.pid().cast_signed());
        drop(process);
        await_reaped(pid).await;
    });
}

async fn await_reaped(pid: nix::unistd::Pid) {
    // A zombie takes the null signal; what was reaped does not.
    while nix::sys::signal::kill(pid, None).is_ok() {
        sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn sub_22_sub_23_a_dropped_process_is_killed_if_asked_for_and_always_reaped() {
    run(async {
        for (script, kill) in [("exec sleep 3600", true), ("exit 0", true), ("exec sleep 0.05", false)] {
            let process = Command::shell(script).kill_on_drop(kill).spawn().await.unwrap();
            let pid = nix::unistd::Pid::from_raw(process.pid().cast_signed());
            drop(process);
            await_reaped(pid).await;
        }
    });
}

#[test]
fn sub_24_k1_what_cannot_be_run_is_named() {
    run(async {
        let error = create_subprocess_exec("/no/such/program", ["x"]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("'/no/such/program'"), "{error}");
        let cause = std::error::Error::source(&error).unwrap().downcast_ref::<std::io::Error>().unwrap();
        assert_eq!(cause.raw_os_error(), Some(2), "the kernel's error is the source");
        let error = Command::new("true").current_dir("/no/such/place").spawn().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("working directory '/no/such/place'"), "{error}");
        let error = Command::new("/etc/passwd").stdin(Stdio::Pipe).spawn().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        let error = Command::new("true").stdout(Stdio::Stdout).spawn().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
    let mut simulated = Runner::builder().backend(Backend::Sim { seed: 1 }).build().unwrap();
    let error = simulated.run(create_subprocess_shell("true")).unwrap_err();
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("processes"), "{error}");
}

#[test]
fn sub_24_a_spawn_that_fails_leaves_no_pipe_open_and_reports_nothing() {
    if !in_own_process("sub_24_a_spawn_that_fails_leaves_no_pipe_open_and_reports_nothing") {
        return;
    }
    run(async {
        let heard = reports();
        let failing: [fn() -> Command; 3] = [
            || Command::new("/no/such/program"),
            || Command::new("/etc/passwd"),
            || {
                let mut elsewhere = Command::new("true");
                elsewhere.current_dir("/no/such/place");
                elsewhere
            },
        ];
        let fail = async || {
            for command in failing {
                let mut command = command();
                let piped = command.stdin(Stdio::Pipe).stdout(Stdio::Pipe).stderr(Stdio::Pipe);
                assert!(piped.spawn().await.is_err());
            }
        };
        // The first one opens what the loop keeps.
        fail().await;
        let before = open_fds();
        for _ in 0..10 {
            fail().await;
        }
        // What is closed through the ring is closed a moment later.
        until(|| open_fds() <= before).await;
        assert!(heard.borrow().is_empty(), "{heard:?}");
    });
}

#[test]
fn sub_25_output_is_there_after_the_exit() {
    run(async {
        let mut command = Command::shell("head -c 60000 /dev/zero");
        let mut child = command.stdout(Stdio::Pipe).spawn().await.unwrap();
        assert_eq!(child.wait().await.unwrap(), 0);
        let (stdout, mut count) = (child.stdout.as_mut().unwrap(), 0);
        loop {
            let data = stdout.read(1000).await.unwrap();
            if data.is_empty() {
                break;
            }
            count += data.len();
        }
        assert_eq!(count, 60_000);
        assert!(stdout.read(1).await.unwrap().is_empty());
        // More than a pipe holds.
        let mut command = Command::shell("head -c 262144 /dev/zero");
        let mut child = command.stdout(Stdio::Pipe).spawn().await.unwrap();
        let all = child.stdout.as_mut().unwrap().readexactly(262_144).await.unwrap();
        assert!(all.len() == 262_144 && child.wait().await.unwrap() == 0);
    });
}

#[test]
fn sub_27_paths_and_any_strings_are_programs_and_arguments() {
    run(async {
        let program = PathBuf::from("/bin/sh");
        let args = [OsString::from("-c"), OsString::from("exit 5")];
        assert_eq!(create_subprocess_exec(program, args).await.unwrap().wait().await.unwrap(), 5);
    });
}

#[test]
fn sub_28_the_environment_is_what_was_set() {
    run(async {
        let mut command = Command::shell("echo \"$FOO|$BAR|${HOME-none}\"");
        command.stdout(Stdio::Pipe).env_clear().env("FOO", "bar").envs([("BAR", "baz")]);
        let output = command.spawn().await.unwrap().communicate(None).await.unwrap();
        assert_eq!(output.stdout, b"bar|baz|none\n");
        command.env_remove("BAR").current_dir("/");
        let output = command.spawn().await.unwrap().communicate(None).await.unwrap();
        assert_eq!(output.stdout, b"bar||none\n");
    });
}

#[test]
fn sub_30_ten_children_at_once() {
    run(async {
        let outputs = gather((0..10).map(|n| async move {
            let mut command = Command::new("echo");
            let mut child = command.arg(format!("foo{n}")).stdout(Stdio::Pipe).spawn().await?;
            io::Result::Ok(child.communicate(None).await?.stdout)
        }))
        .await;
        for (n, output) in outputs.into_iter().enumerate() {
            assert_eq!(output.unwrap(), format!("foo{n}\n").into_bytes());
        }
    });
}

#[test]
fn sub_32_a_loop_on_any_thread_has_children_and_any_thread_waits() {
    let (process, code) = std::thread::spawn(|| {
        run(async {
            let mut child = create_subprocess_shell("exit 6").await.unwrap();
            let code = child.wait().await.unwrap();
            child = create_subprocess_shell("sleep 0.1; exit 9").await.unwrap();
            (child, code)
        })
    })
    .join()
    .unwrap();
    assert_eq!(code, 6);
    // Its loop is gone: the exit is seen all the same.
    assert_eq!(run(process.wait()).unwrap(), 9);
}

#[test]
fn sub_33_a_conversation_with_a_child() {
    run(async {
        let mut cat = Command::new("cat").stdin(Stdio::Pipe).stdout(Stdio::Pipe).spawn().await.unwrap();
        for line in ["first\n", "second\n"] {
            cat.stdin.as_mut().unwrap().write_all(line).await.unwrap();
            assert_eq!(cat.stdout.as_mut().unwrap().readline().await.unwrap(), line.as_bytes());
        }
        assert!(cat.communicate(None).await.unwrap().stdout.is_empty());
        assert_eq!(cat.returncode(), Some(0));
    });
}

#[test]
fn sub_34_sub_38_stderr_apart_or_the_same_as_stdout() {
    run(async {
        let script = "echo out; echo err >&2";
        let output = piped(script).await.communicate(None).await.unwrap();
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
        let mut command = Command::shell(script);
        let mut child = command.stdout(Stdio::Pipe).stderr(Stdio::Stdout).spawn().await.unwrap();
        assert!(child.stderr.is_none());
        let output = child.communicate(None).await.unwrap();
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\nerr\n"[..], &b""[..]));
        // Into a descriptor of ours, both.
        let (read, write) = io::pipe().unwrap();
        let mut command = Command::shell(script);
        let child = command.stdout(Stdio::Fd(write.into())).stderr(Stdio::Stdout).spawn().await.unwrap();
        drop(command);
        assert_eq!(child.wait().await.unwrap(), 0);
        assert_eq!(io::read_to_string(read).unwrap(), "out\nerr\n");
    });
}

#[test]
fn communicate_has_no_size_at_which_it_blocks() {
    run(async {
        let big: Vec<u8> = (0..8 << 20).map(|n: u32| (n % 251) as u8).collect();
        let mut child = piped("tee /dev/stderr").await;
        let output = child.communicate(Some(&big)).await.unwrap();
        assert!(output.stdout == big && output.stderr == big);
    });
}

#[test]
fn communicate_that_was_cancelled_goes_on_where_it_was() {
    run(async {
        let goes_on = std::env::temp_dir().join(format!("corio-goes-on-{}", std::process::id()));
        let script = format!("cat; until [ -e {} ]; do sleep 0.01; done; echo end", goes_on.display());
        let mut child = piped(&script).await;
        let cancelled = timeout(Duration::from_millis(20), child.communicate(Some(b"begin\n"))).await;
        assert!(cancelled.is_err());
        std::fs::write(&goes_on, "").unwrap();
        let output = child.communicate(Some(b"begin\n")).await.unwrap();
        std::fs::remove_file(goes_on).unwrap();
        assert_eq!(output.stdout, b"begin\nend\n");
    });
}

#[test]
fn processes_are_send_and_their_futures_too() {
    fn send<T: Send>(_: &T) {}
    run(async {
        let mut child = piped("exit 0").await;
        send(&child);
        send(&child.wait());
        send(&child.communicate(None));
        let moved = std::thread::spawn(move || {
            let killed = child.kill();
            (child, killed.is_ok())
        });
        let (child, _) = moved.join().unwrap();
        child.wait().await.unwrap();
    });
}
