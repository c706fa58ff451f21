//! The rules of the source that no compiler checks. Each failure names the file, the line and the remedy.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// The library files that may hold `unsafe`, each opening with its proof.
const PROVEN: [&str; 3] =
    ["runtime/src/kernel/ring/uring.rs", "runtime/src/kernel/pool.rs", "runtime/src/event_loop/waker.rs"];
/// Test and bench files that may hold `unsafe`, each with the reason. Library code never belongs here.
const TESTS_WITH_UNSAFE: [(&str, &str); 8] = [
    ("net/tests/closing.rs", "sets the default action of SIGPIPE (signal)"),
    ("net/tests/pipes.rs", "sets the default action of SIGPIPE (signal)"),
    ("process/tests/soak.rs", "ignores SIGCHLD (signal)"),
    ("process/tests/subprocess.rs", "runs code in the child before it is another program (pre_exec)"),
    (
        "runtime/tests/operations.rs",
        "signals a thread in the middle of a system call (sigaction, pthread_kill)",
    ),
    ("runtime/tests/common/filter.rs", "forbids itself system calls by a seccomp filter (prctl)"),
    ("runtime/tests/interrupt.rs", "sets the default action of SIGINT (signal)"),
    ("runtime/tests/setup.rs", "becomes another user (setuid, prctl)"),
];
/// Crates whose root must forbid `unsafe`.
const FORBID_UNSAFE: [&str; 5] =
    ["src/lib.rs", "net/src/lib.rs", "process/src/lib.rs", "sync/src/lib.rs", "macros/src/lib.rs"];
/// What each crate's [dependencies] may take of corio's own: the arrows point down.
const ARROWS: [(&str, &[&str]); 7] = [
    (".", &["corio-runtime", "corio-net", "corio-process", "corio-sync", "corio-macros"]),
    ("runtime", &[]),
    ("net", &["corio-runtime"]),
    ("process", &["corio-runtime", "corio-net"]),
    // Only for its feature `timeout`.
    ("sync", &["corio-runtime"]),
    ("macros", &[]),
    ("benches", &["corio", "corio-runtime", "corio-net", "corio-process", "corio-sync"]),
];
const MOST_LINES: usize = 70;
const MOST_COLUMNS: usize = 120;

/// One breach: where, and what to do.
struct Finding {
    line: usize,
    text: String,
}

/// Keys of the tables of a loop, of tasks, timers, callbacks and operations.
const KEYS: [&str; 4] = ["TaskKey", "TimerKey", "CallKey", "Key"];

/// Where such keys are made and looked up.
const KEY_TABLES: [&str; 4] = [
    "runtime/src/kernel/inflight.rs",
    "runtime/src/kernel/silent.rs",
    "runtime/src/scheduler/catch_scopes.rs",
    "runtime/src/scheduler/task_slot.rs",
];

fn finding(line: usize, text: impl Into<String>) -> Finding {
    Finding { line, text: text.into() }
}

/// The source with its comments, strings and characters blanked out: same lines, same columns.
fn code_only(source: &str) -> String {
    let mut scanner = Scanner { rest: source, code: String::with_capacity(source.len()) };
    while let Some(c) = scanner.rest.chars().next() {
        scanner.step(c);
    }
    scanner.code
}

struct Scanner<'a> {
    rest: &'a str,
    code: String,
}

impl Scanner<'_> {
    fn step(&mut self, c: char) {
        let word = self.rest.find(|c: char| !is_word(c)).unwrap_or(self.rest.len());
        if self.rest.starts_with("//") {
            self.blank(self.rest.find('\n').unwrap_or(self.rest.len()));
        } else if self.rest.starts_with("/*") {
            self.blank(block_comment(self.rest));
        } else if c == '"' {
            self.blank(string(self.rest));
        } else if c == '\'' {
            self.blank(character(self.rest));
        } else if word > 0 {
            self.word(word);
        } else {
            self.keep(c.len_utf8());
        }
    }

    /// A word, or the prefix of a literal: `r"`, `b"`, `br#"`, `c"`, `b'`.
    fn word(&mut self, length: usize) {
        let (word, after) = self.rest.split_at(length);
        let hashes = after.len() - after.trim_start_matches('#').len();
        let raw = matches!(word, "r" | "br" | "cr") && after[hashes..].starts_with('"');
        let plain = matches!(word, "b" | "c");
        if raw {
            let end = format!("\"{}", "#".repeat(hashes));
            let open = hashes + 1;
            let body = after[open..].find(&end).map_or(after.len(), |at| open + at + end.len());
            self.blank(length + body);
        } else if plain && after.starts_with('"') {
            self.blank(length + string(after));
        } else if word == "b" && after.starts_with('\'') {
            self.blank(length + character(after));
        } else {
            self.keep(length);
        }
    }

    fn keep(&mut self, length: usize) {
        let (kept, rest) = self.rest.split_at(length);
        self.code.push_str(kept);
        self.rest = rest;
    }

    fn blank(&mut self, length: usize) {
        let (gone, rest) = self.rest.split_at(length);
        self.code.extend(gone.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        self.rest = rest;
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Length of the block comment that `text` begins with; they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Length of the string that `text` begins with.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of the character that `text` begins with, or of the quote alone if it opens a lifetime or label.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            chars.next();
            chars.find(|(_, c)| *c == '\'').map_or(text.len(), |(at, _)| at + 1)
        }
        Some(_) => match chars.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
        None => 1,
    }
}

/// The words of a line of code, with the text that follows each.
fn words(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let start = rest.find(is_word)?;
        let after = &rest[start..];
        let end = after.find(|c| !is_word(c)).unwrap_or(after.len());
        rest = &after[end..];
        Some((&after[..end], rest))
    })
}

fn unsafe_lines(code: &str) -> Vec<Finding> {
    let has = |line: &str| words(line).any(|(word, _)| word == "unsafe");
    let lines = code.lines().enumerate().filter(|(_, line)| has(line));
    lines
        .map(|(n, _)| finding(n + 1, "`unsafe` outside the three proven files: write it in safe code"))
        .collect()
}

/// Functions longer than the limit, from their `fn` to their closing brace.
fn long_functions(code: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    // (name, line of `fn`, brackets open before the body) while the signature is read; the same, in bodies.
    let mut signature: Option<(String, usize)> = None;
    let mut bodies: Vec<(String, usize, usize)> = Vec::new();
    let (mut braces, mut brackets) = (0usize, 0usize);
    for (n, line) in code.lines().enumerate() {
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            let word = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
            let name = words(&rest[word..]).next().map(|(name, _)| name.to_owned());
            match c {
                // `fn(` is a type, not a function.
                _ if &rest[..word] == "fn" && rest[word..].starts_with(' ') => {
                    signature = name.map(|name| (name, n + 1));
                    brackets = 0;
                }
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets = brackets.saturating_sub(1),
                ';' if brackets == 0 => signature = None,
                '{' => {
                    if brackets == 0
                        && let Some((name, from)) = signature.take()
                    {
                        bodies.push((name, from, braces));
                    }
                    braces += 1;
                }
                '}' => {
                    braces = braces.saturating_sub(1);
                    if let Some((name, from, _)) = bodies.pop_if(|(.., depth)| *depth == braces)
                        && n + 2 - from > MOST_LINES
                    {
                        let lines = n + 2 - from;
                        let text = format!("fn {name} has {lines} lines, at most {MOST_LINES}: split it");
                        found.push(finding(from, text));
                    }
                }
                _ => {}
            }
            rest = &rest[word.max(c.len_utf8())..];
        }
    }
    found
}

fn long_lines(source: &str) -> Vec<Finding> {
    let lines = source.lines().enumerate().filter(|(_, line)| line.chars().count() > MOST_COLUMNS);
    lines.map(|(n, _)| finding(n + 1, format!("longer than {MOST_COLUMNS} columns: break it"))).collect()
}

/// Marks of unfinished work: words anywhere, macros in code.
fn unfinished(source: &str, code: &str) -> Vec<Finding> {
    // Put together here, so that this file does not hold them.
    let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat()];
    let macros = ["todo", "unimplemented", "dbg"];
    let mut found = Vec::new();
    for (n, (line, code)) in source.lines().zip(code.lines()).enumerate() {
        if let Some((mark, _)) = words(line).find(|(word, _)| marks.iter().any(|mark| mark == word)) {
            found.push(finding(n + 1, format!("`{mark}`: do it, or open an issue")));
        }
        if let Some((name, _)) = words(code).find(|(w, rest)| macros.contains(w) && rest.starts_with('!')) {
            found.push(finding(n + 1, format!("`{name}!`: remove it")));
        }
    }
    found
}

/// Library code prints nothing by itself: these macros block, and panic when nobody reads.
fn printing(code: &str) -> Vec<Finding> {
    let macros = ["print", "println", "eprint", "eprintln"];
    let prints = |line: &str| words(line).any(|(word, rest)| macros.contains(&word) && rest.starts_with('!'));
    let lines = code.lines().enumerate().filter(|(_, line)| prints(line));
    let text = "library code must not print: report it by `call_exception_handler`";
    lines.map(|(n, _)| finding(n + 1, text)).collect()
}

/// Fields of types that keep a key of a loop's table without its loop.
fn loose_keys(code: &str) -> Vec<Finding> {
    let (mut found, mut depth) = (Vec::new(), 0);
    for (number, line) in (1..).zip(code.lines()) {
        let begins = words(line).any(|(word, _)| matches!(word, "struct" | "enum"));
        if (depth > 0 || begins)
            && !line.contains("Homed<")
            && let Some((key, _)) = words(line).find(|(word, _)| KEYS.contains(word))
            && !line.contains(&format!("struct {key}"))
        {
            found.push(finding(number, format!("{key} is kept without its loop: keep a Homed<{key}>")));
        }
        if depth > 0 || begins {
            depth += line.matches('{').count();
            depth -= line.matches('}').count().min(depth);
        }
    }
    found
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` with this extension, by its path from the root. Build output and what begins
/// with a dot is skipped.
fn files(folder: &Path, extension: &str, out: &mut Vec<String>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with('.') || name.starts_with("target") {
            continue;
        }
        if path.is_dir() {
            files(&path, extension, out);
        } else if path.extension().is_some_and(|e| e == extension) {
            out.push(path.strip_prefix(root()).unwrap().to_string_lossy().into_owned());
        }
    }
}

/// Fails with all findings of `check(path, source)` over the Rust files of the workspace.
#[track_caller]
fn check_sources(check: impl Fn(&str, &str) -> Vec<Finding>) {
    let mut sources = Vec::new();
    files(&root(), "rs", &mut sources);
    assert!(sources.len() > 30, "the walk found only {} files", sources.len());
    let mut report = String::new();
    for path in sources {
        let source = fs::read_to_string(root().join(&path)).unwrap();
        for Finding { line, text } in check(&path, &source) {
            writeln!(report, "{path}:{line}: {text}").unwrap();
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

/// The entries of one section of a manifest, with their lines.
fn section<'a>(manifest: &'a str, name: &str) -> Vec<(usize, &'a str)> {
    let mut inside = false;
    let mut entries = Vec::new();
    for (n, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_end_matches(']');
            inside = header == name;
            // [dependencies.name] is an entry, too.
            if let Some(entry) = header.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')) {
                entries.push((n + 1, entry));
            }
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            entries.push((n + 1, line));
        }
    }
    entries
}

fn upward_arrows(manifest: &str, allowed: &[&str]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (line, entry) in section(manifest, "dependencies") {
        let name = entry.split(|c: char| !(is_word(c) || c == '-')).next().unwrap_or_default();
        let ours = name == "corio" || name.starts_with("corio-");
        if ours && !allowed.contains(&name) {
            found.push(finding(line, format!("must not depend on {name}: arrows between crates point down")));
        }
    }
    found
}

#[test]
fn unsafe_is_in_the_three_proven_files_only() {
    check_sources(|path, source| {
        let allowed = PROVEN.contains(&path) || TESTS_WITH_UNSAFE.iter().any(|(file, _)| *file == path);
        if allowed { Vec::new() } else { unsafe_lines(&code_only(source)) }
    });
    for (path, reason) in TESTS_WITH_UNSAFE {
        assert!(!reason.is_empty() && !path.contains("src/"), "{path}: library code cannot be allowed here");
    }
}

#[test]
fn each_file_with_unsafe_opens_with_its_proof() {
    for path in PROVEN {
        let source = fs::read_to_string(root().join(path)).unwrap();
        let mut head = source.lines().take_while(|line| line.starts_with("//!"));
        assert!(
            head.any(|line| line == "//! # Rules"),
            "{path}:1: open the file with its proof, under `# Rules`"
        );
    }
}

#[test]
fn safe_crates_forbid_unsafe() {
    for path in FORBID_UNSAFE {
        let code = code_only(&fs::read_to_string(root().join(path)).unwrap());
        let forbids = code.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]");
        assert!(forbids, "{path}:1: add `#![forbid(unsafe_code)]`");
    }
}

#[test]
fn functions_fit_on_a_screen() {
    check_sources(|_, source| long_functions(&code_only(source)));
}

#[test]
fn lines_fit_their_columns() {
    check_sources(|_, source| long_lines(source));
}

#[test]
fn nothing_is_left_unfinished() {
    check_sources(|_, source| unfinished(source, &code_only(source)));
}

#[test]
fn handles_keep_keys_with_their_loop() {
    check_sources(|path, source| {
        let tables = path.starts_with("runtime/src/kernel/") || KEY_TABLES.contains(&path);
        let runtime = path.starts_with("runtime/src/") && !tables;
        if runtime { loose_keys(&code_only(source)) } else { Vec::new() }
    });
}

#[test]
fn library_code_does_not_print() {
    check_sources(|path, source| {
        let library = path.starts_with("src/") || (path.contains("/src/") && !path.starts_with("benches/"));
        if library { printing(&code_only(source)) } else { Vec::new() }
    });
}

#[test]
fn crate_arrows_point_down() {
    let mut report = String::new();
    for (folder, allowed) in ARROWS {
        let path = format!("{folder}/Cargo.toml");
        let manifest = fs::read_to_string(root().join(&path)).unwrap();
        for Finding { line, text } in upward_arrows(&manifest, allowed) {
            writeln!(report, "{path}:{line}: {text}").unwrap();
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn every_crate_inherits_the_lints_and_is_known_here() {
    let mut manifests = Vec::new();
    files(&root(), "toml", &mut manifests);
    manifests.retain(|path| path.ends_with("Cargo.toml"));
    for path in manifests {
        let folder = path.strip_suffix("Cargo.toml").unwrap().trim_end_matches('/');
        let folder = if folder.is_empty() { "." } else { folder };
        let known = ARROWS.iter().any(|(name, _)| *name == folder);
        assert!(known, "{path}:1: a new crate: add its arrows to tests/tidy.rs");
        let manifest = fs::read_to_string(root().join(&path)).unwrap();
        let lints = section(&manifest, "lints");
        let inherits = lints.iter().any(|(_, entry)| *entry == "workspace = true");
        assert!(inherits, "{path}:1: add `[lints]` with `workspace = true`");
    }
}

// The scanner itself.

fn lines_of(found: &[Finding]) -> Vec<usize> {
    found.iter().map(|finding| finding.line).collect()
}

#[test]
fn scanner_finds_unsafe_in_code() {
    let source = "fn f() {\n    unsafe { g() }\n}\nunsafe impl Send for X {}\npub unsafe fn h() {}\n";
    assert_eq!(lines_of(&unsafe_lines(&code_only(source))), [2, 4, 5]);
}

#[test]
fn scanner_is_not_fooled_by_comments_strings_and_lifetimes() {
    let source = r####"
// unsafe
/* unsafe /* nested unsafe */ unsafe */
#![forbid(unsafe_code)]
const A: &str = "unsafe \" unsafe \\";
const B: &str = r#"unsafe " unsafe"#;
const C: &[u8] = br##"unsafe "# unsafe"##;
const D: &[u8] = b"unsafe";
const E: [char; 4] = ['"', '\'', '\u{22}', '{'];
const F: u8 = b'"';
fn life<'a>(x: &'a str) -> &'a str { 'unsafe_label: loop { break 'unsafe_label x } }
"####;
    let code = code_only(source);
    assert!(unsafe_lines(&code).is_empty(), "{code}");
    assert_eq!(code.lines().count(), source.lines().count());
    assert!(code.contains("fn life<") && code.contains("str { "));
    let after_quote = code_only("const Q: char = '\"'; unsafe { f() }");
    assert_eq!(lines_of(&unsafe_lines(&after_quote)), [1]);
}

#[test]
fn scanner_measures_functions_from_fn_to_brace() {
    let body = |lines: usize| {
        let lines = "    g('}', \"{\"); // }\n".repeat(lines);
        format!("fn f(x: [u8; 3]) -> u8 {{\n{lines}}}\n")
    };
    assert!(long_functions(&code_only(&body(MOST_LINES - 2))).is_empty());
    let found = long_functions(&code_only(&format!("\n{}", body(MOST_LINES - 1))));
    assert_eq!(lines_of(&found), [2]);
    assert!(found[0].text.contains("fn f has 71 lines"), "{}", found[0].text);
    let constants = "const A: u8 = 1;\n".repeat(99);
    let other = format!("trait T {{ fn a(&self); }}\nconst P: fn(u8) = f;\nmod m {{\n{constants}}}\n");
    assert!(long_functions(&code_only(&other)).is_empty());
    let nested = format!("mod m {{\n    impl A {{\n{}    }}\n}}\n", body(MOST_LINES));
    assert_eq!(lines_of(&long_functions(&code_only(&nested))), [3]);
}

#[test]
fn scanner_finds_long_lines_and_unfinished_work() {
    let long = "a".repeat(MOST_COLUMNS + 1);
    assert_eq!(lines_of(&long_lines(&format!("x\n{long}\n{}\n", "é".repeat(MOST_COLUMNS)))), [2]);
    let mark = ["TO", "DO"].concat();
    let source = format!("// {mark}: later\nfn f() {{ dbg!(1); }}\nlet s = \"todo!\";\nlet {mark}S = 1;\n");
    assert_eq!(lines_of(&unfinished(&source, &code_only(&source))), [1, 2]);
}

#[test]
fn scanner_finds_keys_without_a_loop() {
    let code = "struct A {\n    key: Homed<TaskKey>,\n    timer: Option<TimerKey>,\n}\n\
                fn f(key: TaskKey) {}\nstruct B(CallKey);\n\
                enum C {\n    D { key: Key },\n    E,\n}\nfn g(key: Key) {}\n";
    assert_eq!(lines_of(&loose_keys(code)), [3, 6, 8]);
}

#[test]
fn scanner_finds_prints_in_code() {
    let source =
        "/// println!(\"here\");\nfn f() { eprintln!(\"x\") }\nlet eprint = 1;\nstd::print!(\"y\");\n";
    assert_eq!(lines_of(&printing(&code_only(source))), [2, 4]);
}

#[test]
fn scanner_finds_arrows_that_point_up() {
    let manifest = "[package]\nname = \"corio-net\"\n[dependencies]\nbytes = \"1\"\n\
        corio-runtime.workspace = true\ncorio.workspace = true\n[dependencies.corio-process]\n\
        workspace = true\n[dev-dependencies]\ncorio-sync = \"1\"\n";
    assert_eq!(lines_of(&upward_arrows(manifest, &["corio-runtime"])), [6, 7]);
}
