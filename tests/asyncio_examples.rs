//! Golden tests of the sample programs: every line, in order, at its second. They run in the simulator, whose clock is
//! exact. Samples that need real threads or sockets, and in the slow job (`--ignored`) all of them, run by the wall
//! clock, with 50 ms tolerance.
#![forbid(unsafe_code)]

mod common;

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use common::example;

/// How a program runs.
#[derive(Clone, Copy, PartialEq)]
enum By {
    /// In the simulator.
    Virtual,
    /// On the machine.
    Wall,
}
use By::{Virtual, Wall};

/// A program and what it prints: lines with a time as `+seconds text`, threads as <A> and <B> in the order in which
/// they appear.
type Golden = (&'static str, By, &'static [&'static str]);

const GOLDENS: [Golden; 36] = [
    ("s0_1_future", Virtual, &["s0_1_future::hello::{{closure}}: not started"]),
    ("s0_2_sequential", Virtual, &["+0 start", "+2 hello", "+3 world", "+3 end"]),
    ("s0_3_tasks", Virtual, &["+0 start", "+1 world", "+2 hello", "+2 end"]),
    ("s0_4_gather", Virtual, &["+0 start", "+2 +2 hello", "+2 +1 world", "+2 end"]),
    ("s0_5_lock", Virtual, &["+0 start", "+2 hello", "+3 world", "+3 end"]),
    (
        "s0_6_semaphore",
        Virtual,
        &[
            "+0 start", "+1 msg#1", "+1 msg#2", "+1 msg#3", "+2 msg#4", "+2 msg#5", "+2 msg#6", "+3 msg#7",
            "+3 msg#8", "+3 msg#9", "+3 end",
        ],
    ),
    (
        "s0_7_event",
        Virtual,
        &[
            "+0 start",
            "+0 ready... #1",
            "+0 ready... #2",
            "+0 ready... #3",
            "+3 go! #1",
            "+3 go! #2",
            "+3 go! #3",
            "+3 end",
        ],
    ),
    (
        "s0_8_barrier",
        Virtual,
        &[
            "+0 start",
            "+0 ready... #1 <Barrier [filling, waiters:0/3]>",
            "+1 ready... #2 <Barrier [filling, waiters:1/3]>",
            "+2 ready... #3 <Barrier [filling, waiters:2/3]>",
            "+2 go! #3 <Barrier [draining, waiters:0/3]>",
            "+2 go! #1 <Barrier [draining, waiters:0/3]>",
            "+2 go! #2 <Barrier [filling, waiters:0/3]>",
            "+2 end",
        ],
    ),
    (
        "s0_9_queue",
        Virtual,
        &[
            "+0 start",
            "+3 group#1",
            "  +1 task#1",
            "  +2 task#2",
            "+6 group#2",
            "  +3 task#3",
            "  +4 task#4",
            "  +5 task#5",
            "  +6 task#6",
            "+9 group#3",
            "  +7 task#7",
            "  +8 task#8",
            "  +9 task#9",
            "+12 group#4",
            "  +10 task#10",
            "+12 end",
        ],
    ),
    (
        "s1_1_lock",
        Virtual,
        &[
            "+0 worker2 start",
            "+0 worker2 got lock",
            "+0 worker1 start",
            "+3 worker2 end",
            "+3 worker1 got lock",
            "+6 worker1 end",
        ],
    ),
    (
        "s1_2_event",
        Virtual,
        &[
            "+0 worker2 start",
            "+0 worker3 start",
            "+0 worker1 start",
            "+3 worker3 end",
            "+3 worker2 got event",
            "+3 worker1 got event",
            "+6 worker2 end",
            "+6 worker1 end",
        ],
    ),
    (
        "s1_3_condition",
        Virtual,
        &[
            "+0 asyncio native start3",
            "+3 asyncio native stop3",
            "+3 asyncio native start1",
            "+6 asyncio native stop1",
            "+6 asyncio native start2",
            "+9 asyncio native stop2",
        ],
    ),
    (
        "s1_4_semaphore",
        Virtual,
        &["+0 worker2 start", "+0 worker1 start", "+3 worker2 end", "+3 worker1 end"],
    ),
    (
        "s1_5_queue",
        Virtual,
        &["+0 worker2 start", "+0 worker1 start", "+0 worker1 end", "+0 100", "+0 worker2 end"],
    ),
    ("s2_1_run", Virtual, &["+0 <A>", "+1 <A>"]),
    ("s2_2_to_thread", Wall, &["+0 <A>", "+0 <B>", "+1 <B>", "+1 <A>"]),
    ("s2_3_cancel", Virtual, &["+0 <A>", "+1 cancel? : true"]),
    ("s2_4_shield", Virtual, &["+0 <A>", "+1 <A>", "+2 <A>"]),
    (
        "s2_5_current_task",
        Virtual,
        &[
            "+0 start",
            "<Task running name='Task-1' created at examples/asyncio/s2_5_current_task.rs>",
            "<Task running name='Task-1' created at examples/asyncio/s2_5_current_task.rs>",
            "+0 end",
        ],
    ),
    ("s2_6_task_group", Virtual, &["+0 <A>", "+0 <A>", "+1 <A>", "+2 <A>"]),
    (
        "s2_7_task_group_error",
        Virtual,
        &[
            "+0 <A>",
            "+0 <A>",
            "+1 <A>",
            "+1 unhandled errors in a TaskGroup (1 sub-error)",
            "+1 t1 canceled? : false",
            "+1 t2 canceled? : true",
        ],
    ),
    (
        "s2_8_gather_error",
        Virtual,
        &[
            "+0 <A>",
            "+0 <A>",
            "+2 <A>",
            "+2 failed after 2",
            "+3 <A>",
            "+4 t1 canceled? : false",
            "+4 t2 canceled? : false",
        ],
    ),
    ("s2_9_subprocess", Wall, &["+0 <A>", "+1 <A>"]),
    ("s3_01_call_soon", Virtual, &["Hello World"]),
    ("s3_02_running_loop", Virtual, &["Hello World"]),
    ("s3_03_call_later", Virtual, &["+0 date", "+1 date", "+2 date", "+3 date", "+4 date"]),
    ("s3_05_task", Virtual, &["Hello World"]),
    ("s3_06_display_date", Virtual, &["+0 date", "+1 date", "+2 date", "+3 date", "+4 date"]),
    ("s3_07_chain", Virtual, &["+0 Compute 1 + 2 ...", "+1 1 + 2 = 3"]),
    ("s3_08_future", Virtual, &["+0 start", "+1 Future is done!"]),
    ("s3_09_done_callback", Virtual, &["+0 start", "+1 Future is done!"]),
    ("s3_10_socket_pair", Wall, &["Received: abc"]),
    ("s3_11_ping_pong", Wall, &["Ping", "Pong", "Ping", "Pong", "Ping", "Pong"]),
    ("s3_12_sleep", Virtual, &["+0 before", "+2 after"]),
    ("s3_13_streams", Wall, &["Received: abc"]),
    ("s3_100_blocking", Wall, &["+0 start", "+4 asleep side by side", "+11 blocked one after the other"]),
];

/// What the program prints.
fn run(name: &str, by: By) -> Vec<String> {
    let mut program = example(name);
    program.env("ELAPSED", "1");
    if by == Virtual {
        program.env("CORIO_BACKEND", "sim:1");
    }
    let output = program.output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The line with its times as whole seconds, its threads as letters, and no line numbers. A time may be late by what
/// `by` allows, and never early.
fn plain(line: &str, by: By, threads: &mut HashMap<String, char>) -> String {
    let word = |word: &str| {
        if let Some(seconds) = word.strip_prefix('+').and_then(|time| time.parse::<f64>().ok()) {
            let late_ms = (seconds * 1000.0).round() as u64 % 1000;
            assert!(late_ms <= if by == Virtual { 0 } else { 50 }, "{late_ms} ms late: {line}");
            return format!("+{}", seconds as u64);
        }
        if word.starts_with("ThreadId(") {
            let next = char::from(b'A' + threads.len() as u8);
            return format!("<{}>", threads.entry(word.to_owned()).or_insert(next));
        }
        match word.split_once(".rs:") {
            Some((file, _)) => format!("{file}.rs>"),
            None => word.to_owned(),
        }
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn check(&(name, own, expected): &Golden, by: By) {
    let by = if own == Wall { Wall } else { by };
    let mut threads = HashMap::new();
    let printed: Vec<_> = run(name, by).iter().map(|line| plain(line, by, &mut threads)).collect();
    assert_eq!(printed, expected, "{name}");
}

#[test]
fn every_sample_program_prints_its_lines_at_their_seconds() {
    for golden in GOLDENS.iter().filter(|(_, by, _)| *by == Virtual) {
        check(golden, Virtual);
    }
}

#[test]
fn samples_with_real_threads_and_sockets_print_their_lines() {
    // Their seconds are the slow job's.
    for (name, ..) in GOLDENS.iter().filter(|(name, by, _)| *by == Wall && *name != "s3_100_blocking") {
        let golden = GOLDENS.iter().find(|golden| golden.0 == *name).unwrap();
        let mut threads = HashMap::new();
        let strip = |line: &str| line.split_once(' ').map_or(line, |(_, text)| text).to_owned();
        let timed = |line: &String| if line.starts_with('+') { strip(line) } else { line.clone() };
        let lines: Vec<_> = run(name, Wall).iter().map(timed).collect();
        let printed: Vec<_> = lines.iter().map(|line| plain(line, Wall, &mut threads)).collect();
        let expected: Vec<_> = golden.2.iter().map(|line| timed(&(*line).to_owned())).collect();
        assert_eq!(printed, expected, "{name}");
    }
}

#[test]
fn the_sample_with_signals_ends_by_either_in_order() {
    for (signal, name) in [("-INT", "SIGINT"), ("-TERM", "SIGTERM")] {
        let mut program = example("s3_04_signals").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(program.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert_eq!(lines.next().unwrap(), "Event loop running forever, press Ctrl+C to interrupt.");
        let pid = program.id().to_string();
        assert_eq!(lines.next().unwrap(), format!("pid {pid}: send SIGINT or SIGTERM to exit."));
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        assert_eq!(lines.next().unwrap(), format!("got signal {name}: exit."));
        assert_eq!(lines.next(), None);
        assert!(program.wait().unwrap().success());
    }
}

#[test]
#[ignore = "the slow job: up to 12 seconds, and the machine must be quiet"]
fn every_sample_program_keeps_its_seconds_by_the_wall_clock() {
    std::thread::scope(|scope| {
        for golden in &GOLDENS {
            scope.spawn(move || check(golden, Wall));
        }
    });
}
