//! A loop's metrics, read on the loop itself or from another thread.

use std::time::Duration;

use super::{
    current::{self, Loop},
    handle::Handle,
    watch::{self, Memory, Metrics},
};
use crate::scheduler::timers::Due;

/// The running loop's metrics.
///
/// ```
/// corio_runtime::run(async {
///     let _task = corio_runtime::create_task(std::future::pending::<()>());
///     assert_eq!(corio_runtime::metrics().tasks, 2);
/// });
/// ```
///
/// # Panics
/// Outside a running loop.
pub fn metrics() -> Metrics {
    current::with(|lp| lp.watch.timed(Metrics { memory: lp.memory(), ..lp.numbers() }))
}

impl Handle {
    /// The loop's metrics, from any thread. For the running loop they are of now; for another loop, as of when it last
    /// went to sleep, or up to 1024 turns ago if it is busy; memory as of up to 1024 turns ago. All zero for a loop
    /// that has ended or not run yet.
    ///
    /// ```
    /// let (handle, turns) = corio_runtime::run(async {
    ///     let handle = corio_runtime::handle();
    ///     corio_runtime::time::sleep(std::time::Duration::from_millis(1)).await;
    ///     let there = std::thread::spawn(move || handle.metrics().turns);
    ///     (handle, there.join().unwrap())
    /// });
    /// assert!(turns > 0 && handle.metrics().turns == 0);
    /// ```
    pub fn metrics(&self) -> Metrics {
        if self.is_current() {
            return metrics();
        }
        watch::of(self.loop_id).unwrap_or_default()
    }
}

impl Loop {
    /// The metrics, without times and memory.
    #[inline(always)]
    fn numbers(&self) -> Metrics {
        let mut connections = 0;
        self.services.each(|service| connections += service.connections());
        Metrics {
            ring: self.driver.counters(),
            turns: self.watch.turns.get(),
            operations: self.operations(),
            tasks: self.tasks.live(),
            ready: self.tasks.ready.len(),
            timers: self.timers.borrow().armed(),
            buffers_available: self.driver.buffers_available(),
            connections,
            memory: Memory::default(),
            busy: Duration::ZERO,
            idle: Duration::ZERO,
        }
    }

    fn memory(&self) -> Memory {
        let (tasks_bytes, ready_bytes) = self.tasks.bytes();
        let mut services_bytes = 0;
        self.services.each(|service| services_bytes += service.bytes());
        Memory {
            tasks_bytes,
            ready_bytes,
            timers_bytes: self.timers.borrow().bytes() + self.due.borrow().capacity() * size_of::<Due>(),
            calls_bytes: self.calls.bytes() + self.values.bytes(),
            operations_bytes: self.driver.bytes(),
            services_bytes,
        }
    }

    /// Publishes the memory, now and then: it rarely changes.
    pub(crate) fn note_memory(&self) {
        self.watch.notes.write_memory(&self.memory());
    }

    /// Publishes the other numbers for other threads: before a sleep, and now and then.
    pub(crate) fn note_numbers(&self) {
        self.watch.notes.write(&self.numbers());
    }
}
