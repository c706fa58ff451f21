//! The ids in the name of a test.

use std::collections::BTreeSet;

/// What a name carries.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Named {
    /// The ids at its head.
    pub ids: Vec<String>,
    /// Ids behind the head, which claim nothing.
    pub strays: Vec<String>,
}

/// A number behind an id is of the same area: `str_04_05_…`. Marks of other lists may stand among the ids:
/// `f4_task_08_…`.
pub(crate) fn ids(name: &str, areas: &BTreeSet<&str>) -> Named {
    let words: Vec<_> = name.split('_').collect();
    let area_of = |word: &str| areas.get(word.to_uppercase().as_str()).copied();
    let (mut named, mut area, mut at) = (Named::default(), None, 0);
    while let Some(word) = words.get(at) {
        let number = words.get(at + 1).is_some_and(|next| is_number(next));
        match (area, area_of(word)) {
            (_, Some(its)) if number => area = Some(its),
            (Some(area), _) if is_number(word) => named.ids.push(format!("{area}-{word}")),
            _ if is_mark(word) => area = None,
            _ => break,
        }
        at += 1;
    }
    for pair in words[at..].windows(2) {
        // `grow_to_32_…` is plain English.
        if let Some(area) = area_of(pair[0])
            && area != "TO"
            && is_number(pair[1])
        {
            named.strays.push(format!("{area}-{}", pair[1]));
        }
    }
    named
}

fn is_number(word: &str) -> bool {
    word.len() == 2 && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// `a1`, `k2`: of the list of pitfalls.
fn is_mark(word: &str) -> bool {
    let bytes = word.as_bytes();
    matches!(bytes, [b'a'..=b'z', number @ ..] if !number.is_empty() && number.iter().all(u8::is_ascii_digit))
}

#[test]
fn every_id_at_the_head_of_a_name_is_found() {
    let areas = BTreeSet::from(["LOCK", "STR", "TASK", "SUB", "TO", "Q"]);
    let found = |name: &str| ids(name, &areas).ids.join(" ");
    assert_eq!(found("lock_04_lock_05_a_waiter"), "LOCK-04 LOCK-05");
    assert_eq!(found("str_04_05_07_reads_of_10_sizes"), "STR-04 STR-05 STR-07");
    assert_eq!(found("sub_12_q_03_04_both"), "SUB-12 Q-03 Q-04");
    assert_eq!(found("f4_task_08_a_task"), "TASK-08");
    assert_eq!(found("sub_12_k2_a_child"), "SUB-12");
    assert_eq!(found("sub_12_k2_34_children"), "SUB-12", "a number behind a mark is of no area");
    assert_eq!(found("lock_99"), "LOCK-99");
}

#[test]
fn other_numbers_are_no_ids() {
    let areas = BTreeSet::from(["LOCK", "TO"]);
    for name in ["nothing_here", "g1_a_panic_in_10_turns", "threads_grow_to_32", "lock_5_times", "lock_123"] {
        assert_eq!(ids(name, &areas), Named::default(), "{name}");
    }
    assert_eq!(ids("lock_03_and_lock_04", &areas).strays, ["LOCK-04"]);
}
