//! Generates `docs/conformance.md` from the names of the tests: which test checks which row of asyncio's behaviour.
//! `UPDATE=1` writes it.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

const TABLE: &str = "docs/conformance.md";
const HEAD: &str = "# asyncio's behaviour, row by row

Made from the names of the tests by `UPDATE=1 cargo test --test conformance`. A row is one checkable behaviour of
asyncio's own test suite or documentation; core rows are what users rely on, extended ones are argument checks, debug
texts and low-level detail. A test whose name carries a row's id checks it.

";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The ids that a test's name carries: `lock_04_lock_05_…`.
fn ids(name: &str) -> Vec<String> {
    let words: Vec<_> = name.split('_').collect();
    let is_row = |pair: &[&str]| pair[1].len() == 2 && pair[1].bytes().all(|b| b.is_ascii_digit());
    let rows = words.windows(2).filter(|pair| is_row(pair));
    rows.map(|pair| format!("{}-{}", pair[0].to_uppercase(), pair[1])).collect()
}

/// Row to tests.
fn tests() -> BTreeMap<String, Vec<String>> {
    let mut files = Vec::new();
    for folder in ["tests", "runtime", "net", "sync", "process", "macros"] {
        rust_files(&root().join(folder), &mut files);
    }
    files.sort();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in files {
        let file = path.strip_prefix(root()).unwrap().display().to_string();
        for line in fs::read_to_string(&path).unwrap().lines() {
            let Some((name, _)) = line.trim().strip_prefix("fn ").and_then(|rest| rest.split_once('('))
            else {
                continue;
            };
            for id in ids(name) {
                found.entry(id).or_default().push(format!("`{file}`: `{name}`"));
            }
        }
    }
    found
}

#[test]
fn the_table_of_conformance_is_up_to_date() {
    let tests = tests();
    let rows = fs::read_to_string(root().join("tests/conformance_rows.txt")).unwrap();
    let (mut table, mut area) = (HEAD.to_owned(), "");
    let (mut core, mut checked, mut uncovered) = (0, 0, Vec::new());
    for row in rows.lines().filter(|line| !line.starts_with('#')) {
        let mut parts = row.splitn(3, ' ');
        let (id, priority, reason) = (parts.next().unwrap(), parts.next().unwrap(), parts.next());
        let prefix = id.split('-').next().unwrap();
        if prefix != area {
            area = prefix;
            write!(table, "\n## {area}\n\n| row | kind | checked by |\n|---|---|---|\n").unwrap();
        }
        let by = tests.get(id).map(|tests| tests.join(", "));
        let is_core = priority == "1";
        core += usize::from(is_core);
        checked += usize::from(is_core && by.is_some());
        let says = match (by, reason) {
            (Some(by), _) => by,
            (None, Some(reason)) => format!("left out: {reason}"),
            (None, None) if is_core => {
                uncovered.push(id);
                continue;
            }
            (None, None) => "not checked".to_owned(),
        };
        writeln!(table, "| {id} | {} | {says} |", if is_core { "core" } else { "extended" }).unwrap();
    }
    assert!(uncovered.is_empty(), "core rows without a test or a reason: {uncovered:?}");
    let summary = format!("**{checked} of {core} core rows are checked**; each other one says why not.\n");
    let table = table.replacen("\n\n## ", &format!("\n\n{summary}\n## "), 1);
    let path = root().join(TABLE);
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        return fs::write(path, table).unwrap();
    }
    let written = fs::read_to_string(path).unwrap_or_default();
    assert!(written == table, "{TABLE} is out of date: run UPDATE=1 cargo test --test conformance");
}

#[test]
fn ids_are_found_in_names() {
    assert_eq!(ids("lock_04_lock_05_a_waiter"), ["LOCK-04", "LOCK-05"]);
    assert_eq!(ids("g1_a_panic_in_10_turns"), ["IN-10"]);
    assert!(ids("nothing_here").is_empty());
}
