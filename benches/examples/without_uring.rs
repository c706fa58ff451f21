//! Runs a program under a filter that refuses io_uring, to it and all that it starts:
//! `without_uring eperm|enosys|kill PROGRAM [ARGUMENT]…`.
//!
//! It is an example, so that the build of the tests makes it, and of this crate, which is not published.
#![allow(dead_code, reason = "the tests use all of the filter")]

#[path = "../../runtime/tests/common/filter.rs"]
mod filter;

use std::{
    env,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use filter::{Answer, IO_URING, forbid};

fn main() -> ExitCode {
    let mut args = env::args_os().skip(1);
    let answer = match args.next().as_ref().and_then(|name| name.to_str()) {
        Some("eperm") => Answer::Errno(libc::EPERM),
        Some("enosys") => Answer::Errno(libc::ENOSYS),
        Some("kill") => Answer::Kill,
        _ => return usage(),
    };
    let Some(program) = args.next() else { return usage() };
    if let Err(e) = forbid(&IO_URING, answer) {
        eprintln!("without_uring: no filter: {e}");
        return ExitCode::from(125);
    }
    let error = Command::new(&program).args(args).exec();
    eprintln!("without_uring: {}: {error}", program.display());
    ExitCode::from(127)
}

fn usage() -> ExitCode {
    eprintln!("usage: without_uring eperm|enosys|kill PROGRAM [ARGUMENT]...");
    ExitCode::from(125)
}
