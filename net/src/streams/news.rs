//! A counter of events on this thread's streams that a writer must see. `drain` compares it with the value at the last
//! write: if they are equal, it need not look at the stream.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering},
};

/// The value of the counter at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News(u64);

/// Each thread takes numbers in blocks; no number is used twice.
const BLOCK: u64 = 1 << 32;
static NEXT_BLOCK: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static LATEST: Cell<u64> = const { Cell::new(0) };
}

impl News {
    /// Never equal to `latest`.
    pub(super) const NONE: News = News(u64::MAX);

    #[inline(always)]
    pub(super) fn latest() -> News {
        News(LATEST.get())
    }

    /// Counts an event: a stream has ended, broken or closed, has more to send than its writer knows, or another loop
    /// runs.
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
