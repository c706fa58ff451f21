//! Gives memory back after a peak.
//!
//! A table that frees a slot compares how many are in use with a quarter of its capacity, and reports once that it is
//! far too large. Nothing else costs anything until then. A moment later, as the loop goes to sleep, or within a
//! thousand turns if it does not, the loop checks all tables: those that are still far too large shrink. So a load
//! that comes in bursts keeps its memory, and an idle loop is woken for nothing else.

use std::time::Duration;

use crate::{
    event_loop::{current, current::Loop},
    scheduler::slab::shrink_list,
};

/// From the first sign on.
const MOMENT: Duration = Duration::from_millis(100);

/// Something of the running loop holds far more memory than it uses. A moment later (100 ms) everything that has
/// grown in a peak is looked at, this loop's tables and all its services
/// ([`Service::tidy`](crate::service::Service::tidy)), and gives back what is not used: so memory that is needed
/// again at once stays. Without effect outside a running loop.
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
    /// Something is far too large.
    pub(crate) fn tidy_later(&self) {
        if !self.untidy.replace(true) {
            self.tidy_at.set(self.clock.after(MOMENT));
        }
    }

    /// Gives back what there is to give, if it is time for that: whether it was.
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
        self.driver.tidy();
        self.timers.borrow_mut().tidy();
        shrink_list(&mut self.due.borrow_mut());
        if more {
            self.tidy_later();
        }
        self.note_memory();
    }

    /// Once in a thousand turns.
    #[cold]
    #[inline(never)]
    pub(crate) fn now_and_then(&self) {
        self.note_numbers();
        self.note_memory();
        self.tidy_if_due();
    }
}
