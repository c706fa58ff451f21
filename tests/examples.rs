//! The examples do what the README says.
#![forbid(unsafe_code)]

mod common;

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    process::{Command, Output, Stdio},
    time::Duration,
};

use common::{Server, example};
use corio::event_loop::backend;
use nix::sys::signal::Signal;

/// Sends a line; the line that comes back.
fn ask(stream: &mut BufReader<TcpStream>, line: &str) -> String {
    stream.get_mut().write_all(line.as_bytes()).unwrap();
    line_of(stream)
}

/// The next line; empty at the end of the connection.
fn line_of(stream: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    line
}

#[test]
fn echo_server_echoes_small_and_large_messages() {
    let server = Server::of("echo_server", &[]);
    let mut stream = TcpStream::connect(&server.addr).unwrap();
    for size in [64, 1 << 20] {
        let message: Vec<u8> = (0..size).map(|i| (i * 31) as u8).collect();
        let mut writer = stream.try_clone().unwrap();
        let to_send = message.clone();
        let sender = std::thread::spawn(move || writer.write_all(&to_send).unwrap());
        let mut reply = vec![0; size];
        stream.read_exact(&mut reply).unwrap();
        sender.join().unwrap();
        assert!(reply == message, "{size} bytes");
    }
}

#[test]
fn echo_server_tells_which_kernel_it_runs_on_and_why() {
    let server = Server::of("echo_server", &[]);
    assert_eq!(server.beside, format!("by {}", corio::run(async { backend() })));
}

#[test]
fn echo_client_prints_the_replies() {
    let server = Server::of("echo_server", &[]);
    let output = example("echo_client").args(["--addr", &server.addr, "hello", "world"]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "hello\nworld\n".to_owned()));
}

#[test]
fn echo_client_sends_the_lines_of_its_input_and_of_a_message() {
    let server = Server::of("echo_server", &[]);
    let output =
        example("echo_client").args(["--addr", &server.addr, "two\nlines", "last"]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "two\nlines\nlast\n".to_owned()));

    // More than the sockets between them hold.
    let mut child = example("echo_client")
        .args(["--addr", &server.addr])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = "x".repeat(20 << 20) + "\nshort\n";
    let (mut stdin, to_send) = (child.stdin.take().unwrap(), input.clone());
    let sender = std::thread::spawn(move || stdin.write_all(to_send.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    sender.join().unwrap();
    assert!(output.status.success() && output.stdout == input.as_bytes(), "{}", text(&output.stderr));
}

#[test]
fn echo_client_fails_when_the_server_leaves_early() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 6]).unwrap();
        stream.write_all(b"hel").unwrap();
    });
    let output = example("echo_client").args(["--addr", &addr, "hello", "world"]).output().unwrap();
    server.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("3 bytes read"), "{}", text(&output.stderr));
}

#[test]
fn echo_bench_measures_and_prints_a_table_and_a_picture() {
    let output = example("echo_bench")
        .args(["--seconds", "1", "--connections", "4", "--pipeline", "2"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let out = text(&output.stdout);
    let kernel = corio::run(async { backend() });
    assert!(out.starts_with(&format!("on {kernel}\n")), "not on {kernel}:\n{out}");
    for row in ["messages per second", "latency p99.9", "server CPU per message", "latency, by the share"] {
        assert!(out.contains(row), "no {row:?} in\n{out}");
    }
    assert!(!out.contains(" 0.0 µs"), "latencies are not measured:\n{out}");
    // Why it runs on its kernel may be a long story.
    assert!(
        out.lines().skip(1).all(|line| line.chars().count() <= 80),
        "a line is wider than a terminal:\n{out}"
    );
}

/// More in flight than the sockets between them hold: an end that only wrote would wait for ever.
#[test]
fn echo_bench_reads_while_it_writes() {
    let output = example("echo_bench")
        .args(["--seconds", "2", "--connections", "1", "--pipeline", "8", "--size", "1048576"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn bad_arguments_are_named_and_end_with_2() {
    let cases: [(&[&str], &str); 12] = [
        (&["--connections", "0"], "0 is not in 1..=10000"),
        (&["--connections", "10001"], "10001 is not in 1..=10000"),
        (&["--connections", "many"], "invalid digit"),
        (&["--size", "0"], "0 is not in 1..=16777216"),
        (&["--size", "16777217"], "16777217 is not in 1..=16777216"),
        (&["--pipeline", "0"], "0 is not in 1..=1024"),
        (&["--pipeline", "1025"], "1025 is not in 1..=1024"),
        (&["--pipeline", "-1"], "unexpected argument '-1'"),
        (&["--seconds", "0"], "0 is not in 1..=3600"),
        (&["--seconds", "3601"], "3601 is not in 1..=3600"),
        (&["--size", "16777216", "--connections", "65"], "more than 1073741824"),
        (&["--unknown"], "unexpected argument '--unknown'"),
    ];
    for (args, expected) in cases {
        refused(example("echo_bench").args(args), expected);
    }
}

#[test]
fn too_few_open_files_are_raised_or_named() {
    let limited = |limit: &str, connections: &str| {
        let mut shell = Command::new("sh");
        let script = format!("ulimit {limit}; exec \"$0\" --seconds 1 --connections {connections}");
        shell.arg("-c").arg(script).arg(example("echo_bench").get_program());
        shell
    };
    refused(&mut limited("-n 150", "50"), "needs 200 open files, but the limit is 150");
    let output = limited("-Sn 64", "50").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn a_bad_address_is_named() {
    for name in ["echo_server", "echo_client"] {
        refused(example(name).args(["--addr", "nonsense"]), "'nonsense'");
        refused(example(name).args(["--addr", "127.0.0.1:65536"]), "expected HOST:PORT");
    }
}

fn refused(command: &mut Command, expected: &str) {
    let output: Output = command.output().unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{command:?}: {error}");
    assert!(error.contains(expected), "{command:?}: no {expected:?} in {error}");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn subprocess_runs_side_by_side_and_tells_the_first_failure() {
    let commands = ["echo one; sleep 0.1; echo two >&2", "exit 3", "kill -9 $$"];
    let output = example("subprocess").args(commands).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let lines: Vec<_> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    let of =
        |command: &str| lines.iter().filter(|line| line.starts_with(command)).copied().collect::<Vec<_>>();
    assert_eq!(of("[1]"), ["[1] one", "[1] two", "[1] ended with 0"]);
    assert_eq!((of("[2]"), of("[3]")), (vec!["[2] ended with 3"], vec!["[3] ended with -9"]));
    let output = example("subprocess").args(["kill -9 $$"]).output().unwrap();
    assert_eq!(output.status.code(), Some(137));
}

/// The numbers of each core's line: connections, those cut, turns.
fn per_core(said: &str) -> Vec<[u64; 3]> {
    let numbers = |(index, line): (usize, &str)| {
        let line = line.strip_prefix(&format!("core {index}: ")).expect("the cores in their order");
        let [connections, cut, turns] = line.split(", ").collect::<Vec<_>>()[..] else { panic!("{line}") };
        let number = |text: &str, unit| text.strip_suffix(unit).expect(unit).parse().unwrap();
        [number(connections, " connections"), number(cut, " cut"), number(turns, " turns")]
    };
    said.lines().enumerate().map(numbers).collect()
}

#[test]
fn multi_core_echo_serves_on_every_core_and_tells_their_numbers_at_the_signal() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut server = Server::of("multi_core_echo", &["--cores", "3", "--balance", "least"]);
        let mut clients: Vec<_> = (0..12).map(|_| server.connect()).collect();
        for client in &mut clients {
            assert_eq!(ask(client, "hello\n"), "hello\n");
        }
        // The one that stays is cut, after the grace.
        let stays = clients.pop().unwrap();
        for client in &mut clients {
            client.get_ref().shutdown(Shutdown::Write).unwrap();
            assert_eq!(line_of(client), "", "its connection has ended");
        }
        server.signal(signal);
        let (status, said) = server.ended();
        drop(stays);
        let cores = per_core(&said);
        assert_eq!((status, cores.len()), (Some(0), 3), "{said}");
        assert!(cores.iter().all(|[connections, _, turns]| *connections == 4 && *turns > 0), "{said}");
        assert_eq!(cores.iter().map(|[_, cut, _]| cut).sum::<u64>(), 1, "{said}");
    }
}

#[test]
fn multi_core_echo_takes_all_cores_by_default_and_shares_by_hash() {
    let mut server = Server::of("multi_core_echo", &[]);
    for _ in 0..10 {
        assert_eq!(ask(&mut server.connect(), "hello\n"), "hello\n");
    }
    server.signal(Signal::SIGTERM);
    let (status, said) = server.ended();
    let cores = per_core(&said);
    let all = core_affinity::get_core_ids().unwrap().len();
    assert_eq!((status, cores.len()), (Some(0), all), "{said}");
    assert_eq!(cores.iter().map(|[connections, ..]| connections).sum::<u64>(), 10, "{said}");
}

#[test]
fn multi_core_echo_names_what_is_wrong() {
    refused(example("multi_core_echo").args(["--cores", "0"]), "0 is not in 1..=1024");
    refused(example("multi_core_echo").args(["--balance", "even"]), "possible values: hash, least");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let output = example("multi_core_echo").args(["--addr", &addr]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&format!("cannot listen on {addr}")), "{}", text(&output.stderr));
}

#[test]
fn threadsafe_bridge_answers_a_plain_thread_and_tokio() {
    let output = example("threadsafe_bridge").output().unwrap();
    let said = text(&output.stdout);
    // The threads are side by side: each has an order of its own.
    let (of_tokio, of_plain): (Vec<_>, Vec<_>) = said.lines().partition(|line| line.starts_with("tokio"));
    let expected = [
        "the loop got a callback of the plain thread",
        "the plain thread got 3",
        "the plain thread got no value: the result was not there in time",
        "the plain thread got no value: the task was cancelled",
    ];
    assert_eq!((of_plain, of_tokio), (expected.to_vec(), vec!["tokio got 5 and 6"]));
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

/// So many requests of `millis` that the server has begun, each on a connection of its own.
fn in_progress(server: &mut Server, count: usize, millis: u64) -> Vec<BufReader<TcpStream>> {
    let begun: usize = statistics(server).iter().sum();
    let mut clients: Vec<_> = (0..count).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.get_mut().write_all(format!("{millis}\n").as_bytes()).unwrap();
    }
    // On a slow machine the first ones may be answered before the last ones begin.
    while statistics(server).iter().sum::<usize>() < begun + count {
        std::thread::sleep(Duration::from_millis(1));
    }
    clients
}

/// What SIGHUP prints: requests in progress, and those answered.
fn statistics(server: &mut Server) -> [usize; 2] {
    server.signal(Signal::SIGHUP);
    let mut line = String::new();
    server.stdout.read_line(&mut line).unwrap();
    let [running, answered] = line.trim().split(", ").collect::<Vec<_>>()[..] else { panic!("{line}") };
    let number = |text: &str, unit| text.strip_suffix(unit).expect(unit).parse().unwrap();
    [number(running, " in progress"), number(answered, " answered")]
}

#[test]
fn signals_graceful_answers_requests_and_prints_statistics_at_sighup() {
    let mut server = Server::of("signals_graceful", &[]);
    let mut client = server.connect();
    assert_eq!(ask(&mut client, "5\n"), "done after 5 ms\n");
    assert!(ask(&mut client, "soon\n").starts_with("error: not a number of milliseconds"));
    let _running = in_progress(&mut server, 3, 3_600_000);
    assert_eq!(statistics(&mut server), [3, 2]);
}

#[test]
fn signals_graceful_cuts_no_request_within_the_grace() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut server = Server::of("signals_graceful", &["--grace", "20000"]);
        let mut idle = server.connect();
        assert_eq!(ask(&mut idle, "0\n"), "done after 0 ms\n");
        let mut running = in_progress(&mut server, 50, 500);
        server.signal(signal);
        assert_eq!(line_of(&mut idle), "", "what idles is closed");
        assert!(TcpStream::connect(&server.addr).is_err(), "a new connection is refused");
        for client in &mut running {
            assert_eq!([line_of(client), line_of(client)], ["done after 500 ms\n", ""]);
        }
        let (status, said) = server.ended();
        assert_eq!(status, Some(0));
        assert!(said.starts_with("stopping: ") && said.ends_with("\n0 cut, 51 answered\n"), "{said}");
    }
}

#[test]
fn signals_graceful_cuts_what_is_longer_than_the_grace() {
    let mut server = Server::of("signals_graceful", &["--grace", "100"]);
    let mut running = in_progress(&mut server, 1, 3_600_000);
    let mut idle = server.connect();
    assert_eq!(ask(&mut idle, "0\n"), "done after 0 ms\n");
    server.signal(Signal::SIGTERM);
    let cut = running[0].read(&mut [0; 10]).unwrap_err();
    assert_eq!(cut.kind(), ErrorKind::ConnectionReset);
    assert_eq!(server.ended(), (Some(0), "stopping: 1 in progress\n1 cut, 1 answered\n".to_owned()));
}

#[test]
fn embed_in_tokio_echoes_on_one_thread() {
    // The long one takes several turns.
    let long = "x".repeat(100_000);
    for (args, reply) in [(&[][..], "hello"), (&["good morning"], "good morning"), (&[long.as_str()], &long)]
    {
        let output = example("embed_in_tokio").args(args).output().unwrap();
        let said = text(&output.stdout);
        let (server, client) = said.split_once('\n').expect("two lines");
        let of_server = server.strip_prefix("corio's server, on ").unwrap().strip_suffix(", has a client");
        let of_client = client.strip_prefix("tokio's client, on ").unwrap().split(", ").next();
        assert_eq!(of_server, of_client, "one thread");
        assert!(client.ends_with(&format!(", got {reply}\n")), "{said}");
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    }
}
