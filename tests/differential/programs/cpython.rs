//! CPython's half: one process that runs one program after the other.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use super::node::{Body, json};
use crate::python;

pub(super) struct Cpython {
    process: Child,
    programs: ChildStdin,
    traces: BufReader<ChildStdout>,
    pub(super) version: String,
}

impl Cpython {
    pub(super) fn start() -> Option<Cpython> {
        let version = python()?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/differential/programs.py");
        let mut process =
            Command::new("python3").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (programs, traces) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Some(Cpython { process, programs, traces: BufReader::new(traces), version })
    }

    /// What CPython makes of the program.
    pub(super) fn trace(&mut self, program: &Body) -> String {
        writeln!(self.programs, "{}", json(program)).unwrap();
        let mut trace = String::new();
        loop {
            let mut line = String::new();
            assert!(self.traces.read_line(&mut line).unwrap() > 0, "programs.py has ended");
            if line.trim_end() == "over" {
                return trace;
            }
            trace.push_str(&line);
        }
    }
}

impl Drop for Cpython {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
