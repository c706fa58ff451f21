//! The same programs in CPython and in corio must give equal traces.
//!
//! Each area has scenarios written by hand, here and in the `.py` file of the same name; [`programs`] makes more at
//! random.
#![forbid(unsafe_code)]

#[macro_use]
mod scenario;

mod cancels;
mod catching;
mod conditions;
mod groups;
mod locks;
mod programs;
mod queues;
#[path = "../../runtime/tests/common/shared.rs"]
mod shared;
mod tasks;
mod timeouts;
mod waits;

use std::{collections::HashMap, process::Command};

use corio::Backend;

use scenario::{Scenario, Trace};
use shared::{kernels, on};

const AREAS: [&[Scenario]; 9] = [
    tasks::SCENARIOS,
    cancels::SCENARIOS,
    catching::SCENARIOS,
    waits::SCENARIOS,
    timeouts::SCENARIOS,
    groups::SCENARIOS,
    locks::SCENARIOS,
    conditions::SCENARIOS,
    queues::SCENARIOS,
];

#[test]
fn traces_equal_those_of_cpython() {
    let Some(version) = python() else { return };
    let text = traces_of_cpython();
    let mut differ = Vec::new();
    let mut theirs: HashMap<_, _> =
        text.split("== ").skip(1).map(|trace| trace.split_once('\n').expect("a name and a trace")).collect();
    for Scenario { name, run, simulated } in AREAS.into_iter().flatten() {
        let Some(lines) = theirs.remove(name) else {
            // CPython's half leaves out what its version does not have.
            assert!(name.contains("eager"), "{name} is missing in CPython's half");
            eprintln!("SKIPPED: {name} needs a CPython newer than {version}");
            continue;
        };
        // The simulator first: what hangs there need not hang in earnest.
        let kernels = kernels().into_iter().rev();
        let kernels = kernels.filter(|kernel| !simulated || matches!(kernel, Backend::Sim { .. }));
        for backend in kernels {
            let trace = on(backend).run(Trace::of(*run));
            if trace != lines.trim_end() {
                differ.push(format!("{name} on {backend:?}\nCPython {version}:\n{lines}corio:\n{trace}\n"));
                break;
            }
        }
    }
    assert!(theirs.is_empty(), "missing here: {:?}", theirs.keys());
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

fn traces_of_cpython() -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/differential/scenarios.py");
    let output = Command::new("python3").arg(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The version of the installed CPython; `None`, said aloud, if it is older than 3.11.
fn python() -> Option<String> {
    let ask = "import asyncio, platform; asyncio.Barrier, asyncio.Runner; print(platform.python_version())";
    let asked = Command::new("python3").args(["-c", ask]).output();
    match asked.ok().filter(|output| output.status.success()) {
        Some(output) => Some(String::from_utf8(output.stdout).unwrap().trim().to_owned()),
        None => {
            eprintln!("SKIPPED: comparing with CPython needs python3, 3.11 or newer");
            None
        }
    }
}
