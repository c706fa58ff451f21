//! A flag that tasks wait for (asyncio `Event`).

use std::{cell::Cell, fmt};

use crate::waiters::Waiters;

/// A flag that any number of tasks wait for (asyncio `Event`).
///
/// [`set`](Event::set) wakes all waiting tasks in the order of arrival, even if the flag is cleared before they run.
///
/// ```
/// # futures::executor::block_on(async {
/// let event = corio_sync::Event::new();
/// event.set();
/// event.wait().await;
/// event.clear();
/// assert!(!event.is_set());
/// # });
/// ```
#[doc(alias = "Notify")]
pub struct Event {
    set: Cell<bool>,
    waiters: Waiters,
}

impl Event {
    /// An unset flag.
    pub const fn new() -> Event {
        Event { set: Cell::new(false), waiters: Waiters::new() }
    }

    /// Sets the flag, and wakes all waiting tasks.
    pub fn set(&self) {
        if !self.set.replace(true) {
            self.waiters.grant_all();
        }
    }

    /// Clears the flag: later calls of `wait` wait.
    pub fn clear(&self) {
        self.set.set(false);
    }

    /// Whether the flag is set.
    pub fn is_set(&self) -> bool {
        self.set.get()
    }

    /// Waits until the flag is set; returns at once, without a turn of the loop, if it is. Dropping the future has no
    /// effect.
    pub async fn wait(&self) {
        if !self.is_set() {
            self.waiters.wait(|| ()).await;
        }
    }
}

impl Default for Event {
    fn default() -> Event {
        Event::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_set() { "set" } else { "unset" };
        match self.waiters.waiting() {
            0 => write!(f, "<Event [{state}]>"),
            waiters => write!(f, "<Event [{state}, waiters:{waiters}]>"),
        }
    }
}
