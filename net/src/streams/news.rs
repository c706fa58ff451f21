//! Whether anything has happened to the streams of this thread that a writer should be told: so that one that has just
//! written, and could be told nothing then, need not look again.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering},
};

/// What is known up to one moment on one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News(u64);

/// Numbers are handed to threads in blocks, and never used again.
const BLOCK: u64 = 1 << 32;
static NEXT_BLOCK: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static LATEST: Cell<u64> = const { Cell::new(0) };
}

impl News {
    /// Always out of date.
    pub(super) const NONE: News = News(u64::MAX);

    #[inline(always)]
    pub(super) fn latest() -> News {
        News(LATEST.get())
    }

    /// A stream has ended, broken, closed, or has more to send than its writer knows; or another loop runs.
    pub(super) fn happened() {
        let last = LATEST.get();
        let begun =
            if last.is_multiple_of(BLOCK) { NEXT_BLOCK.fetch_add(BLOCK, Ordering::Relaxed) } else { last };
        LATEST.set(begun + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_moments_are_the_same_on_whatever_thread() {
        let moments = || {
            let of_one_thread = || {
                News::happened();
                let next = News::latest();
                News::happened();
                LATEST.set(LATEST.get() | (BLOCK - 1));
                News::happened();
                let last_of_a_block = News::latest();
                News::happened();
                [next, last_of_a_block, News::latest(), News::NONE]
            };
            std::thread::spawn(of_one_thread).join().unwrap()
        };
        let all = [moments(), moments()].concat();
        let same = |a: &News| all.iter().filter(|b| a == *b).count();
        assert_eq!(all.iter().map(same).collect::<Vec<_>>(), [1, 1, 1, 2, 1, 1, 1, 2]);
    }
}
