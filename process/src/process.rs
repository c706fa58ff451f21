//! The handle of a child (asyncio `Process`).

use std::{fmt, io, sync::Arc};

use corio_net::{StreamReader, StreamWriter};
use corio_runtime::gather;
use rustix::process::Signal;

use crate::{child::Child, stdio::Ours};

/// Most bytes of a child's output per read.
const READ_MAX: usize = 256 << 10;

/// A child process. It is reaped when it exits, even if nobody waits, and even after its loop has ended.
///
/// Dropping it lets the child continue (see [`kill_on_drop`](crate::Command::kill_on_drop) and
/// [`kill_group_on_drop`](crate::Command::kill_group_on_drop)) and closes the pipes. It is `Send`: everything but the
/// pipes works on any thread.
///
/// ```
/// use corio_process::{Command, Stdio};
/// corio_runtime::run(async {
///     let mut cat = Command::new("cat").stdin(Stdio::Pipe).stdout(Stdio::Pipe).spawn().await?;
///     let (mut stdin, mut stdout) = (cat.stdin.take().unwrap(), cat.stdout.take().unwrap());
///     stdin.write_all("line\n").await?;
///     assert_eq!(stdout.readline().await?, b"line\n");
///     assert_eq!(cat.returncode(), None);
///     drop(stdin);
///     assert_eq!(cat.wait().await?, 0);
///     std::io::Result::Ok(())
/// }).unwrap();
/// ```
pub struct Process {
    /// The child's standard input, if it is a pipe.
    pub stdin: Option<StreamWriter>,
    /// The child's standard output, if it is a pipe.
    pub stdout: Option<StreamReader>,
    /// The child's standard error, if it is a pipe.
    pub stderr: Option<StreamReader>,
    owned: Owned,
    /// What an unfinished `communicate` has read so far.
    read: Output,
}

/// A child's output; empty if it had no pipe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

impl Process {
    pub(crate) fn new(
        child: Arc<Child>,
        ours: [Ours; 3],
        limit: usize,
        on_drop: OnDrop,
    ) -> io::Result<Process> {
        let [stdin, stdout, stderr] = ours;
        // If a pipe cannot become a stream, the child is killed: the caller gets no handle.
        let kill = if on_drop == OnDrop::KillGroup { on_drop } else { OnDrop::Kill };
        let owned = Owned { child, on_drop: kill };
        let mut process = Process { stdin: None, stdout: None, stderr: None, owned, read: Output::default() };
        process.stdin = stdin.writer()?;
        process.stdout = stdout.reader(limit)?;
        process.stderr = stderr.reader(limit)?;
        process.owned.on_drop = on_drop;
        Ok(process)
    }

    /// The process number.
    pub fn pid(&self) -> u32 {
        self.owned.child.pid()
    }

    /// The exit status, or minus the number of the signal that ended the process; `None` while it runs (asyncio
    /// `returncode`).
    pub fn returncode(&self) -> Option<i32> {
        self.owned.child.returncode()
    }

    /// Waits for the process to exit and returns its [`returncode`](Process::returncode), even while other processes
    /// hold its pipes. Any number of tasks may wait, on any loop or thread.
    ///
    /// If nobody reads its pipes, the process may never exit: see [`communicate`](Process::communicate). Dropping the
    /// future changes nothing.
    ///
    /// # Errors
    /// If the exit status is lost: this process ignores SIGCHLD, or waits for children by other means.
    pub async fn wait(&self) -> io::Result<i32> {
        self.owned.child.wait().await
    }

    /// Writes `input` to the child's `stdin` and closes that, reads the output to its end, and waits for the exit
    /// (asyncio `communicate`). A child that does not read its input is no error.
    ///
    /// If the future is dropped, a new call continues: the output read so far is kept, and the input is not sent twice.
    ///
    /// ```
    /// use corio_process::{Command, Stdio};
    /// corio_runtime::run(async {
    ///     let mut shell = Command::shell("read word; echo got $word; echo but >&2");
    ///     shell.stdin(Stdio::Pipe).stdout(Stdio::Pipe).stderr(Stdio::Pipe);
    ///     let output = shell.spawn().await?.communicate(Some(b"it\n")).await?;
    ///     assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"got it\n"[..], &b"but\n"[..]));
    ///     std::io::Result::Ok(())
    /// }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`wait`](Process::wait), and read errors.
    pub async fn communicate(&mut self, input: Option<&[u8]>) -> io::Result<Output> {
        if let Some(mut stdin) = self.stdin.take() {
            if let Some(input) = input {
                // If the child does not read its input, that is no error.
                let _ = stdin.write(input);
            }
            stdin.close();
        }
        let stdout = read_to_end(&mut self.stdout, &mut self.read.stdout);
        let stderr = read_to_end(&mut self.stderr, &mut self.read.stderr);
        gather([stdout, stderr]).await.into_iter().collect::<io::Result<()>>()?;
        self.wait().await?;
        Ok(std::mem::take(&mut self.read))
    }

    /// Sends a signal, by number (asyncio `send_signal`).
    ///
    /// By pidfd it never goes to another process that got the child's number. Where there are no pidfds it does not,
    /// either, unless the program ignores SIGCHLD or waits for all its children.
    ///
    /// ```
    /// corio_runtime::run(async {
    ///     let sleeper = corio_process::create_subprocess_exec("sleep", ["3600"]).await?;
    ///     sleeper.send_signal(15)?;
    ///     assert_eq!(sleeper.wait().await?, -15);
    ///     assert!(sleeper.kill().is_err());
    ///     std::io::Result::Ok(())
    /// }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` if the process has ended, for an invalid number, and for a real-time signal.
    pub fn send_signal(&self, signal: i32) -> io::Result<()> {
        self.owned.child.send_signal(named(signal)?)
    }

    /// Sends a signal, by number, to the whole process group that the child leads: to the child and to those of its
    /// descendants that did not leave the group. It never goes to another group that got the number.
    ///
    /// ```
    /// use corio_process::Command;
    /// corio_runtime::run(async {
    ///     let shell = Command::shell("sleep 3600 | sleep 3600").process_group(0).spawn().await?;
    ///     shell.send_signal_group(15)?;
    ///     assert_eq!(shell.wait().await?, -15);
    ///     assert!(shell.send_signal_group(15).is_err());
    ///     std::io::Result::Ok(())
    /// }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` if the child has no group of its own (see [`process_group`](crate::Command::process_group)); if
    /// the child has ended, even if descendants are left, unless
    /// [`kill_group_on_drop`](crate::Command::kill_group_on_drop) was asked for; for an invalid number, and for a
    /// real-time signal.
    pub fn send_signal_group(&self, signal: i32) -> io::Result<()> {
        self.owned.child.send_signal_group(named(signal)?)
    }

    /// Sends SIGTERM (asyncio `terminate`).
    ///
    /// # Errors
    /// `InvalidInput` if the process has ended.
    pub fn terminate(&self) -> io::Result<()> {
        self.owned.child.send_signal(Signal::TERM)
    }

    /// Sends SIGKILL (asyncio `kill`).
    ///
    /// # Errors
    /// `InvalidInput` if the process has ended.
    pub fn kill(&self) -> io::Result<()> {
        self.owned.child.send_signal(Signal::KILL)
    }
}

fn named(signal: i32) -> io::Result<Signal> {
    Signal::from_named_raw(signal).ok_or_else(|| {
        let text = format!("{signal} is not the number of a signal that can be sent");
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}

async fn read_to_end(reader: &mut Option<StreamReader>, to: &mut Vec<u8>) -> io::Result<()> {
    let Some(reader) = reader else { return Ok(()) };
    loop {
        let data = reader.read(READ_MAX).await?;
        if data.is_empty() {
            return Ok(());
        }
        to.extend_from_slice(&data);
    }
}

/// What happens to the child when its handle is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnDrop {
    GoOn,
    Kill,
    KillGroup,
}

/// Separate from [`Process`], so that the pipes can be moved out of that.
struct Owned {
    child: Arc<Child>,
    on_drop: OnDrop,
}

impl Drop for Owned {
    fn drop(&mut self) {
        // A failure is fine: the process, or all of the group, has ended.
        if self.on_drop == OnDrop::KillGroup {
            let _ = self.child.send_signal_group(Signal::KILL);
        }
        if self.on_drop != OnDrop::GoOn {
            let _ = self.child.send_signal(Signal::KILL);
        }
        self.child.let_go();
    }
}

impl fmt::Debug for Process {
    /// As in asyncio.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.returncode() {
            Some(code) => write!(f, "<Process {} returncode: {code}>", self.pid()),
            None => write!(f, "<Process {}>", self.pid()),
        }
    }
}
