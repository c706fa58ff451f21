//! Frees memory after a peak.
//!
//! When a table frees a slot, it compares the used slots with a quarter of its capacity, and reports once if it is far
//! too large. That is the only running cost. A moment later, as the loop goes to sleep, or within a thousand turns of a
//! busy loop, all tables are checked, and those that are still far too large shrink. So a load that comes in bursts
//! keeps its memory, and an idle loop has no extra wake-ups.

use std::time::Duration;

use crate::{
    event_loop::{current, current::Loop},
    scheduler::slab::shrink_list,
};

/// Time from the first report to the check.
const MOMENT: Duration = Duration::from_millis(100);

/// Reports that something on the running loop holds far more memory than it uses. 100 ms later this loop's tables and
/// all its services ([`Service::tidy`](crate::service::Service::tidy)) free their unused memory. Memory that is needed
/// again before stays. No effect outside a running loop.
///
/// ```
/// use corio_runtime::{service::{LoopLocal, Service, tidy_later}, time::{Duration, sleep}};
/// use std::cell::RefCell;
///
/// struct Spare(RefCell<Vec<u8>>);
/// impl Service for Spare {
///     fn tidy(&self) -> bool {
///         self.0.take();
///         false
///     }
///     fn bytes(&self) -> usize { self.0.borrow().capacity() }
/// }
/// static SPARE: LoopLocal<Spare> = LoopLocal::new(|| Spare(RefCell::default()));
///
/// corio_runtime::run(async {
///     SPARE.with(|spare| spare.0.replace(vec![0; 1 << 20]));
///     assert!(corio_runtime::metrics().memory.services_bytes >= 1 << 20);
///     tidy_later();
///     while SPARE.with(|spare| spare.bytes()) > 0 {
///         sleep(Duration::from_millis(10)).await;
///     }
///     assert_eq!(corio_runtime::metrics().memory.services_bytes, 0);
/// });
/// ```
#[cold]
#[inline(never)]
pub fn tidy_later() {
    current::peek(Loop::tidy_later);
}

impl Loop {
    /// Reports that a table is far too large.
    pub(crate) fn tidy_later(&self) {
        if !self.untidy.replace(true) {
            self.tidy_at.set(self.clock.after(MOMENT));
        }
    }

    /// Frees unused memory, if it is time. Returns whether it was.
    pub(crate) fn tidy_if_due(&self) -> bool {
        let due = self.untidy.get() && self.clock.now_ns() >= self.tidy_at.get();
        if due {
            self.tidy();
        }
        due
    }

    fn tidy(&self) {
        self.untidy.set(false);
        let mut more = false;
        self.services.each(|service| self.guard(None, || more |= service.tidy()));
        self.tasks.tidy();
        self.calls.tidy();
        self.values.tidy();
        self.driver.tidy();
        self.timers.borrow_mut().tidy();
        shrink_list(&mut self.due.borrow_mut());
        if more {
            self.tidy_later();
        }
        self.note_memory();
    }

    /// Called every `TURNS_PER_NOTE` turns.
    #[cold]
    #[inline(never)]
    pub(crate) fn now_and_then(&self) {
        self.note_numbers();
        self.note_memory();
        self.tidy_if_due();
    }
}
