//! Reports printed to standard error without an exception handler: they neither block nor end the loop, and a flood of
//! them is summed up by its count.

mod common;

use std::{
    cell::Cell,
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, Command, Output, Stdio},
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use common::{FewDescriptors, assert_passed, child, is_child, ms};
use corio_runtime::{
    Backend, ExceptionContext, Runner, call_exception_handler, create_task, run, set_exception_handler,
    time::sleep, yield_now,
};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

#[track_caller]
fn report(text: impl Into<String>) {
    call_exception_handler(&ExceptionContext::new(text));
}

/// What the child printed to standard error, line by line; `test` passed in it.
fn lines(test: &str, command: &mut Command) -> Vec<String> {
    let output = command.output().unwrap();
    assert_passed(test, &output);
    let text = String::from_utf8(output.stderr).unwrap();
    text.lines().filter(|line| line.starts_with("corio: ")).map(str::to_owned).collect()
}

/// Waits for a child; one that takes minutes hangs.
fn wait(test: &str, mut running: Child) {
    let hangs = Instant::now() + Duration::from_secs(120);
    while running.try_wait().unwrap().is_none() {
        if Instant::now() > hangs {
            running.kill().unwrap();
            panic!("{test} hangs in its own process");
        }
        thread::sleep(ms(10));
    }
    let Output { status, stdout, .. } = running.wait_with_output().unwrap();
    assert_passed(test, &Output { status, stdout, stderr: Vec::new() });
}

#[test]
fn a_stderr_whose_reader_is_gone_ends_neither_the_run_nor_its_close() {
    const TEST: &str = "a_stderr_whose_reader_is_gone_ends_neither_the_run_nor_its_close";
    if is_child(TEST) {
        struct Again;
        impl Drop for Again {
            /// Leaves a task behind, without end: the close has something to report.
            fn drop(&mut self) {
                drop(create_task(async {
                    let _again = Again;
                    std::future::pending::<()>().await;
                }));
            }
        }
        let mut runner = Runner::new().unwrap();
        runner.run(async {
            report("in a run");
            drop(create_task(async {
                let _again = Again;
                std::future::pending::<()>().await;
            }));
            yield_now().await;
            set_exception_handler(|_| panic!("so does the handler"));
            report("to a handler that panics");
        });
        runner.close();
        report("outside of a loop");
        return;
    }
    let (read, write) = io::pipe().unwrap();
    drop(read);
    wait(TEST, child(TEST).stdout(Stdio::piped()).stderr(write).spawn().unwrap());
}

/// What a child has for a standard error that nobody reads.
enum Stuck {
    Pipe(PipeReader, PipeWriter),
    Socket(UnixStream, UnixStream),
}

impl Stuck {
    fn stderr(&self) -> OwnedFd {
        match self {
            Stuck::Pipe(_, write) => write.try_clone().unwrap().into(),
            Stuck::Socket(_, write) => write.try_clone().unwrap().into(),
        }
    }

    /// The flags of the description, which the child shares.
    fn flags(&self) -> OFlag {
        OFlag::from_bits_retain(fcntl(self.stderr(), FcntlArg::F_GETFL).unwrap())
    }
}

#[test]
fn a_stderr_that_nobody_reads_never_keeps_the_loop() {
    const TEST: &str = "a_stderr_that_nobody_reads_never_keeps_the_loop";
    if is_child(TEST) {
        if std::env::var_os("NO_DESCRIPTORS").is_some() {
            run(async {
                let _few = FewDescriptors::at_most(3);
                (0..100).for_each(|n| report(format!("{n} {}", "x".repeat(9000))));
            });
        } else {
            run(async {
                (0..100).for_each(|n| report(format!("{n} {}", "x".repeat(9000))));
                // Kinds of their own: these are not suppressed.
                report("y".repeat(1 << 20));
                (0..30).for_each(|_| report("z".repeat(9000)));
            });
        }
        report("w".repeat(1 << 20));
        return;
    }
    let pipe = || {
        let (read, write) = io::pipe().unwrap();
        Stuck::Pipe(read, write)
    };
    let (read, write) = UnixStream::pair().unwrap();
    for (stuck, env) in
        [(pipe(), "A_PIPE"), (pipe(), "NO_DESCRIPTORS"), (Stuck::Socket(read, write), "A_SOCKET")]
    {
        let before = stuck.flags();
        let mut command = child(TEST);
        command.env(env, "1").stdout(Stdio::piped()).stderr(stuck.stderr());
        wait(TEST, command.spawn().unwrap());
        assert_eq!(stuck.flags(), before, "{env}: the description is others', too");
        let mut told = String::new();
        match stuck {
            Stuck::Pipe(mut read, write) => {
                drop((command, write));
                read.read_to_string(&mut told).unwrap();
            }
            Stuck::Socket(mut read, write) => {
                drop((command, write));
                read.read_to_string(&mut told).unwrap();
            }
        }
        assert!(told.starts_with("corio: 0 xxx"), "{env}: {}", &told[..told.len().min(100)]);
    }
}

#[test]
fn what_found_no_room_comes_once_there_is_some_in_order_and_what_was_lost_is_told() {
    const TEST: &str = "what_found_no_room_comes_once_there_is_some_in_order_and_what_was_lost_is_told";
    if is_child(TEST) {
        // The parent reads on until it has what it wants.
        thread::spawn(|| {
            thread::sleep(Duration::from_secs(60));
            std::process::abort();
        });
        let capacity = fcntl(io::stderr(), FcntlArg::F_GETPIPE_SZ).unwrap();
        io::stderr().write_all(&vec![b'\n'; capacity.try_into().unwrap()]).unwrap();
        run(async {
            // They do not fit into what may wait.
            (0..10).for_each(|n| report(format!("{n} {}", "x".repeat(9000))));
            println!("it is full");
            loop {
                sleep(ms(10)).await;
            }
        });
    }
    let (read, write) = io::pipe().unwrap();
    let mut command = child(TEST);
    let mut running = command.stdout(Stdio::piped()).stderr(write).spawn().unwrap();
    drop(command);
    let mut said = BufReader::new(running.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("it is full")));
    let mut told = BufReader::new(read).lines().map(Result::unwrap).filter(|line| !line.is_empty());
    for n in 0..7 {
        assert_eq!(told.next().unwrap(), format!("corio: {n} {}", "x".repeat(9000)));
    }
    assert_eq!(told.next().unwrap(), "corio: 3 reports were lost: standard error took no more");
    running.kill().unwrap();
    running.wait().unwrap();
}

#[test]
fn a_file_gets_the_whole_of_a_long_report_behind_what_is_there() {
    const TEST: &str = "a_file_gets_the_whole_of_a_long_report_behind_what_is_there";
    if is_child(TEST) {
        return run(async { report("long ".repeat(2000)) });
    }
    let path = std::env::temp_dir().join(format!("corio-reports-{}", std::process::id()));
    let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).open(&path).unwrap();
    file.write_all(b"before\n").unwrap();
    assert_passed(TEST, &child(TEST).stderr(file).output().unwrap());
    let told = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(told, format!("before\ncorio: {}\n", "long ".repeat(2000)));
}

/// How many reports the lines say were suppressed.
fn suppressed(told: &[String]) -> usize {
    let counts = told.iter().filter_map(|line| {
        let numbers = line.rsplit_once('(').map(|(_, rest)| rest).or_else(|| line.strip_prefix("corio: "));
        numbers?.split_once(" more ")?.0.parse::<usize>().ok()
    });
    counts.sum()
}

fn simulated() -> Runner {
    Runner::builder().backend(Backend::Sim { seed: 1 }).build().unwrap()
}

#[test]
fn of_each_kind_ten_are_printed_at_once_then_one_a_second_and_the_rest_is_counted() {
    const TEST: &str = "of_each_kind_ten_are_printed_at_once_then_one_a_second_and_the_rest_is_counted";
    if is_child(TEST) {
        return simulated().run(async {
            let flood = |n| report(format!("flood {n}"));
            (0..1000).for_each(flood);
            report("another place");
            sleep(Duration::from_secs(20)).await;
            for n in 1000..1100 {
                flood(n);
                sleep(ms(100)).await;
            }
        });
    }
    let told = lines(TEST, &mut child(TEST));
    let at_once: Vec<String> = (0..10).map(|n| format!("corio: flood {n}")).collect();
    assert_eq!(told[..10], at_once);
    assert_eq!(told[10], "corio: another place");
    // The flood has ended.
    assert_eq!(told[11], "corio: 990 more reports were suppressed, the last of them: flood 999");
    let (slow, end) = told[12..].split_at(told.len() - 13);
    // Of 10 seconds at 10 a second: 11 in the first second, then one a second with the number of the others.
    assert_eq!(slow.len(), 19, "{slow:#?}");
    assert!(slow[11..].iter().all(|line| line.ends_with(" more suppressed)")), "{slow:#?}");
    // The rest is told at the end of the loop.
    assert!(end[0].contains("more reports were suppressed"), "{end:?}");
    let printed = told.iter().filter(|line| line.starts_with("corio: flood")).count();
    assert_eq!(printed + suppressed(&told), 1100, "every report is printed or counted: {told:#?}");
}

#[test]
fn a_flood_of_one_kind_does_not_hide_others() {
    const TEST: &str = "a_flood_of_one_kind_does_not_hide_others";
    if is_child(TEST) {
        return simulated().run(async {
            let failed = |e: io::ErrorKind| {
                call_exception_handler(&ExceptionContext::new("a handler").with_error(e.into()));
            };
            (0..1000).for_each(|_| failed(io::ErrorKind::ConnectionReset));
            failed(io::ErrorKind::StorageFull);
            let spawn = || drop(create_task(async { panic!("lost") }));
            (0..1000).for_each(|_| spawn());
            drop(create_task(async { panic!("elsewhere") }));
            yield_now().await;
        });
    }
    let told = lines(TEST, &mut child(TEST));
    let count = |text: &str| told.iter().filter(|line| line.contains(text)).count();
    assert_eq!(count("a handler: connection reset"), 10 + 1, "{told:#?}");
    assert_eq!(count("a handler: no storage space"), 1, "{told:#?}");
    assert_eq!(count("panicked: lost"), 10 + 1, "{told:#?}");
    assert_eq!(count("panicked: elsewhere"), 1, "{told:#?}");
    assert_eq!(count("corio: 990 more reports were suppressed, the last of them: "), 2, "{told:#?}");
}

#[test]
fn outside_of_a_loop_reports_are_counted_until_the_thread_ends() {
    const TEST: &str = "outside_of_a_loop_reports_are_counted_until_the_thread_ends";
    if is_child(TEST) {
        let reports = || (0..1000).for_each(|n| report(format!("outside {n}")));
        return thread::spawn(reports).join().unwrap();
    }
    let told = lines(TEST, &mut child(TEST));
    let printed = told.iter().filter(|line| line.starts_with("corio: outside")).count();
    assert!((10..1000).contains(&printed), "{told:#?}");
    assert_eq!(printed + suppressed(&told), 1000, "{told:#?}");
}

#[test]
fn a_handler_of_ones_own_gets_every_report() {
    let heard = Rc::new(Cell::new(0));
    let count = heard.clone();
    simulated().run(async move {
        set_exception_handler(move |_| count.set(count.get() + 1));
        (0..1000).for_each(|_| report("flood"));
    });
    assert_eq!(heard.get(), 1000);
}

#[test]
fn loop_21_an_error_whose_text_panics_is_reported_all_the_same() {
    const TEST: &str = "loop_21_an_error_whose_text_panics_is_reported_all_the_same";
    if is_child(TEST) {
        #[derive(Debug)]
        struct Rude;
        impl std::fmt::Display for Rude {
            fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                panic!("in a text")
            }
        }
        impl std::error::Error for Rude {}
        return run(async {
            call_exception_handler(&ExceptionContext::new("told").with_error(io::Error::other(Rude)));
        });
    }
    assert_eq!(lines(TEST, &mut child(TEST)), ["corio: told (the text of its error panicked)"]);
}
