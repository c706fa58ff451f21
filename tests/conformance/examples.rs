//! The ids in the examples that must not compile.

use std::collections::BTreeSet;

/// The ids in the comments of a file's `compile_fail` examples: `/// // COND-05: …`.
pub(crate) fn ids(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    // The words behind the fence that opened an example.
    let mut example: Option<String> = None;
    for line in source.lines() {
        let line = line.trim_start();
        let Some(text) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else { continue };
        let text = text.trim_start();
        if let Some(fence) = text.strip_prefix("```") {
            example = if example.is_none() { Some(fence.to_owned()) } else { None };
        } else if example.as_ref().is_some_and(|fence| fence.contains("compile_fail"))
            && let Some(comment) = text.strip_prefix("//")
        {
            let words = comment.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
            found.extend(words.filter(|word| is_id(word)).map(str::to_owned));
        }
    }
    found
}

fn is_id(word: &str) -> bool {
    word.split_once('-').is_some_and(|(area, number)| {
        area.bytes().all(|b| b.is_ascii_uppercase())
            && number.len() == 2
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

#[test]
fn only_comments_of_examples_that_must_not_compile_count() {
    let source = "
        /// COND-01
        /// ```
        /// // COND-02
        /// ```
        /// // COND-03
        /// ```compile_fail,E0599
        /// let x = COND-04;
        /// // COND-05, COND-10: only the guard has it.
        /// condition.wait();
        /// ```
        fn f() {} // COND-06
    ";
    assert_eq!(ids(source).into_iter().collect::<Vec<_>>(), ["COND-05", "COND-10"]);
}
