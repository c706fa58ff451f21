//! What is wrong with the rows, and the table of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use super::rows::{Kind, Row};

/// The tests that claim a row, by its id.
pub(crate) type Claims = BTreeMap<String, Vec<String>>;

const HEAD: &str = "# asyncio's behaviour, row by row

Made from `tests/conformance_rows.txt` and the names of the tests by `UPDATE=1 cargo test --test conformance`. A row is
one checkable behaviour of asyncio's own test suite or documentation; core rows are what users rely on, extended ones
are argument checks, debug texts and low-level detail. Each row is of one of four kinds:

* checked: the tests named check it;
* differs: something else holds here, and the row says what, and what to write instead (tests may check that);
* compile-time: such a program does not compile, which an example in the file named shows;
* not yet: what it waits for.

";

/// The rows of each kind.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Count {
    pub checked: usize,
    pub differs: usize,
    pub compile_time: usize,
    pub not_yet: usize,
}

impl Count {
    /// Of the core rows, or of the extended ones.
    pub(crate) fn of(rows: &[Row], core: bool) -> Count {
        let mut count = Count::default();
        for row in rows.iter().filter(|row| row.core == core) {
            let of_its_kind = match row.kind {
                Kind::Checked => &mut count.checked,
                Kind::Differs(_) => &mut count.differs,
                Kind::CompileTime(_) => &mut count.compile_time,
                Kind::NotYet(_) => &mut count.not_yet,
            };
            *of_its_kind += 1;
        }
        count
    }

    fn line(&self, name: &str) -> String {
        let Count { checked, differs, compile_time, not_yet } = self;
        let all = checked + differs + compile_time + not_yet;
        format!("| {name} | {all} | **{checked}** | {differs} | {compile_time} | {not_yet} |\n")
    }
}

/// What is wrong. `examples` gives the ids in a file's examples that must not compile.
pub(crate) fn faults(
    rows: &[Row],
    claims: &Claims,
    examples: impl Fn(&str) -> BTreeSet<String>,
) -> Vec<String> {
    let mut faults = Vec::new();
    for Row { id, kind, .. } in rows {
        let by = claims.get(id).map(|tests| tests.join(", "));
        match (kind, by) {
            (Kind::Checked, None) => faults.push(format!("{id}: has neither a test nor a kind")),
            (Kind::NotYet(_), Some(by)) => faults.push(format!("{id}: says `not yet`, but {by} claims it")),
            (Kind::CompileTime(_), Some(by)) => {
                faults.push(format!("{id}: no test can check it, but {by} claims it"))
            }
            (Kind::CompileTime(file), None) if !examples(file).contains(id) => {
                faults.push(format!("{id}: {file} has no `compile_fail` example with the comment `// {id}`"));
            }
            _ => {}
        }
    }
    let known: BTreeSet<_> = rows.iter().map(|row| &row.id).collect();
    let unknown = claims.iter().filter(|(id, _)| !known.contains(id));
    faults
        .extend(unknown.map(|(id, tests)| format!("{id}: no such row, but {} claims it", tests.join(", "))));
    faults
}

/// The table.
pub(crate) fn markdown(rows: &[Row], claims: &Claims) -> String {
    let (core, extended) = (Count::of(rows, true), Count::of(rows, false));
    let mut table = HEAD.to_owned();
    table
        .push_str("| rows | all | checked | differs | compile-time | not yet |\n|---|---|---|---|---|---|\n");
    table.push_str(&core.line("core"));
    table.push_str(&extended.line("extended"));
    let mut area = "";
    for row in rows {
        if row.area() != area {
            area = row.area();
            write!(table, "\n## {area}\n\n| row | priority | behaviour | checked by |\n|---|---|---|---|\n")
                .unwrap();
        }
        let by = claims.get(&row.id).map(|tests| tests.join(", ")).unwrap_or_default();
        let holds = match &row.kind {
            Kind::Checked => by,
            Kind::Differs(what) if by.is_empty() => format!("differs: {what}"),
            Kind::Differs(what) => format!("differs: {what} ({by})"),
            Kind::CompileTime(file) => format!("compile-time: `{file}`"),
            Kind::NotYet(what) => format!("not yet: {what}"),
        };
        let priority = if row.core { "core" } else { "extended" };
        writeln!(table, "| {} | {priority} | {} | {holds} |", row.id, row.says).unwrap();
    }
    table
}

/// `text` with `figure` in place of the number before `words`.
#[track_caller]
pub(crate) fn with_figure(text: &str, figure: usize, words: &str) -> String {
    let parts: Vec<_> = text.split(words).collect();
    let [before, after] = &parts[..] else { panic!("the text must say once: NUMBER{words}") };
    let before = before.trim_end_matches(|c: char| c.is_ascii_digit());
    format!("{before}{figure}{words}{after}")
}

#[test]
fn a_row_that_is_not_what_it_says_is_named() {
    let text = "Q-01 | core | A.\n\
        Q-02 | core | A.\n\
        Q-03 | core | A. | not yet: b\n\
        Q-04 | core | A. | not yet: b\n\
        Q-05 | core | A. | compile-time: a.rs\n\
        Q-06 | core | A. | compile-time: a.rs\n\
        Q-07 | core | A. | compile-time: b.rs\n\
        Q-08 | core | A. | differs: b\n\
        Q-09 | core | A. | differs: b\n";
    let rows = super::rows::parse(text).unwrap();
    let claimed = ["Q-01", "Q-03", "Q-06", "Q-08", "Q-99"];
    let claims = claimed.into_iter().map(|id| (id.to_owned(), vec!["a test".to_owned()])).collect();
    let examples = |file: &str| BTreeSet::from_iter((file == "a.rs").then(|| "Q-05".to_owned()));
    let faults = faults(&rows, &claims, examples);
    let named: Vec<_> = faults.iter().map(|fault| &fault[..4]).collect();
    assert_eq!(named, ["Q-02", "Q-03", "Q-06", "Q-07", "Q-99"], "{faults:?}");
}

#[test]
fn rows_of_each_kind_are_counted_and_shown() {
    let text = "Q-01 | core | A.\nQ-02 | core | B. | differs: c\nQ-03 | extended | D. | not yet: e\n\
        TO-01 | extended | F. | compile-time: g.rs\n";
    let rows = super::rows::parse(text).unwrap();
    let claims = Claims::from([("Q-01".to_owned(), vec!["x".to_owned(), "y".to_owned()])]);
    assert_eq!(Count::of(&rows, true), Count { checked: 1, differs: 1, ..Count::default() });
    assert_eq!(Count::of(&rows, false), Count { compile_time: 1, not_yet: 1, ..Count::default() });
    let table = markdown(&rows, &claims);
    for line in [
        "| core | 2 | **1** | 1 | 0 | 0 |",
        "| Q-01 | core | A. | x, y |",
        "| Q-02 | core | B. | differs: c |",
        "| Q-03 | extended | D. | not yet: e |",
        "## TO",
        "| TO-01 | extended | F. | compile-time: `g.rs` |",
    ] {
        assert!(table.lines().any(|shown| shown == line), "{line} is not in {table}");
    }
}

#[test]
fn a_figure_is_replaced() {
    assert_eq!(with_figure("has 12 of the 99 rows.", 340, " of the 99 rows"), "has 340 of the 99 rows.");
}
