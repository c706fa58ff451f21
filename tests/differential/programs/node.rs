//! The tree of a program.

use std::fmt::Write;

pub(super) type Body = Vec<Node>;

/// One step: what it does, its numbers (durations in µs, names of tasks, locks and so on), and the steps inside it.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) op: Op,
    pub(super) numbers: Vec<u64>,
    pub(super) bodies: Vec<Body>,
}

/// What a step does. The comments name its numbers and bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// duration
    Sleep,
    /// turns
    Yield,
    /// task; body: `create_task`
    Spawn,
    /// task; body: `create_task` of the group around
    Child,
    /// task
    Await,
    /// task: awaits `shield(task)`
    Shield,
    /// pause before, tasks: awaits a gather of them
    Gather,
    /// pause before, tasks: waits until all of them are done
    WaitAll,
    /// pause before, tasks: waits until one of them is done
    WaitFirst,
    /// task, pause before, pause after
    Cancel,
    /// duration; body
    Timeout,
    /// name; body
    Group,
    /// name; body: tells if it is left by a cancel (`finally` without an await)
    Guard,
    /// name; body, cleanup: `finally` with awaits
    Cleanup,
    /// name; body, handler: goes on after a cancel
    Catch,
    /// name; body, handler: goes on with the cancel after the handler
    Resume,
    /// lock; body
    Lock,
    /// semaphore; body
    Permit,
    /// event
    Set,
    /// event
    Clear,
    /// event
    Wait,
    /// queue
    Put,
    /// queue
    Get,
    /// error, pause before
    Fail,
    /// name; body: goes on after an error
    Try,
}

impl Op {
    /// Whether there are steps inside it, of the same task.
    pub(super) fn has_bodies(self) -> bool {
        use Op::{Catch, Cleanup, Group, Guard, Lock, Permit, Resume, Timeout, Try};
        matches!(self, Timeout | Group | Guard | Cleanup | Catch | Resume | Lock | Permit | Try)
    }
}

/// The program as `programs.py` reads it: arrays of JSON.
pub(super) fn json(body: &Body) -> String {
    let nodes = body.iter().map(|node| {
        let bodies: Vec<_> = node.bodies.iter().map(json).collect();
        format!("[\"{:?}\",{:?},[{}]]", node.op, node.numbers, bodies.join(","))
    });
    format!("[{}]", nodes.collect::<Vec<_>>().join(","))
}

/// The program as a reader likes it.
pub(super) fn show(body: &Body) -> String {
    let mut text = String::new();
    show_at(body, 1, &mut text);
    text
}

fn show_at(body: &Body, depth: usize, text: &mut String) {
    for node in body {
        let numbers: String = node.numbers.iter().map(|n| format!(" {n}")).collect();
        writeln!(text, "{:1$}{2:?}{numbers}", "", 4 * depth, node.op).expect("a string takes all");
        for (n, inner) in node.bodies.iter().enumerate() {
            if n > 0 {
                writeln!(text, "{:1$}then", "", 4 * depth).expect("a string takes all");
            }
            show_at(inner, depth + 1, text);
        }
    }
}
