//! What a loop counts.

use crate::{current, ring::RingCounters};

/// Numbers of one loop at one moment. Reading them costs nothing while nobody does.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Metrics {
    /// What the ring counted since the loop was made.
    pub ring: RingCounters,
    /// Operations that the kernel owns, the loop's own wake-up read included.
    pub operations: usize,
    /// Tasks that are not done, the main one included.
    pub tasks: usize,
    /// Tasks and callbacks that are ready to run.
    pub ready: usize,
    /// Timers that have not fired.
    pub timers: usize,
    /// Receive buffers of the pool that are free.
    pub buffers_available: usize,
}

/// The running loop's numbers.
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
    current::with(|lp| Metrics {
        ring: lp.driver.counters(),
        operations: lp.driver.in_flight(),
        tasks: lp.tasks.live(),
        ready: lp.tasks.ready.borrow().len(),
        timers: lp.timers.borrow().armed(),
        buffers_available: lp.driver.buffers_available(),
    })
}
