//! The rows of asyncio's behaviour.

/// A row: one checkable behaviour.
#[derive(Debug, PartialEq)]
pub(crate) struct Row {
    pub id: String,
    pub core: bool,
    pub says: String,
    pub kind: Kind,
}

/// What holds here.
#[derive(Debug, PartialEq)]
pub(crate) enum Kind {
    /// A test checks it.
    Checked,
    /// Something else holds: what, and what to write instead.
    Differs(String),
    /// It does not compile: the file with the example that shows it.
    CompileTime(String),
    /// What it waits for.
    NotYet(String),
}

impl Row {
    pub(crate) fn area(&self) -> &str {
        self.id.split('-').next().unwrap_or_default()
    }

    pub(crate) fn number(&self) -> usize {
        self.id.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(0)
    }
}

/// The rows of a text, or the number of a line and what is wrong with it. Lines with `#` are comments.
pub(crate) fn parse(text: &str) -> Result<Vec<Row>, String> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.starts_with('#'));
    lines.map(|(number, line)| row(line).map_err(|why| format!("{number}: {why}"))).collect()
}

fn row(line: &str) -> Result<Row, String> {
    let fields: Vec<_> = line.split(" | ").collect();
    let [id, priority, says, kind @ ..] = &fields[..] else {
        return Err("expected ID | core or extended | sentence, and a kind if it is not checked".to_owned());
    };
    let core = match *priority {
        "core" => true,
        "extended" => false,
        other => return Err(format!("`{other}` is neither core nor extended")),
    };
    let kind = match kind {
        [] => Kind::Checked,
        [kind] => match kind.split_once(": ") {
            Some(("differs", what)) => Kind::Differs(what.to_owned()),
            Some(("compile-time", file)) => Kind::CompileTime(file.to_owned()),
            Some(("not yet", what)) => Kind::NotYet(what.to_owned()),
            _ => return Err(format!("no kind is written like `{kind}`")),
        },
        _ => return Err("too many fields".to_owned()),
    };
    Ok(Row { id: (*id).to_owned(), core, says: (*says).to_owned(), kind })
}

#[test]
fn a_line_is_a_row_of_one_of_four_kinds() {
    let text = "# comment\n\
        LOCK-01 | core | Waiters come in order.\n\
        LOCK-02 | extended | B. | differs: c: d\n\
        LOCK-03 | core | B. | compile-time: src/a.rs\n\
        LOCK-04 | core | B. | not yet: pipes\n";
    let rows = parse(text).unwrap();
    let [checked, differs, compile_time, not_yet] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((checked.area(), checked.number(), checked.core), ("LOCK", 1, true));
    assert_eq!((&checked.says[..], &checked.kind), ("Waiters come in order.", &Kind::Checked));
    assert_eq!((differs.core, &differs.kind), (false, &Kind::Differs("c: d".to_owned())));
    assert_eq!(compile_time.kind, Kind::CompileTime("src/a.rs".to_owned()));
    assert_eq!(not_yet.kind, Kind::NotYet("pipes".to_owned()));
}

#[test]
fn what_is_no_row_is_refused_with_its_line() {
    for wrong in ["LOCK-01", "LOCK-01 | 1 | A.", "LOCK-01 | core | A. | todo", "LOCK-01 | core | A. | a | b"]
    {
        let why = parse(&format!("# comment\n{wrong}\n")).unwrap_err();
        assert!(why.starts_with("2: "), "{why}");
    }
}
