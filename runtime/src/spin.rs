//! Whether a loop that has nothing to do stays awake for a moment, as another thread will have a message for it.
//!
//! To wake a sleeping core costs the sender a system call, and the message tens of microseconds. Loops that ask each
//! other back and forth would pay that for each message, though every answer is a microsecond away. So a loop that was
//! woken by messages in quick succession looks out for the next one before it sleeps. Each time that is in vain it
//! lets twice as many sleeps pass before it tries again: a wrong guess costs [`SPIN_NS`] once in [`PAUSE_MAX`] sleeps.

use std::cell::Cell;

/// How long a loop stays awake: about twice what it takes to wake a core, so that the other one may have slept.
pub(crate) const SPIN_NS: u64 = 50_000;
/// Messages this close to each other are dense.
const DENSE_NS: u64 = 200_000;
const PAUSE_MAX: u32 = 64;

/// See the head of the file.
pub(crate) struct Spin {
    /// In the simulator time stands still while a loop is awake.
    enabled: bool,
    /// When messages last came to a loop that had nothing to do, by its clock.
    last_ns: Cell<u64>,
    dense: Cell<bool>,
    /// Sleeps that begin at once.
    pause: Cell<u32>,
    next_pause: Cell<u32>,
}

impl Spin {
    pub(crate) fn new(enabled: bool) -> Spin {
        Spin {
            enabled,
            last_ns: Cell::new(0),
            dense: Cell::new(false),
            pause: Cell::new(0),
            next_pause: Cell::new(1),
        }
    }

    /// Whether to stay awake before this sleep.
    #[inline(always)]
    pub(crate) fn is_due(&self) -> bool {
        self.dense.get() && self.enabled && self.pause_is_over()
    }

    fn pause_is_over(&self) -> bool {
        let pause = self.pause.get();
        self.pause.set(pause.saturating_sub(1));
        pause == 0
    }

    /// Messages have ended a sleep.
    pub(crate) fn woken(&self, now_ns: u64) {
        let last_ns = self.last_ns.replace(now_ns);
        self.dense.set(now_ns.saturating_sub(last_ns) < DENSE_NS);
    }

    /// Messages came while the loop stayed awake.
    pub(crate) fn paid(&self, now_ns: u64) {
        self.last_ns.set(now_ns);
        self.next_pause.set(1);
    }

    /// None came.
    pub(crate) fn was_vain(&self) {
        self.dense.set(false);
        let pause = self.next_pause.get();
        self.pause.set(pause);
        self.next_pause.set((2 * pause).min(PAUSE_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages end two sleeps in quick succession.
    fn dense(spin: &Spin) {
        let now_ns = spin.last_ns.get() + DENSE_NS;
        spin.woken(now_ns);
        assert!(!spin.dense.get());
        spin.woken(now_ns + DENSE_NS - 1);
        assert!(spin.dense.get());
    }

    #[test]
    fn a_loop_stays_awake_only_while_messages_are_dense() {
        let spin = Spin::new(true);
        assert!(!spin.is_due());
        dense(&spin);
        assert!(spin.is_due() && spin.is_due());
        spin.paid(spin.last_ns.get() + 1);
        assert!(spin.is_due());
        spin.woken(spin.last_ns.get() + DENSE_NS);
        assert!(!spin.is_due());
    }

    #[test]
    fn a_vain_wait_is_not_repeated_without_new_messages_and_ever_less_often_with_them() {
        let spin = Spin::new(true);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            dense(&spin);
            assert!(pauses.is_empty() || !spin.is_due());
            pauses.push((0..=PAUSE_MAX).position(|_| spin.is_due()).unwrap());
            spin.was_vain();
            assert!((0..=2 * PAUSE_MAX).all(|_| !spin.is_due()));
        }
        // One sleep less than the pause, each time, as the first was looked at before.
        assert_eq!(pauses, [0, 0, 1, 3, 7, 15, 31, 63]);
        spin.paid(0);
        spin.was_vain();
        dense(&spin);
        assert!(!spin.is_due() && spin.is_due());
    }

    #[test]
    fn where_time_stands_still_a_loop_never_stays_awake() {
        let spin = Spin::new(false);
        dense(&spin);
        assert!(!spin.is_due());
    }
}
