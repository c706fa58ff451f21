//! The examples do what the README says.
#![forbid(unsafe_code)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::Once,
};

/// An example's program, built like this test.
fn example(name: &str) -> Command {
    static BUILT: Once = Once::new();
    let own = std::env::current_exe().unwrap();
    let target: PathBuf = own.ancestors().nth(2).unwrap().into();
    BUILT.call_once(|| {
        let profile = if target.ends_with("release") { "release" } else { "dev" };
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--examples", "--profile", profile]).current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(build.status().unwrap().success(), "the examples do not build");
    });
    Command::new(target.join("examples").join(name))
}

struct Server {
    child: Child,
    addr: String,
}

impl Server {
    fn start() -> Server {
        let mut child =
            example("echo_server").args(["--addr", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addr = line.trim().strip_prefix("listening on ").expect("the line that says where").to_owned();
        Server { child, addr }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn echo_server_echoes_small_and_large_messages() {
    let server = Server::start();
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
fn echo_client_prints_the_replies() {
    let server = Server::start();
    let output = example("echo_client").args(["--addr", &server.addr, "hello", "world"]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "hello\nworld\n".to_owned()));
}

#[test]
fn echo_bench_measures_and_prints_a_table_and_a_picture() {
    let output = example("echo_bench")
        .args(["--seconds", "1", "--connections", "4", "--pipeline", "2"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let out = text(&output.stdout);
    for row in ["messages per second", "latency p99.9", "server CPU per message", "latency, by the share"] {
        assert!(out.contains(row), "no {row:?} in\n{out}");
    }
    assert!(!out.contains(" 0.0 µs"), "latencies are not measured:\n{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 80), "a line is wider than a terminal:\n{out}");
}

#[test]
fn bad_arguments_are_named_and_end_with_2() {
    let cases: [&[&str]; 6] = [
        &["--connections", "0"],
        &["--connections", "10001"],
        &["--size", "16777217"],
        &["--pipeline", "x"],
        &["--seconds", "0"],
        &["--unknown"],
    ];
    for args in cases {
        let output: Output = example("echo_bench").args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(args[0]), "{args:?}: {}", text(&output.stderr));
    }
}

#[test]
fn a_bad_address_is_named() {
    let output = example("echo_server").args(["--addr", "nonsense"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("nonsense"));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
