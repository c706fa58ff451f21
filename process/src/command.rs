//! The program to run, and its options.

use std::{
    ffi::OsStr,
    fmt, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process,
};

use corio_runtime::{error, fd::require_kernel};

use crate::{
    Process, Stdio,
    child::Group,
    ops::adopt,
    process::OnDrop,
    stdio::{Ours, Outputs},
};

/// Runs `program` with `args` (asyncio `create_subprocess_exec`). It inherits this process's standard streams;
/// [`Command`] has pipes and other options.
///
/// ```
/// corio_runtime::run(async {
///     let process = corio_process::create_subprocess_exec("sh", ["-c", "exit 3"]).await?;
///     assert_eq!(process.wait().await?, 3);
///     std::io::Result::Ok(())
/// }).unwrap();
/// ```
///
/// # Errors
/// As [`Command::spawn`].
pub async fn create_subprocess_exec<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = S>,
) -> io::Result<Process> {
    Command::new(program).args(args).spawn().await
}

/// Runs `command` with `/bin/sh` (asyncio `create_subprocess_shell`). It inherits this process's standard streams. All
/// parts of the command must be trusted or quoted.
///
/// ```
/// corio_runtime::run(async {
///     let process = corio_process::create_subprocess_shell("exit $((3 + 4))").await?;
///     assert_eq!(process.wait().await?, 7);
///     std::io::Result::Ok(())
/// }).unwrap();
/// ```
///
/// # Errors
/// As [`Command::spawn`].
pub async fn create_subprocess_shell(command: impl AsRef<OsStr>) -> io::Result<Process> {
    Command::shell(command).spawn().await
}

/// A program to run, with its options. It can be spawned several times.
///
/// ```
/// use corio_process::{Command, Stdio};
/// corio_runtime::run(async {
///     let mut process = Command::new("cat").stdin(Stdio::Pipe).stdout(Stdio::Pipe).spawn().await?;
///     let output = process.communicate(Some(b"some data")).await?;
///     assert_eq!((&output.stdout[..], process.returncode()), (&b"some data"[..], Some(0)));
///     std::io::Result::Ok(())
/// }).unwrap();
/// ```
pub struct Command {
    std: process::Command,
    stdin: Stdio,
    stdout: Stdio,
    stderr: Stdio,
    current_dir: Option<PathBuf>,
    kill_on_drop: bool,
    kill_group_on_drop: bool,
    limit: usize,
    process_group: Option<i32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Command {
    /// `program` without arguments. It is searched in `PATH` unless it contains a slash.
    pub fn new(program: impl AsRef<OsStr>) -> Command {
        Command {
            std: process::Command::new(program),
            stdin: Stdio::Inherit,
            stdout: Stdio::Inherit,
            stderr: Stdio::Inherit,
            current_dir: None,
            kill_on_drop: false,
            kill_group_on_drop: false,
            limit: 64 << 10,
            process_group: None,
            uid: None,
            gid: None,
        }
    }

    /// `/bin/sh -c command`.
    pub fn shell(command: impl AsRef<OsStr>) -> Command {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(command);
        shell
    }

    /// Adds an argument.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Command {
        self.std.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = S>) -> &mut Command {
        self.std.args(args);
        self
    }

    /// The child's `argv[0]`. Default: the program.
    pub fn arg0(&mut self, arg: impl AsRef<OsStr>) -> &mut Command {
        self.std.arg0(arg);
        self
    }

    /// Sets a variable in the child's environment, which is inherited from this process.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Command {
        self.std.env(key, value);
        self
    }

    /// Sets variables.
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        &mut self,
        vars: impl IntoIterator<Item = (K, V)>,
    ) -> &mut Command {
        self.std.envs(vars);
        self
    }

    /// Removes a variable from the child's environment.
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Command {
        self.std.env_remove(key);
        self
    }

    /// Starts from an empty environment.
    pub fn env_clear(&mut self) -> &mut Command {
        self.std.env_clear();
        self
    }

    /// The child's working directory.
    pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Command {
        self.current_dir = Some(dir.as_ref().to_owned());
        self.std.current_dir(dir);
        self
    }

    /// The child's standard input. Default: inherited.
    pub fn stdin(&mut self, stdin: Stdio) -> &mut Command {
        self.stdin = stdin;
        self
    }

    /// The child's standard output. Default: inherited.
    pub fn stdout(&mut self, stdout: Stdio) -> &mut Command {
        self.stdout = stdout;
        self
    }

    /// The child's standard error. Default: inherited.
    pub fn stderr(&mut self, stderr: Stdio) -> &mut Command {
        self.stderr = stderr;
        self
    }

    /// The child's process group. 0 makes a new one, which the child leads: the terminal's signals do not reach it, and
    /// [`send_signal_group`](Process::send_signal_group) reaches it and all its descendants that stay in the group.
    ///
    /// ```
    /// use corio_process::{Command, Stdio};
    /// corio_runtime::run(async {
    ///     // A shell, and a child of its own that holds the pipe, too.
    ///     let mut command = Command::shell("sleep 3600 & echo ready; wait");
    ///     let mut shell = command.process_group(0).stdout(Stdio::Pipe).spawn().await?;
    ///     let mut stdout = shell.stdout.take().unwrap();
    ///     assert_eq!(stdout.readline().await?, b"ready\n");
    ///     shell.send_signal_group(9)?;
    ///     assert_eq!(shell.wait().await?, -9);
    ///     // Its end shows that both have gone.
    ///     assert!(stdout.read(1).await?.is_empty());
    ///     std::io::Result::Ok(())
    /// }).unwrap();
    /// ```
    pub fn process_group(&mut self, group: i32) -> &mut Command {
        self.process_group = Some(group);
        self.std.process_group(group);
        self
    }

    /// The user that the child runs as.
    pub fn uid(&mut self, uid: u32) -> &mut Command {
        self.uid = Some(uid);
        self.std.uid(uid);
        self
    }

    /// The group that the child runs as.
    pub fn gid(&mut self, gid: u32) -> &mut Command {
        self.gid = Some(gid);
        self.std.gid(gid);
        self
    }

    /// Whether dropping the [`Process`] kills the child. Default: no, it continues. In both cases it is reaped.
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Command {
        self.kill_on_drop = kill;
        self
    }

    /// Whether dropping the [`Process`] kills the child's whole group: the child, and those of its descendants that did
    /// not leave the group. Default: no. It implies [`process_group(0)`](Command::process_group).
    ///
    /// The group is killed also if the child itself has exited: for that it is kept as a zombie until the `Process` is
    /// dropped.
    ///
    /// ```
    /// use corio_process::{Command, Stdio};
    /// corio_runtime::run(async {
    ///     let mut command = Command::shell("sleep 3600 & echo started");
    ///     let mut shell = command.kill_group_on_drop(true).stdout(Stdio::Pipe).spawn().await?;
    ///     let mut stdout = shell.stdout.take().unwrap();
    ///     assert_eq!(stdout.readline().await?, b"started\n");
    ///     assert_eq!(shell.wait().await?, 0);
    ///     drop(shell);
    ///     // The end of the pipe, which only the sleeper still held.
    ///     assert!(stdout.read(1).await?.is_empty());
    ///     std::io::Result::Ok(())
    /// }).unwrap();
    /// ```
    pub fn kill_group_on_drop(&mut self, kill: bool) -> &mut Command {
        self.kill_group_on_drop = kill;
        if kill && self.process_group.is_none() {
            self.process_group(0);
        }
        self
    }

    /// The limit of `readline` and `readuntil` on the child's output, in bytes, at least 1. Default: 65536.
    pub fn limit(&mut self, limit: usize) -> &mut Command {
        self.limit = limit;
        self
    }

    /// The standard library's command, for its other options. `spawn` sets its standard streams.
    ///
    /// `CommandExt::pre_exec`, which is `unsafe`, and a user or group make the spawn use fork. That takes time in
    /// proportion to this process's memory, and blocks the loop meanwhile.
    pub fn as_std_mut(&mut self) -> &mut process::Command {
        &mut self.std
    }

    /// Starts the program, at the call, and gives its [`Process`] at the first poll. It blocks the loop for about 0.1
    /// ms and does not suspend: a cancelled task has either not started the program, or has its `Process`. Dropping the
    /// future drops the `Process`.
    ///
    /// The future does not borrow the command, so it can be returned:
    ///
    /// ```
    /// use corio_process::Command;
    /// corio_runtime::run(async {
    ///     let start = |seconds: &str| Command::new("sleep").arg(seconds).kill_on_drop(true).spawn();
    ///     let sleepers = corio_runtime::try_gather(["60", "61"].map(start)).await?;
    ///     assert!(sleepers.iter().all(|sleeper| sleeper.returncode().is_none()));
    ///     std::io::Result::Ok(())
    /// }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `NotFound` for a missing program or working directory, `PermissionDenied`, too many descriptors or processes;
    /// `InvalidInput` for a limit of 0, for invalid group or user ids, and for
    /// [`kill_group_on_drop`](Command::kill_group_on_drop) in a group of others. The text says what failed. Also under
    /// the simulator, and outside a running loop.
    pub fn spawn(&mut self) -> impl Future<Output = io::Result<Process>> + use<> {
        std::future::ready(self.start())
    }

    fn start(&mut self) -> io::Result<Process> {
        let text = |what: String| {
            move |e: io::Error| {
                let text = format!("{what}: {e}");
                error::explain(e, text)
            }
        };
        let program = self.std.get_program().to_string_lossy().into_owned();
        require_kernel("processes")?;
        self.check_numbers().map_err(text(format!("cannot run '{program}'")))?;
        let pipes = self.pipes().map_err(text(format!("the standard streams of '{program}'")))?;
        let spawned = self.spawn_std(pipes.theirs).map_err(|e| self.explain(e, &program))?;
        let child = adopt(spawned, self.group()).map_err(text(format!("cannot watch '{program}'")))?;
        let on_drop = match (self.kill_group_on_drop, self.kill_on_drop) {
            (true, _) => OnDrop::KillGroup,
            (false, true) => OnDrop::Kill,
            (false, false) => OnDrop::GoOn,
        };
        Process::new(child, pipes.ours, self.limit, on_drop)
    }

    fn group(&self) -> Group {
        match self.process_group {
            Some(0) if self.kill_group_on_drop => Group::Kept,
            Some(0) => Group::Own,
            _ => Group::Others,
        }
    }

    /// Checks values that the kernel would refuse without saying which one was wrong.
    fn check_numbers(&self) -> io::Result<()> {
        // The kernel takes the largest id as "no change".
        let reserved = |id: Option<u32>| id.filter(|id| *id == u32::MAX);
        let refused = if self.limit == 0 {
            "limit 0: must be at least 1 byte".to_owned()
        } else if let Some(group) = self.process_group.filter(|group| *group < 0) {
            format!("process group {group}: must be 0 or the number of a group")
        } else if let Some(group) = self.process_group.filter(|group| *group > 0 && self.kill_group_on_drop) {
            format!("kill_group_on_drop: process group {group} is not the child's own")
        } else if let Some(uid) = reserved(self.uid) {
            format!("uid {uid} is no user's")
        } else if let Some(gid) = reserved(self.gid) {
            format!("gid {gid} is no group's")
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::InvalidInput, refused))
    }

    fn pipes(&self) -> io::Result<Pipes> {
        let stdin = self.stdin.input()?;
        let Outputs { stdout, stderr } = Outputs::new(&self.stdout, &self.stderr)?;
        Ok(Pipes { theirs: [stdin.0, stdout.0, stderr.0], ours: [stdin.1, stdout.1, stderr.1] })
    }

    fn spawn_std(&mut self, [stdin, stdout, stderr]: [process::Stdio; 3]) -> io::Result<process::Child> {
        self.std.stdin(stdin).stdout(stdout).stderr(stderr);
        let spawned = self.std.spawn();
        // Otherwise the command would keep the child's ends open, and the pipes would never end.
        self.std.stdin(process::Stdio::null()).stdout(process::Stdio::null()).stderr(process::Stdio::null());
        spawned
    }

    /// The kernel reports a missing working directory as "no such file", too.
    fn explain(&self, e: io::Error, program: &str) -> io::Error {
        let text = match &self.current_dir {
            Some(dir)
                if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
                    && !dir.is_dir() =>
            {
                format!("cannot run '{program}': the working directory '{}': {e}", dir.display())
            }
            _ => format!("cannot run '{program}': {e}"),
        };
        error::explain(e, text)
    }
}

/// Both ends of stdin, stdout and stderr.
struct Pipes {
    theirs: [process::Stdio; 3],
    ours: [Ours; 3],
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("command", &self.std)
            .field("stdin", &self.stdin)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_working_directory_is_blamed_only_for_what_it_can_cause() {
        let mut command = Command::new("true");
        command.current_dir("/no/such/place");
        let text = |errno| command.explain(io::Error::from_raw_os_error(errno), "true").to_string();
        assert!(text(2).contains("the working directory '/no/such/place'"), "{}", text(2));
        assert!(text(24).starts_with("cannot run 'true': Too many open files"), "{}", text(24));
    }
}
