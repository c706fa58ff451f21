//! The loop's clock: nanoseconds since a day before the loop was made, real or virtual.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

/// A real clock begins this long before the loop, so that deadlines in the past keep their order.
const PAST: Duration = Duration::from_secs(24 * 3600);

/// A monotonic clock. Under the simulator it stands still until the loop sleeps.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    base: Instant,
    virtual_ns: Option<Rc<Cell<u64>>>,
}

impl Clock {
    pub(crate) fn real() -> Clock {
        let now = Instant::now();
        Clock { base: now.checked_sub(PAST).unwrap_or(now), virtual_ns: None }
    }

    pub(crate) fn simulated() -> Clock {
        Clock { base: Instant::now(), virtual_ns: Some(Rc::new(Cell::new(0))) }
    }

    pub(crate) fn is_real(&self) -> bool {
        self.virtual_ns.is_none()
    }

    pub(crate) fn now_ns(&self) -> u64 {
        match &self.virtual_ns {
            Some(now) => now.get(),
            None => nanos(self.base.elapsed()),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        match &self.virtual_ns {
            Some(now) => self.base + Duration::from_nanos(now.get()),
            None => Instant::now(),
        }
    }

    /// The deadline `duration` from now; beyond 584 years it never comes.
    pub(crate) fn after(&self, duration: Duration) -> u64 {
        self.now_ns().saturating_add(nanos(duration))
    }

    /// Moves a virtual clock forward; a real one moves by itself.
    pub(crate) fn advance_to(&self, at_ns: u64) {
        if let Some(now) = &self.virtual_ns {
            now.set(now.get().max(at_ns));
        }
    }

    /// The other way round; `None` for never.
    pub(crate) fn to_instant(&self, ns: u64) -> Option<Instant> {
        if ns == u64::MAX { None } else { self.base.checked_add(Duration::from_nanos(ns)) }
    }

    /// A deadline in the clock's terms: 0 for the past, `u64::MAX` (never) beyond 584 years.
    pub(crate) fn to_ns(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.base))
    }
}

/// At most `u64::MAX`.
pub(crate) fn nanos(d: Duration) -> u64 {
    d.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(d.subsec_nanos()))
}
