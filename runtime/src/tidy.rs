//! The memory of a peak goes back.
//!
//! A table that gets a place back compares how many are in use with a quarter of what it has room for, and says once
//! that it has become far too large. That is all that it costs while nothing is. A moment later, as the loop goes to
//! sleep, or in a thousand turns if it does not, it looks at all that has grown: what is still far too large then
//! shrinks. So a load that comes in bursts keeps its memory, and an idle loop is not woken but for this.

use std::time::Duration;

use crate::{current::Loop, scheduler::slab::shrink_list};

/// From the first sign on.
const MOMENT: Duration = Duration::from_millis(100);

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
