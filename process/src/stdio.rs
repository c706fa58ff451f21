//! A child's standard streams.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    process,
};

use corio_net::{StreamReader, StreamWriter, connect_read_pipe_with_limit, connect_write_pipe};
use corio_runtime::op;

/// A child's standard stream (asyncio's `PIPE`, `DEVNULL`, `STDOUT`, or none).
///
/// ```
/// use corio_process::{Command, Stdio};
/// corio_runtime::run(async {
///     let mut shell = Command::shell("echo out; echo err >&2");
///     let mut process = shell.stdout(Stdio::Pipe).stderr(Stdio::Stdout).spawn().await?;
///     assert!(process.stderr.is_none());
///     assert_eq!(process.communicate(None).await?.stdout, b"out\nerr\n");
///     std::io::Result::Ok(())
/// }).unwrap();
/// ```
#[derive(Debug, Default)]
pub enum Stdio {
    /// Inherited from this process.
    #[default]
    Inherit,
    /// A pipe; its other end is a stream of the [`Process`](crate::Process).
    Pipe,
    /// The null device.
    DevNull,
    /// For `stderr` only: the child's `stdout`.
    Stdout,
    /// This descriptor.
    Fd(OwnedFd),
}

/// Our end of a pipe to the child, not yet a stream.
pub(crate) enum Ours {
    Nothing,
    Reads(OwnedFd),
    Writes(OwnedFd),
}

impl Stdio {
    /// The child's end of its `stdin`, and ours.
    pub(crate) fn input(&self) -> io::Result<(process::Stdio, Ours)> {
        match self {
            Stdio::Pipe if op::pipes_are_quiet() => {
                let (read, write) = io::pipe()?;
                Ok((read.into(), Ours::Writes(write.into())))
            }
            // Writes to a pipe could kill this process by SIGPIPE.
            Stdio::Pipe => socket_input(),
            Stdio::Stdout => Err(invalid("stdin cannot be the same as stdout")),
            other => Ok((other.given()?, Ours::Nothing)),
        }
    }

    /// The child's end of its `stdout`, and ours.
    pub(crate) fn output(&self) -> io::Result<(process::Stdio, Ours)> {
        match self {
            Stdio::Pipe => {
                let (read, write) = io::pipe()?;
                Ok((write.into(), Ours::Reads(read.into())))
            }
            Stdio::Stdout => Err(invalid("only stderr can be the same as stdout")),
            other => Ok((other.given()?, Ours::Nothing)),
        }
    }

    /// A stream without an end of ours.
    fn given(&self) -> io::Result<process::Stdio> {
        Ok(match self {
            Stdio::DevNull => process::Stdio::null(),
            Stdio::Fd(fd) => fd.try_clone()?.into(),
            Stdio::Inherit | Stdio::Pipe | Stdio::Stdout => process::Stdio::inherit(),
        })
    }
}

/// A socket pair for `stdin`: sends to it never raise SIGPIPE.
fn socket_input() -> io::Result<(process::Stdio, Ours)> {
    let (theirs, ours) = UnixStream::pair()?;
    theirs.shutdown(std::net::Shutdown::Write)?;
    Ok((OwnedFd::from(theirs).into(), Ours::Writes(ours.into())))
}

/// `stdout` and `stderr`, which may be the same.
pub(crate) struct Outputs {
    pub(crate) stdout: (process::Stdio, Ours),
    pub(crate) stderr: (process::Stdio, Ours),
}

impl Outputs {
    pub(crate) fn new(stdout: &Stdio, stderr: &Stdio) -> io::Result<Outputs> {
        if !matches!(stderr, Stdio::Stdout) {
            return Ok(Outputs { stdout: stdout.output()?, stderr: stderr.output()? });
        }
        let (both, ours): (OwnedFd, Ours) = match stdout {
            Stdio::Pipe => {
                let (read, write) = io::pipe()?;
                (write.into(), Ours::Reads(read.into()))
            }
            Stdio::DevNull => (std::fs::File::options().write(true).open("/dev/null")?.into(), Ours::Nothing),
            Stdio::Fd(fd) => (fd.try_clone()?, Ours::Nothing),
            Stdio::Inherit => (io::stdout().as_fd().try_clone_to_owned()?, Ours::Nothing),
            Stdio::Stdout => return Err(invalid("only stderr can be the same as stdout")),
        };
        Ok(Outputs { stderr: (both.try_clone()?.into(), Ours::Nothing), stdout: (both.into(), ours) })
    }
}

impl Ours {
    pub(crate) fn reader(self, limit: usize) -> io::Result<Option<StreamReader>> {
        match self {
            Ours::Reads(fd) => connect_read_pipe_with_limit(fd, limit).map(Some),
            Ours::Nothing | Ours::Writes(_) => Ok(None),
        }
    }

    pub(crate) fn writer(self) -> io::Result<Option<StreamWriter>> {
        match self {
            Ours::Writes(fd) => connect_write_pipe(fd).map(Some),
            Ours::Nothing | Ours::Reads(_) => Ok(None),
        }
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As before Linux 6.18.
    #[test]
    fn a_socket_serves_as_stdin_to_its_end_and_a_child_that_goes_breaks_it() {
        corio_runtime::run(async {
            let (theirs, ours) = socket_input().unwrap();
            let mut cat = process::Command::new("cat");
            let mut cat = cat.stdin(theirs).stdout(process::Stdio::piped()).spawn().unwrap();
            let mut stdin = ours.writer().unwrap().unwrap();
            stdin.write_all(vec![b'x'; 10_000]).await.unwrap();
            stdin.write_eof().unwrap();
            stdin.wait_closed().await.unwrap();
            assert_eq!(io::read_to_string(cat.stdout.take().unwrap()).unwrap().len(), 10_000);
            cat.wait().unwrap();

            let (theirs, ours) = socket_input().unwrap();
            process::Command::new("true").stdin(theirs).spawn().unwrap().wait().unwrap();
            let mut stdin = ours.writer().unwrap().unwrap();
            stdin.write(b"x").unwrap();
            assert_eq!(stdin.flush().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        });
    }
}
