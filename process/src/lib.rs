//! Subprocesses of corio (asyncio "Subprocesses").
//!
//! | file | holds |
//! |---|---|
//! | `command` | the program to run, and its options |
//! | `stdio` | a child's standard streams |
//! | `process` | the handle of a child |
//! | `child` | the child: its pidfd, its exit status, the tasks that wait for it |
//! | `reaper` | children that outlive their loop |
//! | `ops/` | the operations |
//!
//! Applications depend on the facade crate `corio`, which re-exports the public items in its own modules. The examples
//! here use this crate's paths.
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
