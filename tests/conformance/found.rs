//! The tests of the workspace, from its sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

use syn::{Attribute, Expr, Item, Meta};

/// Where tests are that `cargo test` runs.
const FOLDERS: [&str; 7] = ["src", "tests", "runtime", "net", "sync", "process", "macros"];

/// A test.
pub(crate) struct Test {
    pub name: String,
    pub file: String,
}

/// All tests that `cargo test` runs: no ignored ones, no helpers, none of the loom job.
pub(crate) fn tests() -> Vec<Test> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in FOLDERS {
        rust_files(&root.join(folder), &mut files);
    }
    files.sort();
    let mut tests = Vec::new();
    for path in files {
        let file = path.strip_prefix(root).unwrap().display().to_string();
        let names = names(&fs::read_to_string(&path).unwrap()).unwrap_or_else(|e| panic!("{file}: {e}"));
        tests.extend(names.into_iter().map(|name| Test { name, file: file.clone() }));
    }
    assert!(tests.len() > 500, "the walk found only {} tests", tests.len());
    tests
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

/// The names of the tests in a source file.
fn names(source: &str) -> syn::Result<Vec<String>> {
    let file = syn::parse_file(source)?;
    let mut names = Vec::new();
    if !is_left_out(&file.attrs) {
        file.items.iter().for_each(|item| note(item, &mut names));
    }
    Ok(names)
}

fn note(item: &Item, names: &mut Vec<String>) {
    match item {
        Item::Fn(function) if is_test(&function.attrs) => names.push(function.sig.ident.to_string()),
        Item::Mod(module) if !is_left_out(&module.attrs) => {
            let items = module.content.iter().flat_map(|(_, items)| items);
            items.for_each(|item| note(item, names));
        }
        Item::Macro(call) => names.extend(names_in_macro(&call.mac.tokens.to_string())),
        // The list of a file that has its own `main` in place of the harness.
        Item::Const(list) if list.ident == "TESTS" => names.extend(names_in_list(&list.expr)),
        _ => {}
    }
}

/// `#[test]`, `#[corio::test]`.
fn is_test(attributes: &[Attribute]) -> bool {
    let last_is = |a: &Attribute, name: &str| a.path().segments.last().is_some_and(|last| last.ident == name);
    let test = attributes.iter().any(|a| last_is(a, "test"));
    test && !attributes.iter().any(|a| last_is(a, "ignore")) && !is_left_out(attributes)
}

/// `cfg(loom)`: not for `cargo test`.
fn is_left_out(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|a| match &a.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string();
            condition.contains("loom") && !condition.contains("not")
        }
        _ => false,
    })
}

/// Tests inside a macro such as `proptest!`, whose tokens need not be Rust.
fn names_in_macro(tokens: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut parts = tokens.split("fn ");
    let mut before = parts.next().unwrap_or_default();
    for part in parts {
        let attributes: String = before.rsplit('}').next().unwrap_or_default().split_whitespace().collect();
        if attributes.contains("#[test]") && !attributes.contains("#[ignore") {
            let end = part.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(part.len());
            names.push(part[..end].to_owned());
        }
        before = part;
    }
    names
}

/// The functions of `[("name", function), …]`.
fn names_in_list(list: &Expr) -> Vec<String> {
    let Expr::Array(list) = list else { return Vec::new() };
    let function = |pair: &Expr| match pair {
        Expr::Tuple(pair) => match pair.elems.last() {
            Some(Expr::Path(function)) => Some(function.path.segments.last()?.ident.to_string()),
            _ => None,
        },
        _ => None,
    };
    list.elems.iter().filter_map(function).collect()
}

#[test]
fn only_what_cargo_test_runs_is_a_test() {
    let source = r#"
        fn helper() {}
        #[test]
        #[ignore = "slow"]
        fn ignored() {}
        #[cfg(loom)]
        #[test]
        fn of_loom() {}
        #[cfg(loom)]
        mod loom_tests { #[test] fn of_loom() {} }
        #[test]
        fn plain() { #[allow(unused)] fn inner() {} }
        #[corio::test(sim = 7)]
        async fn attributed() {}
        #[cfg(test)]
        mod tests { #[cfg(not(loom))] #[test] fn nested() {} fn helper() {} }
        const OTHERS: [(&str, fn()); 1] = [("helper", helper)];
    "#;
    assert_eq!(names(source).unwrap(), ["plain", "attributed", "nested"]);
    assert!(names("#![cfg(loom)]\n#[test] fn of_loom() {}").unwrap().is_empty());
}

#[test]
fn tests_that_macros_and_lists_make_are_found() {
    let made = r#"
        proptest! {
            #![proptest_config(Config::default())]
            #[test]
            fn first(permits in 0usize..4) { fn helper() {} }
            fn helper(x in 0..1) {}
            #[test]
            #[ignore]
            fn ignored(x in 0..1) {}
        }
        macro_rules! no_test { () => { fn helper() {} } }
        const TESTS: [(&str, fn()); 2] = [("second", second), ("third", here::third)];
    "#;
    assert_eq!(names(made).unwrap(), ["first", "second", "third"]);
}
