//! Helpers for tests of the examples: their programs, some of which are servers.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpStream,
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    sync::Once,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// An answer that is not there by then will never be.
pub(crate) const HANGS: Duration = Duration::from_secs(20);

/// An example's program, built like this test.
pub(crate) fn example(name: &str) -> Command {
    static BUILT: Once = Once::new();
    let own = std::env::current_exe().unwrap();
    let target: PathBuf = own.ancestors().nth(2).unwrap().into();
    BUILT.call_once(|| {
        let profile = if target.ends_with("release") { "release" } else { "dev" };
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--examples", "--all-features", "--profile", profile]);
        let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
        assert!(built.success(), "the examples do not build");
    });
    Command::new(target.join("examples").join(name))
}

/// An example that serves until it is told to end.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) stdout: BufReader<ChildStdout>,
    pub(crate) addr: String,
    /// What it says behind the address.
    pub(crate) beside: String,
}

impl Server {
    /// The example `name`, on a free port.
    pub(crate) fn of(name: &str, args: &[&str]) -> Server {
        let mut command = example(name);
        let mut child =
            command.args(["--addr", "127.0.0.1:0"]).args(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let said = line.trim().strip_prefix("listening on ").expect("the line that says where");
        let (addr, beside) = said.split_once(' ').unwrap_or((said, ""));
        Server { child, stdout, addr: addr.to_owned(), beside: beside.to_owned() }
    }

    pub(crate) fn connect(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(&self.addr).unwrap();
        stream.set_read_timeout(Some(HANGS)).unwrap();
        BufReader::new(stream)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// The exit status, and the rest of what it said.
    pub(crate) fn ended(&mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.stdout.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended needs neither.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
