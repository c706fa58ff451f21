//! Threads, signals, processes.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use corio::{
    signal::{SignalKind, add_signal_handler, remove_signal_handler, signal},
    subprocess::{Command, Stdio},
    task::run_coroutine_threadsafe,
};

use super::table::{Extreme, Row, row};

/// The number of a signal. Those between are the system's own.
#[derive(Clone, Copy)]
struct Number(i32);

impl std::fmt::Debug for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Extreme for Number {
    fn extremes() -> Vec<Number> {
        // SIGKILL, SIGSEGV, SIGUSR2, what the C library keeps for itself, the last one, and behind it.
        [i32::MIN, -1, 0, 9, 11, 12, 32, 33, 64, 65, 1000, i32::MAX / 2, i32::MAX].map(Number).to_vec()
    }
}

/// A child with these settings runs. What only the system can know is its affair: rights, and which groups there are.
fn spawns(set: impl FnOnce(&mut Command)) -> io::Result<()> {
    corio::run(async {
        let mut command = Command::new("true");
        set(&mut command);
        match command.spawn().await {
            Ok(process) => process.wait().await.map(drop),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            Err(e) => Err(e),
        }
    })
}

pub(crate) fn rows() -> Vec<Row> {
    [threads(), signals(), processes()].into_iter().flatten().collect()
}

fn threads() -> Vec<Row> {
    vec![row("ConcurrentFuture::result", |wait: Option<Duration>| {
        corio::run(async move {
            let home = corio::handle();
            let short = wait.is_some_and(|wait| wait < Duration::from_millis(1));
            // Who waits for a moment only gets its answer behind that, however slow the machine is.
            let may_answer = Arc::new(AtomicBool::new(!short));
            let thread = std::thread::spawn(move || {
                let asked = Arc::clone(&may_answer);
                let mut answer = run_coroutine_threadsafe(&home, || async move {
                    while !asked.load(Ordering::SeqCst) {
                        corio::sleep(Duration::from_millis(1)).await;
                    }
                    7
                });
                let result = answer.result(wait);
                may_answer.store(true, Ordering::SeqCst);
                result.ok()
            });
            let result = corio::to_thread(move || thread.join().unwrap()).await;
            assert_eq!(result.is_none(), short);
            Ok(())
        })
    })]
}

fn signals() -> Vec<Row> {
    vec![
        row("SignalKind::from_raw", |Number(n)| {
            assert_eq!(SignalKind::from_raw(n).as_raw(), n);
            Ok(())
        }),
        row("signal", |Number(n)| corio::run(async move { signal(SignalKind::from_raw(n)).map(drop) })),
        row("add_signal_handler", |Number(n)| {
            corio::run(async move {
                add_signal_handler(SignalKind::from_raw(n), || ())?;
                assert!(remove_signal_handler(SignalKind::from_raw(n)));
                Ok(())
            })
        }),
        row("remove_signal_handler", |Number(n)| {
            corio::run(async move {
                assert!(!remove_signal_handler(SignalKind::from_raw(n)));
                Ok(())
            })
        }),
    ]
}

fn processes() -> Vec<Row> {
    vec![
        row("Command::limit", |limit: usize| {
            corio::run(async move {
                let mut command = Command::shell("printf 'a\\nb'");
                let mut process = command.stdout(Stdio::Pipe).limit(limit).spawn().await?;
                let mut stdout = process.stdout.take().expect("a pipe");
                assert_eq!(stdout.readline().await?, b"a\n");
                process.wait().await.map(drop)
            })
        }),
        row("Command::process_group", |group: i32| {
            spawns(|command| {
                command.process_group(group);
            })
        }),
        row("Process::send_signal_group", |Number(n)| {
            corio::run(async move {
                let mut command = Command::new("sleep");
                let sleeper = command.arg("60").kill_group_on_drop(true).spawn().await?;
                sleeper.send_signal_group(n)
            })
        }),
        row("Command::uid", |uid: u32| {
            spawns(|command| {
                command.uid(uid);
            })
        }),
        row("Command::gid", |gid: u32| {
            spawns(|command| {
                command.gid(gid);
            })
        }),
        row("Process::send_signal", |Number(n)| {
            corio::run(async move {
                let mut command = Command::new("sleep");
                let sleeper = command.arg("60").kill_on_drop(true).spawn().await?;
                sleeper.send_signal(n)
            })
        }),
    ]
}
