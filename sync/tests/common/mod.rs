//! Helpers shared with the runtime's tests: a run on every kernel, and a log.
#![allow(dead_code, unused_imports, reason = "not every test file uses all of it")]

#[path = "../../../runtime/tests/common/mod.rs"]
mod runtime;

pub(crate) use runtime::{Log, on_every, on_sim, turns};
