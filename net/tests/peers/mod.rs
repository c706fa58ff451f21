//! What the integration tests share: peers of the standard library, and re-executed children.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    cell::RefCell,
    future::Future,
    io::{self, Read},
    net::{TcpListener, TcpStream},
    process::{Command, Output, Stdio},
    rc::Rc,
    time::Duration,
};

use corio_net::{Connection, StreamReader, StreamWriter};
use corio_runtime::{
    set_exception_handler,
    time::{sleep, timeout},
};

const CHILD: &str = "CORIO_TEST_CHILD";
/// A test that takes longer hangs.
const HANGS: Duration = Duration::from_secs(20);

/// Whether this process is the child that runs `test` alone.
pub(crate) fn is_child(test: &str) -> bool {
    std::env::var(CHILD).is_ok_and(|name| name == test)
}

/// The command that runs `test` again in a process of its own, where `is_child(test)` holds.
pub(crate) fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD, test);
    command.stdin(Stdio::null());
    command
}

/// Fails unless the child ran `test` to its end.
pub(crate) fn assert_passed(test: &str, output: &Output) {
    let said =
        format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{test} failed in its own process ({}):\n{said}", output.status);
    assert!(said.contains("1 passed"), "there is no test {test}:\n{said}");
}

/// `true` in a process of its own; `false` in the usual one, once the other has succeeded.
pub(crate) fn in_own_process(test: &str) -> bool {
    if is_child(test) {
        return true;
    }
    assert_passed(test, &child(test).output().unwrap());
    false
}

/// Runs a loop, and fails if `main` hangs.
pub(crate) fn run<F: Future>(main: F) -> F::Output {
    corio_runtime::run(async {
        match timeout(HANGS, main).await {
            Ok(value) => value,
            Err(_) => panic!("the test hangs"),
        }
    })
}

/// A connection: the stream, and its peer.
pub(crate) async fn pair() -> (StreamReader, StreamWriter, TcpStream) {
    pair_with_limit(65536).await
}

pub(crate) async fn pair_with_limit(limit: usize) -> (StreamReader, StreamWriter, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = Connection::builder().limit(limit).connect(listener.local_addr().unwrap());
    let (reader, writer) = connection.await.unwrap();
    let (peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(HANGS)).unwrap();
    (reader, writer, peer)
}

/// Waits until `done`.
pub(crate) async fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        sleep(Duration::from_millis(1)).await;
    }
}

/// Bytes that have arrived and were not read.
pub(crate) fn buffered(reader: &StreamReader) -> usize {
    let text = format!("{reader:?}");
    let number = text.split("Some(").nth(1).and_then(|rest| rest.split(')').next());
    number.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

/// The reports to the running loop's exception handler from now on.
pub(crate) fn reports() -> Rc<RefCell<Vec<String>>> {
    let reports = Rc::new(RefCell::new(Vec::new()));
    let heard = reports.clone();
    set_exception_handler(move |context| heard.borrow_mut().push(context.to_string()));
    reports
}

/// Reads all that a peer gets, on a thread.
pub(crate) fn read_all(mut peer: TcpStream) -> std::thread::JoinHandle<io::Result<Vec<u8>>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).map(|_| all)
    })
}

/// Waits for a thread without holding the loop up.
pub(crate) async fn join<T>(thread: std::thread::JoinHandle<T>) -> T {
    until(|| thread.is_finished()).await;
    thread.join().unwrap()
}

/// `count` bytes, each different from its neighbours.
pub(crate) fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i % 251) as u8).collect()
}
