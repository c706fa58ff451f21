//! The process's CPU affinity.

use std::{collections::BTreeSet, sync::OnceLock};

/// The cores that this process may use, by the kernel's numbers. Read once, before a thread is pinned.
pub(crate) fn allowed() -> &'static [usize] {
    static ALLOWED: OnceLock<Vec<usize>> = OnceLock::new();
    ALLOWED.get_or_init(|| {
        let ids = core_affinity::get_core_ids().unwrap_or_default();
        ids.into_iter().map(|core| core.id).collect::<BTreeSet<_>>().into_iter().collect()
    })
}
