//! The extremes of every number and duration that the public API takes: each works, or gives an error of kind
//! `InvalidInput` that names the value. Nothing panics without documenting it, hangs, or allocates absurd memory.
//!
//! The rows are in `limits/`, by area. The last test fails for a function that takes a number and has no row.

#[path = "limits/blocking.rs"]
mod blocking;
#[path = "limits/loops.rs"]
mod loops;
#[path = "limits/net.rs"]
mod net;
#[path = "../runtime/tests/common/shared.rs"]
mod shared;
#[path = "limits/sync.rs"]
mod sync;
#[path = "limits/table.rs"]
mod table;
#[path = "limits/time.rs"]
mod time;

use std::{fs, path::Path};

use table::{Row, check};

#[test]
fn every_number_of_a_loop_works_or_is_refused_with_the_value() {
    check(loops::rows());
}

#[test]
fn every_number_of_threads_signals_and_processes_works_or_is_refused_with_the_value() {
    check(blocking::rows());
}

#[test]
fn every_time_works() {
    check(time::rows());
}

#[test]
fn every_number_of_streams_and_servers_works_or_is_refused_with_the_value() {
    check(net::rows());
}

#[test]
fn every_number_of_locks_and_queues_works() {
    check(sync::rows());
}

#[test]
fn a_function_that_takes_a_number_has_its_row() {
    let rows: Vec<Row> = [loops::rows(), blocking::rows(), time::rows(), net::rows(), sync::rows()]
        .into_iter()
        .flatten()
        .collect();
    let mut found: Vec<String> = Vec::new();
    for root in ["runtime/src", "net/src", "process/src", "sync/src"] {
        numeric_functions(&Path::new(env!("CARGO_MANIFEST_DIR")).join(root), &mut found);
    }
    assert!(found.len() > 50, "the search finds nothing any more: {found:?}");
    let count = |names: &[String], name: &str| names.iter().filter(|n| *n == name).count();
    let rows: Vec<String> =
        rows.iter().map(|row| row.what.rsplit("::").next().unwrap_or(row.what).to_owned()).collect();
    let missing: Vec<&String> =
        found.iter().filter(|name| count(&rows, name) < count(&found, name)).collect();
    assert!(missing.is_empty(), "these take a number and have no row in tests/limits/: {missing:?}");
}

/// Types that are numbers, or times.
const NUMBERS: [&str; 14] = [
    "usize",
    "isize",
    "u8",
    "u16",
    "u32",
    "u64",
    "i32",
    "i64",
    "f64",
    "Duration",
    "Instant",
    "Cores",
    "SignalKind",
    "ListenOptions",
];

/// The names of the public functions below `dir` that take a number.
fn numeric_functions(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            numeric_functions(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            let library = source.split("#[cfg(test)]").next().unwrap_or_default();
            found.extend(["pub fn ", "pub const fn ", "pub async fn "].iter().flat_map(|start| {
                library.split(start).skip(1).filter_map(|rest| {
                    let (signature, _) = rest.split_once(['{', ';'])?;
                    let name = signature.split(['(', '<']).next()?;
                    takes_a_number(signature).then(|| name.to_owned())
                })
            }));
        }
    }
}

/// Whether one of the arguments, or what it is made into, is a number; slices and closures are none.
fn takes_a_number(signature: &str) -> bool {
    let arguments = signature.split("->").next().unwrap_or_default();
    arguments.split([',', '(']).any(|argument| {
        let Some((name, of)) = argument.split_once(": ") else { return false };
        let plain = !of.contains(['[', '&']) || name.ends_with("limits");
        plain && of.split(|c: char| !c.is_alphanumeric()).any(|word| NUMBERS.contains(&word))
    })
}
