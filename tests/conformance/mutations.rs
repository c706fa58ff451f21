//! The list of `tests/mutations`, whose `run.py` says what its lines mean: does it still fit the source and the tests?

use std::collections::{BTreeMap, BTreeSet};

use crate::{found::Test, names};

/// A mutation of the source that tests of its rows must notice.
#[derive(Debug, Default)]
pub(crate) struct Mutation {
    at: String,
    pub rows: Vec<String>,
    package: String,
    target: String,
    filter: String,
    edits: Vec<Edit>,
}

#[derive(Debug, Default)]
struct Edit {
    file: String,
    find: Vec<String>,
    replace: Vec<String>,
}

/// Reads a list; or says what is wrong, and where.
pub(crate) fn parse(file: &str, text: &str) -> Result<Vec<Mutation>, String> {
    let mut mutations = Vec::new();
    let mut starts = true;
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.starts_with('#')) {
        let at = format!("{file}:{number}");
        if starts && !line.is_empty() {
            mutations.push(Mutation { at: at.clone(), ..Mutation::default() });
        }
        starts = line.is_empty();
        if !starts {
            let added = mutations.last_mut().and_then(|mutation| mutation.add(line));
            added.ok_or_else(|| format!("{at}: this is no line of a mutation: {line}"))?;
        }
    }
    Ok(mutations)
}

impl Mutation {
    fn add(&mut self, line: &str) -> Option<()> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        match (line.as_bytes()[0], &words[..]) {
            (b'-', _) => self.edits.last_mut()?.find.push(line[1..].to_owned()),
            (b'+', _) => self.edits.last_mut()?.replace.push(line[1..].to_owned()),
            (_, [row, ids @ ..]) if row == "row" && !ids.is_empty() => self.rows = ids.to_vec(),
            (_, [test, package, target, filter]) if test == "test" => {
                (self.package, self.target, self.filter) = (package.clone(), target.clone(), filter.clone());
            }
            (_, [file, path]) if file == "file" => {
                self.edits.push(Edit { file: path.clone(), ..Edit::default() });
            }
            _ => return None,
        }
        Some(())
    }

    /// Whether the test is of the package and target.
    fn runs(&self, test: &Test) -> bool {
        let folder = self.package.trim_start_matches("corio-");
        let place = match self.target.as_str() {
            "lib" => format!("{folder}/src/"),
            target => format!("{folder}/tests/{target}.rs"),
        };
        test.file.starts_with(&place) && test.name.contains(&self.filter)
    }

    /// What does not fit the source, which `read` gives, or the tests.
    pub(crate) fn faults(
        &self,
        tests: &[Test],
        areas: &BTreeSet<&str>,
        read: impl Fn(&str) -> String,
    ) -> Vec<String> {
        let mut faults = Vec::new();
        let mut unclaimed: BTreeSet<_> = self.rows.iter().cloned().collect();
        for test in tests.iter().filter(|test| self.runs(test)) {
            let ids = names::ids(&test.name, areas).ids;
            if !ids.iter().any(|id| self.rows.contains(id)) {
                faults.push(format!("`{}` runs, too, and is of none of its rows", test.name));
            }
            ids.iter().for_each(|id| _ = unclaimed.remove(id));
        }
        faults.extend(unclaimed.iter().map(|row| format!("it runs no test of {row}")));
        let mut changed = BTreeMap::new();
        for Edit { file, find, replace } in &self.edits {
            let (find, replace) = (find.join("\n"), replace.join("\n"));
            let text = changed.entry(file).or_insert_with(|| read(file));
            match (text.matches(&find).count(), find == replace) {
                (1, false) => *text = text.replacen(&find, &replace, 1),
                (1, true) => faults.push(format!("it changes nothing in {file}")),
                (times, _) => faults.push(format!("this is {times} times in {file}, not once:\n{find}")),
            }
        }
        if self.edits.is_empty() {
            faults.push("it changes nothing".to_owned());
        }
        faults.into_iter().map(|fault| format!("{}: {}: {fault}", self.at, self.rows.join(" "))).collect()
    }
}

#[test]
fn what_does_not_fit_is_told() {
    let list = "# Some.\n\nrow Q-01 Q-02\ntest corio-sync queue q_0\nfile a.rs\n-one\n-two\n+three\n\n\
                row Q-03\ntest corio-sync lib q_03\nfile a.rs\n-b\n+b\nfile a.rs\n-zero\n";
    let mutations = parse("some.txt", list).unwrap();
    let test = |file: &str, name: &str| Test { name: name.to_owned(), file: file.to_owned() };
    let tests = [
        test("sync/tests/queue.rs", "q_01_first"),
        test("sync/tests/queue.rs", "lock_03_q_0_is_no_id"),
        test("sync/src/queue.rs", "q_03_inside"),
        test("net/tests/queue.rs", "q_02_of_another_package"),
    ];
    let areas = BTreeSet::from(["Q", "LOCK"]);
    let faults = |n: usize| mutations[n].faults(&tests, &areas, |_| "a\none\ntwo\nb\n".to_owned());
    assert_eq!(
        faults(0),
        [
            "some.txt:3: Q-01 Q-02: `lock_03_q_0_is_no_id` runs, too, and is of none of its rows",
            "some.txt:3: Q-01 Q-02: it runs no test of Q-02"
        ]
    );
    assert_eq!(
        faults(1),
        [
            "some.txt:10: Q-03: it changes nothing in a.rs",
            "some.txt:10: Q-03: this is 0 times in a.rs, not once:\nzero"
        ]
    );
    assert_eq!(mutations.len(), 2);
    assert!(parse("some.txt", "row Q-01\nsomething\n").unwrap_err().starts_with("some.txt:2: "));
    assert!(parse("some.txt", "-text\n").is_err());
}
