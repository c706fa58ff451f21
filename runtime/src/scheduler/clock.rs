//! The loop's clock, real or virtual, in nanoseconds. It begins one day before the loop was made.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

/// A real clock begins this long before the loop, so that past deadlines keep their order.
const PAST: Duration = Duration::from_secs(24 * 3600);

/// A monotonic clock. The simulator's stands still while the loop is awake.
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

    /// The deadline `duration` from now. Beyond 584 years it never comes.
    pub(crate) fn after(&self, duration: Duration) -> u64 {
        self.now_ns().saturating_add(nanos(duration))
    }

    /// Advances a virtual clock; no effect on a real one.
    pub(crate) fn advance_to(&self, at_ns: u64) {
        if let Some(now) = &self.virtual_ns {
            now.set(now.get().max(at_ns));
        }
    }

    /// The inverse of `to_ns`; `None` for never.
    pub(crate) fn to_instant(&self, ns: u64) -> Option<Instant> {
        if ns == u64::MAX { None } else { self.base.checked_add(Duration::from_nanos(ns)) }
    }

    /// A deadline in nanoseconds of this clock: 0 for the past, `u64::MAX` (never) beyond 584 years.
    pub(crate) fn to_ns(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.base))
    }
}

/// Nanoseconds, at most `u64::MAX`.
pub(crate) fn nanos(d: Duration) -> u64 {
    d.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(d.subsec_nanos()))
}
