//! Decides whether an idle loop spins for a moment, because another thread will probably send it a message soon.
//!
//! Waking a sleeping core costs the sender a system call, and delays the message by tens of microseconds. Loops that
//! exchange requests and answers would pay that for each message, although each answer is microseconds away. So a loop
//! that messages wake in quick succession sleeps only once [`SPIN_NS`] have passed since the last message. If spinning
//! is in vain more often than once in [`WORTH`] messages, for example because the other threads need this very core,
//! the loop lets more and more wake-ups pass before it spins again, up to [`PAUSE_MAX`].

use std::cell::Cell;

/// How long a loop spins: about twice the time that waking a core takes, as the other loop may have slept, too.
const SPIN_NS: u64 = 50_000;
/// Messages this close together are dense.
const DENSE_NS: u64 = 200_000;
/// So many messages received while spinning are worth one spin in vain.
const WORTH: u32 = 16;
const PAUSE_MAX: u32 = 64;

/// See the head of the file.
pub(crate) struct Spin {
    /// Disabled in the simulator, whose time stands still while a loop is awake.
    enabled: bool,
    /// When messages last came to an idle loop, by its clock.
    last_ns: Cell<u64>,
    due: Cell<bool>,
    /// Messages received while spinning, since the last spin in vain.
    paid: Cell<u32>,
    /// Wake-ups to let pass before the next spin.
    pause: Cell<u32>,
    next_pause: Cell<u32>,
}

impl Spin {
    pub(crate) fn new(enabled: bool) -> Spin {
        Spin {
            enabled,
            last_ns: Cell::new(0),
            due: Cell::new(false),
            paid: Cell::new(0),
            pause: Cell::new(0),
            next_pause: Cell::new(1),
        }
    }

    /// Whether to spin before the next sleep.
    #[inline(always)]
    pub(crate) fn is_due(&self) -> bool {
        self.due.get()
    }

    /// When the spin ends, by the loop's clock.
    pub(crate) fn until_ns(&self) -> u64 {
        self.last_ns.get() + SPIN_NS
    }

    /// Messages have ended a sleep.
    pub(crate) fn woken(&self, now_ns: u64) {
        let last_ns = self.last_ns.replace(now_ns);
        let pause = self.pause.get();
        self.pause.set(pause.saturating_sub(1));
        self.due.set(self.enabled && pause == 0 && now_ns.saturating_sub(last_ns) < DENSE_NS);
    }

    /// Messages came during a spin.
    pub(crate) fn paid(&self, now_ns: u64) {
        self.last_ns.set(now_ns);
        self.paid.set(self.paid.get().saturating_add(1));
    }

    /// No message came during a spin.
    pub(crate) fn was_vain(&self) {
        self.due.set(false);
        let pause = if self.paid.replace(0) >= WORTH { 1 } else { self.next_pause.get() };
        self.pause.set(pause);
        self.next_pause.set((2 * pause).min(PAUSE_MAX));
    }

    /// Stops spinning until messages are dense again.
    pub(crate) fn stop(&self) {
        self.due.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends a sleep by a message, `after_ns` after the last one. Whether the loop spins next.
    fn woken(spin: &Spin, after_ns: u64) -> bool {
        spin.woken(spin.last_ns.get() + after_ns);
        spin.is_due()
    }

    #[test]
    fn a_loop_stays_awake_only_while_messages_are_dense_and_for_a_moment_after_the_last() {
        let spin = Spin::new(true);
        assert!(!spin.is_due() && !woken(&spin, DENSE_NS));
        assert!(woken(&spin, DENSE_NS - 1));
        let last_ns = spin.last_ns.get();
        assert_eq!(spin.until_ns(), last_ns + SPIN_NS);
        spin.paid(last_ns + 7);
        assert!(spin.is_due());
        assert_eq!(spin.until_ns(), last_ns + 7 + SPIN_NS);
        assert!(!woken(&spin, DENSE_NS));
        assert!(woken(&spin, 1));
        spin.stop();
        assert!(!spin.is_due() && woken(&spin, 1));
    }

    #[test]
    fn after_a_vain_wait_ever_more_wake_ups_pass_until_it_is_worth_it() {
        let spin = Spin::new(true);
        woken(&spin, DENSE_NS);
        let passed = |paid: u32| {
            let passed = (0..=PAUSE_MAX).position(|_| woken(&spin, 1)).unwrap();
            (0..paid).for_each(|_| spin.paid(spin.last_ns.get()));
            spin.was_vain();
            assert!(!spin.is_due());
            passed
        };
        assert_eq!([(); 5].map(|()| passed(0)), [0, 1, 2, 4, 8]);
        assert_eq!([(); 4].map(|()| passed(WORTH - 1)), [16, 32, 64, 64]);
        assert_eq!([passed(WORTH), passed(0), passed(0)], [64, 1, 2]);
    }

    #[test]
    fn where_time_stands_still_a_loop_never_stays_awake() {
        let spin = Spin::new(false);
        woken(&spin, DENSE_NS);
        assert!(!woken(&spin, 1));
    }
}
