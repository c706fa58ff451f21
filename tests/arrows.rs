//! Imports go in one direction: no cycle of files in any crate, and no import from a lower layer of the runtime to a
//! higher one. Imports are `use` declarations and paths in the code. A name counts for the file that defines it,
//! however it is re-exported; a module's re-export of an item below it is no import.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Item, UseTree, Visibility,
    visit::{self, Visit},
};

/// The crates with more than one file.
const CRATES: [&str; 5] = ["runtime", "net", "process", "sync", "."];

/// The layers of the runtime, lowest first. A file may import from its own layer or a lower one. Files outside these
/// folders are on the highest layer.
const LAYERS: [(&str, &[&str]); 3] = [
    ("the ground's tables", &["scheduler/"]),
    ("the ground's kernel", &["kernel/"]),
    ("the middle", &["event_loop/"]),
];

/// The path of a module within its crate: empty for the root.
type ModulePath = Vec<String>;

/// The names in a file.
#[derive(Default)]
struct Module {
    file: String,
    defined: BTreeSet<String>,
    /// Names that `use` imports, with their paths.
    brought: BTreeMap<String, Vec<String>>,
    /// Modules imported by `*`.
    globs: Vec<Vec<String>>,
    /// Every path in the code, as written, and the paths of its imports.
    paths: Vec<Vec<String>>,
}

type Modules = BTreeMap<ModulePath, Module>;

/// The importing file and the imported one, with the names imported.
type Arrows = BTreeMap<(String, String), BTreeSet<String>>;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    let tests = |a: &syn::Attribute| {
        a.path().is_ident("cfg") && a.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
    };
    attributes.iter().any(tests)
}

/// Reads a module's file, and those of its children.
fn read(file: &Path, path: ModulePath, modules: &mut Modules) {
    let source = fs::read_to_string(file).unwrap();
    let parsed = syn::parse_file(&source).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let shown = file.strip_prefix(root()).unwrap().display().to_string();
    let mut module = Module { file: shown, ..Module::default() };
    for item in &parsed.items {
        note(item, file, &path, &mut module, modules);
    }
    modules.insert(path, module);
}

fn note(item: &Item, file: &Path, path: &ModulePath, module: &mut Module, modules: &mut Modules) {
    match item {
        Item::Mod(child) if is_test(&child.attrs) => {}
        Item::Mod(child) if child.content.is_none() => {
            let name = child.ident.to_string();
            let inner = [path.clone(), vec![name.clone()]].concat();
            read(&file_of(file, &name), inner, modules);
        }
        // As part of its file: its names are found there.
        Item::Mod(child) => {
            module.defined.insert(child.ident.to_string());
            for item in child.content.iter().flat_map(|(_, items)| items) {
                if !matches!(item, Item::Use(_)) {
                    note(item, file, path, module, modules);
                }
            }
        }
        Item::Use(import) if is_test(&import.attrs) => {}
        Item::Use(import) => {
            let shows = !matches!(import.vis, Visibility::Inherited);
            note_use(&import.tree, Vec::new(), shows, path, module);
        }
        other => {
            if let Some(name) = name_of(other) {
                module.defined.insert(name);
            }
            Paths(&mut module.paths).visit_item(other);
        }
    }
}

/// The file of the child `name` of a module in `file`.
fn file_of(file: &Path, name: &str) -> PathBuf {
    let stem = file.file_stem().unwrap();
    let folder =
        if stem == "lib" || stem == "mod" { file.parent().unwrap().into() } else { file.with_extension("") };
    let flat = folder.join(format!("{name}.rs"));
    if flat.exists() { flat } else { folder.join(name).join("mod.rs") }
}

fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(i) => &i.ident,
        Item::Enum(i) => &i.ident,
        Item::Fn(i) => &i.sig.ident,
        Item::Static(i) => &i.ident,
        Item::Struct(i) => &i.ident,
        Item::Trait(i) => &i.ident,
        Item::Type(i) => &i.ident,
        Item::Union(i) => &i.ident,
        Item::Macro(i) => i.ident.as_ref()?,
        _ => return None,
    };
    Some(name.to_string())
}

fn note_use(tree: &UseTree, before: Vec<String>, shows: bool, path: &ModulePath, module: &mut Module) {
    let with = |name: &syn::Ident| [before.clone(), vec![name.to_string()]].concat();
    match tree {
        UseTree::Path(inner) => note_use(&inner.tree, with(&inner.ident), shows, path, module),
        UseTree::Group(group) => {
            group.items.iter().for_each(|tree| note_use(tree, before.clone(), shows, path, module));
        }
        UseTree::Glob(_) => module.globs.push(absolute(&before, path)),
        UseTree::Name(leaf) if leaf.ident == "self" => bring(before.clone(), None, shows, path, module),
        UseTree::Name(leaf) => bring(with(&leaf.ident), None, shows, path, module),
        UseTree::Rename(leaf) => bring(with(&leaf.ident), Some(leaf.rename.to_string()), shows, path, module),
    }
}

fn bring(full: Vec<String>, name: Option<String>, shows: bool, path: &ModulePath, module: &mut Module) {
    let target = absolute(&full, path);
    let name = name.or_else(|| full.last().cloned()).unwrap_or_default();
    // What it shows of its own children is no import.
    if !(shows && target.starts_with(path) && target.len() > path.len()) {
        module.paths.push(full);
    }
    module.brought.insert(name, target);
}

/// Without `crate`, `self` and `super`. A path that begins with anything else is left to `resolve`.
fn absolute(written: &[String], path: &ModulePath) -> Vec<String> {
    let mut at = path.clone();
    let mut rest = written;
    match written.first().map(String::as_str) {
        Some("crate") => (at, rest) = (Vec::new(), &written[1..]),
        Some("self") => rest = &written[1..],
        Some("super") => {
            while let Some("super") = rest.first().map(String::as_str) {
                at.pop();
                rest = &rest[1..];
            }
        }
        _ => {}
    }
    at.extend_from_slice(rest);
    at
}

/// Collects every path of more than one part.
struct Paths<'a>(&'a mut Vec<Vec<String>>);

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            self.0.push(path.segments.iter().map(|part| part.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

/// The file that defines what `target` names, and the name; `None` for a module itself, and for what is not this
/// crate's.
fn resolve(modules: &Modules, target: &[String], depth: usize) -> Option<(String, String)> {
    let mut at = ModulePath::new();
    for (index, part) in target.iter().enumerate() {
        let child = [at.clone(), vec![part.clone()]].concat();
        if modules.contains_key(&child) {
            at = child;
            continue;
        }
        let module = &modules[&at];
        if module.defined.contains(part) {
            return Some((module.file.clone(), part.clone()));
        }
        if depth == 0 {
            return None;
        }
        let rest = &target[index + 1..];
        let globs = module.globs.iter().map(|glob| [glob, std::slice::from_ref(part)].concat());
        let brought = module.brought.get(part).filter(|brought| brought[..] != target[..=index]).cloned();
        return brought
            .into_iter()
            .chain(globs)
            .find_map(|inner| resolve(modules, &[&inner[..], rest].concat(), depth - 1));
    }
    None
}

fn arrows(name: &str) -> Arrows {
    let mut modules = Modules::new();
    read(&root().join(name).join("src/lib.rs").components().collect::<PathBuf>(), Vec::new(), &mut modules);
    let mut arrows = Arrows::new();
    for (path, module) in &modules {
        for written in &module.paths {
            let Some((file, name)) = resolve(&modules, &absolute(written, path), 8) else { continue };
            if file != module.file {
                arrows.entry((module.file.clone(), file)).or_default().insert(name);
            }
        }
    }
    arrows
}

/// The files that can be reached from `start`.
fn reached(arrows: &Arrows, start: &str) -> BTreeSet<String> {
    let (mut found, mut left) = (BTreeSet::new(), vec![start.to_owned()]);
    while let Some(file) = left.pop() {
        for (_, to) in arrows.keys().filter(|(from, _)| *from == file) {
            if found.insert(to.clone()) {
                left.push(to.clone());
            }
        }
    }
    found
}

/// Arrows between files that reach each other.
fn circles(arrows: &Arrows) -> String {
    let files: BTreeSet<&String> = arrows.keys().map(|(from, _)| from).collect();
    let reach: BTreeMap<&String, BTreeSet<String>> =
        files.into_iter().map(|file| (file, reached(arrows, file))).collect();
    let mut report = String::new();
    for ((from, to), names) in arrows {
        if reach.get(to).is_some_and(|back| back.contains(from)) {
            writeln!(report, "{from} takes {names:?} of {to}, which comes back to it").unwrap();
        }
    }
    report
}

fn layer(file: &str) -> usize {
    let within = file.strip_prefix("runtime/src/").unwrap_or(file);
    let known =
        LAYERS.iter().position(|(_, folders)| folders.iter().any(|folder| within.starts_with(folder)));
    known.unwrap_or(LAYERS.len())
}

#[test]
fn no_circle_of_files() {
    let report: String = CRATES.iter().map(|name| circles(&arrows(name))).collect();
    assert!(report.is_empty(), "\n{report}turn one of the arrows of each circle round, or split a file");
}

#[test]
fn no_arrow_leads_to_a_higher_layer() {
    let mut report = String::new();
    for ((from, to), names) in arrows("runtime") {
        if layer(&from) < layer(&to) && !to.ends_with("lib.rs") {
            let (name, _) = LAYERS[layer(&from)];
            writeln!(report, "{from}, on {name}, takes {names:?} of {to}, which is higher").unwrap();
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

fn module(file: &str, source: &str) -> Module {
    let mut module = Module { file: file.to_owned(), ..Module::default() };
    let path = if file == "lib.rs" { Vec::new() } else { vec![file.trim_end_matches(".rs").to_owned()] };
    for item in syn::parse_file(source).unwrap().items {
        note(&item, Path::new(file), &path, &mut module, &mut Modules::new());
    }
    module
}

fn arrows_of(files: &[(&str, &str)]) -> Arrows {
    let modules: Modules = files
        .iter()
        .map(|(file, source)| {
            let path =
                if *file == "lib.rs" { Vec::new() } else { vec![file.trim_end_matches(".rs").to_owned()] };
            (path, module(file, source))
        })
        .collect();
    let mut arrows = Arrows::new();
    for (path, module) in &modules {
        for written in &module.paths {
            if let Some((file, name)) = resolve(&modules, &absolute(written, path), 8)
                && file != module.file
            {
                arrows.entry((module.file.clone(), file)).or_default().insert(name);
            }
        }
    }
    arrows
}

#[test]
fn imports_are_found_in_every_form() {
    let target = ("b.rs", "pub struct B; pub fn f() {}");
    for source in [
        "use crate::b::B;",
        "use crate::{b::{B}};",
        "use super::b::B as C;",
        "use crate::b; fn g() { b::f() }",
        "fn g() { crate::b::f() }",
        "fn g(_: super::b::B) {}",
        "use crate::Shown;",
        "use crate::b::*; use self::B;",
    ] {
        let found = arrows_of(&[("a.rs", source), target, ("lib.rs", "pub use b::B as Shown;")]);
        assert_eq!(found.keys().next(), Some(&("a.rs".to_owned(), "b.rs".to_owned())), "{source}");
    }
    let none = arrows_of(&[("a.rs", "use std::io; #[cfg(test)] mod tests { use crate::b::B; }"), target]);
    assert!(none.is_empty());
}

#[test]
fn a_circle_names_both_files_and_what_they_take() {
    let files = [("a.rs", "use crate::b::B; pub struct A;"), ("b.rs", "pub struct B(crate::a::A);")];
    let report = circles(&arrows_of(&files));
    assert!(
        report.contains("a.rs takes {\"B\"} of b.rs") && report.contains("b.rs takes {\"A\"} of a.rs"),
        "{report}"
    );
    assert!(circles(&arrows_of(&[("a.rs", "use crate::b::B;"), ("b.rs", "pub struct B;")])).is_empty());
}
