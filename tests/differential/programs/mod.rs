//! Programs made at random, run by CPython and here: the same program must give the same trace.
//!
//! A program is a tree ([`node`]), made from a seed ([`generate`]). CPython's half (`programs.py`) and ours
//! ([`interpret`]) run it on a clock that stands while anything is ready. A program whose traces differ is made smaller
//! ([`shrink`]) before it is shown.

mod children;
mod cpython;
mod generate;
mod interpret;
mod node;
mod shrink;

use cpython::Cpython;
use node::{Body, show};

/// What both made of it, if it is not the same.
struct Difference {
    theirs: String,
    ours: String,
}

fn difference(cpython: &mut Cpython, program: &Body) -> Option<Difference> {
    let (theirs, ours) = (cpython.trace(program), interpret::trace(program));
    (theirs != ours).then_some(Difference { theirs, ours })
}

#[test]
fn random_programs_give_the_traces_of_cpython() {
    let Some(mut cpython) = Cpython::start() else { return };
    let seeds = std::env::var("CORIO_SEEDS").map_or(100, |n| n.parse().expect("CORIO_SEEDS is a number"));
    let first = std::env::var("CORIO_FIRST_SEED").map_or(0, |n| n.parse().expect("a number"));
    let seeds = first..first + seeds;
    let differ: Vec<_> =
        seeds.clone().filter(|seed| difference(&mut cpython, &generate::program(*seed)).is_some()).collect();
    let shown: String = differ.iter().take(5).map(|seed| report(&mut cpython, *seed)).collect();
    let (count, version) = (differ.len(), &cpython.version);
    assert!(
        differ.is_empty(),
        "of seeds {seeds:?} {count} differ from CPython {version}: {differ:?}\n{shown}"
    );
}

/// The program of a seed that differs, made smaller, and both traces.
fn report(cpython: &mut Cpython, seed: u64) -> String {
    let small = shrink::smallest(generate::program(seed), |program| difference(cpython, program).is_some());
    let Difference { theirs, ours } = difference(cpython, &small).expect("it was seen to differ");
    format!("\nSeed {seed}, made smaller:\n{}CPython:\n{theirs}corio:\n{ours}", show(&small))
}
