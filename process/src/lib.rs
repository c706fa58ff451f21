//! Subprocesses of corio (asyncio "Subprocesses").
//!
//! | file | holds |
//! |---|---|
//! | `command` | what is to be run, and how |
//! | `stdio` | what a child's standard streams are |
//! | `process` | a running child, as users hold it |
//! | `child` | the child itself: its pidfd, its exit, who waits for it |
//! | `reaper` | children that outlive their loop |
//! | `ops/` | the operations |
//!
//! Users take the facade crate `corio`.
#![forbid(unsafe_code)]

mod child;
mod command;
mod ops;
mod process;
mod reaper;
mod stdio;

pub use command::{Command, create_subprocess_exec, create_subprocess_shell};
pub use process::{Output, Process};
pub use stdio::Stdio;
