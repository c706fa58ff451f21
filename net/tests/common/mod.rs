//! What the integration tests share: children, counts, patterns, and blocking peers.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Output},
};

use corio_net::{StreamReader, StreamWriter};
use nix::sys::socket::{setsockopt, sockopt};

/// Open descriptors of the process.
pub(crate) fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

const CHILD: &str = "CORIO_TEST_CHILD";

pub(crate) fn is_child(test: &str) -> bool {
    std::env::var(CHILD).is_ok_and(|name| name == test)
}

/// The command that runs `test` again in a process of its own, where `is_child(test)` holds.
pub(crate) fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD, test);
    command
}

/// For tests that count or change something of the whole process. `true` in a process of its own; `false` in the
/// usual one, once the other has succeeded.
pub(crate) fn in_own_process(test: &str) -> bool {
    if is_child(test) {
        return true;
    }
    let output: Output = child(test).output().unwrap();
    let said =
        format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{test} failed in its own process ({}):\n{said}", output.status);
    assert!(said.contains("1 passed"), "there is no test {test}:\n{said}");
    false
}

pub(crate) fn pattern(len: usize, salt: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(31) ^ (i >> 8) ^ salt) as u8).collect()
}

pub(crate) async fn echo(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    loop {
        let data = reader.read(256 * 1024).await?;
        if data.is_empty() {
            return Ok(());
        }
        writer.write_all(data).await?;
    }
}

/// A blocking client that sends `message` and reads as much back.
pub(crate) fn blocking_echo(addr: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(addr)?;
    stream.write_all(message)?;
    let mut reply = vec![0; message.len()];
    stream.read_exact(&mut reply)?;
    Ok(reply)
}

/// Closes with a reset.
pub(crate) fn reset(stream: TcpStream) {
    setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
}

/// Makes partial sends likely.
pub(crate) fn shrink_send_buffer(stream: &TcpStream) {
    setsockopt(stream, sockopt::SndBuf, &4096).unwrap();
}
