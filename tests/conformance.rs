//! Generates `docs/conformance.md`: which test checks which row of asyncio's behaviour, and what holds for the others.
//! `UPDATE=1` writes it, and the figures in README.md.
//!
//! The rows are in `conformance_rows.txt`. A test claims a row by its id at the head of its name: `lock_05_…`,
//! `str_04_05_…`.
#![forbid(unsafe_code)]

#[path = "conformance/examples.rs"]
mod examples;
#[path = "conformance/found.rs"]
mod found;
#[path = "conformance/mutations.rs"]
mod mutations;
#[path = "conformance/names.rs"]
mod names;
#[path = "conformance/rows.rs"]
mod rows;
#[path = "conformance/table.rs"]
mod table;

use std::{collections::BTreeSet, fs, path::PathBuf};

use mutations::Mutation;
use rows::Row;
use table::Claims;

const TABLE: &str = "docs/conformance.md";
const README: &str = "README.md";
const CORE: usize = 365;
const EXTENDED: usize = 262;
const MUTATED_ROWS: usize = 80;

fn read(path: &str) -> String {
    fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default()
}

fn rows() -> Vec<Row> {
    rows::parse(&read("tests/conformance_rows.txt"))
        .unwrap_or_else(|e| panic!("tests/conformance_rows.txt:{e}"))
}

/// The tests that claim a row, and what is wrong with their names.
fn claims(rows: &[Row]) -> (Claims, Vec<String>) {
    let areas: BTreeSet<&str> = rows.iter().map(Row::area).collect();
    let (mut claims, mut faults) = (Claims::new(), Vec::new());
    for test in found::tests() {
        let named = names::ids(&test.name, &areas);
        for id in named.ids {
            claims.entry(id).or_default().push(format!("`{}`: `{}`", test.file, test.name));
        }
        let stray = |id| format!("{id} in the middle of `{}`: ids stand at the head of a name", test.name);
        faults.extend(named.strays.into_iter().map(stray));
    }
    (claims, faults)
}

/// Asserts that the file is up to date, or writes it.
#[track_caller]
fn check(path: &str, text: &str) {
    if std::env::var_os("UPDATE").is_some() {
        return fs::write(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path), text).unwrap();
    }
    assert!(read(path) == text, "{path} is out of date: run UPDATE=1 cargo test --test conformance");
}

#[test]
fn every_row_is_of_the_kind_that_it_says() {
    let rows = rows();
    let (claims, mut faults) = claims(&rows);
    faults.extend(table::faults(&rows, &claims, |file| examples::ids(&read(file))));
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The mutations of `tests/mutations`.
fn mutations() -> Vec<Mutation> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/mutations");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut lists: Vec<_> = names.filter(|name| name.ends_with(".txt")).collect();
    lists.sort();
    let parse = |name: String| mutations::parse(&name, &read(&format!("tests/mutations/{name}")));
    lists.into_iter().flat_map(|name| parse(name).unwrap_or_else(|e| panic!("{e}"))).collect()
}

#[test]
fn the_mutations_fit_the_source_and_the_tests() {
    let (rows, tests) = (rows(), found::tests());
    let areas: BTreeSet<&str> = rows.iter().map(Row::area).collect();
    let mutations = mutations();
    let faults: Vec<_> = mutations.iter().flat_map(|m| m.faults(&tests, &areas, read)).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    let mutated: BTreeSet<_> = mutations.iter().flat_map(|mutation| &mutation.rows).collect();
    assert!(mutated.len() >= MUTATED_ROWS, "only {} rows have a mutation", mutated.len());
}

#[test]
fn the_list_has_every_row() {
    let rows = rows();
    let core = rows.iter().filter(|row| row.core).count();
    assert_eq!((core, rows.len() - core), (CORE, EXTENDED));
    for (before, row) in rows.iter().zip(&rows[1..]) {
        let next = if before.area() == row.area() { before.number() + 1 } else { 1 };
        assert_eq!(row.number(), next, "{} follows {}", row.id, before.id);
    }
}

#[test]
fn the_table_and_the_readme_are_up_to_date() {
    let rows = rows();
    let (claims, _) = claims(&rows);
    check(TABLE, &table::markdown(&rows, &claims));
    let figure = |core| table::Count::of(&rows, core).checked;
    let readme = table::with_figure(&read(README), figure(true), &format!(" of the {CORE} core rows"));
    let readme = table::with_figure(&readme, figure(false), &format!(" of the {EXTENDED} extended ones"));
    check(README, &readme);
}
