//! Callbacks on the loop: `call_soon`, `call_later`, `call_at`.

use std::{cell::Cell, fmt, panic::Location};

use crate::{
    event_loop::current,
    scheduler::{
        calls::{CallKey, Place},
        homed::Homed,
        timers::{Due, NEVER, TimerKey},
    },
    time::{Duration, Instant, now},
};

/// Calls `f` in the next turn, after everything that is already queued (asyncio `loop.call_soon`).
///
/// A panic of `f` goes to the exception handler, with the place of this call.
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// corio_runtime::run(async {
///     let called = Rc::new(Cell::new(false));
///     let flag = called.clone();
///     corio_runtime::call_soon(move || flag.set(true));
///     assert!(!called.get());
///     corio_runtime::yield_now().await;
///     assert!(called.get());
/// });
/// ```
///
/// ```compile_fail,E0277
/// // LOOP-24: a future is no function; `create_task` takes it.
/// corio_runtime::run(async { corio_runtime::call_soon(async {}); });
/// ```
///
/// # Panics
/// Outside a running loop.
#[track_caller]
pub fn call_soon(f: impl FnOnce() + 'static) -> CallHandle {
    let place = Some(Location::caller());
    current::with(|lp| {
        let key = lp.call_now(Box::new(f), place);
        CallHandle { key: lp.homed(key), cancelled: Cell::new(false) }
    })
}

/// Calls `f` after `delay`, never earlier (asyncio `loop.call_later`).
///
/// ```compile_fail,E0308
/// // LOOP-05: a delay is a duration.
/// corio_runtime::run(async { corio_runtime::call_later(None, || ()); });
/// ```
///
/// # Panics
/// Outside a running loop.
#[track_caller]
pub fn call_later(delay: Duration, f: impl FnOnce() + 'static) -> TimerHandle {
    timer(now().checked_add(delay), f, Some(Location::caller()))
}

/// Calls `f` at the time `at`, or in the next turn if that has passed (asyncio `loop.call_at`). Callbacks with equal
/// times run in the order of the calls.
///
/// # Panics
/// Outside a running loop.
#[track_caller]
pub fn call_at(at: Instant, f: impl FnOnce() + 'static) -> TimerHandle {
    timer(Some(at), f, Some(Location::caller()))
}

#[track_caller]
fn timer(at: Option<Instant>, f: impl FnOnce() + 'static, place: Place) -> TimerHandle {
    current::with(|lp| {
        let key = lp.calls.insert(Box::new(f), place);
        let deadline = at.map_or(NEVER, |at| lp.clock.to_ns(at));
        let timer = lp.timers.borrow_mut().insert(deadline, Due::Call(key.slot));
        let call = CallHandle { key: lp.homed(key), cancelled: Cell::new(false) };
        TimerHandle { call, timer: lp.homed(timer), at }
    })
}

/// A scheduled callback. Dropping the handle does not cancel it.
pub struct CallHandle {
    key: Homed<CallKey>,
    cancelled: Cell<bool>,
}

impl CallHandle {
    /// Cancels the callback, if it has not been called.
    pub fn cancel(&self) {
        if !self.cancelled.replace(true) {
            self.key.on_loop(|lp, key| drop(lp.calls.cancel(key)));
        }
    }

    /// Whether `cancel` was called.
    pub fn cancelled(&self) -> bool {
        self.cancelled.get()
    }
}

impl fmt::Debug for CallHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallHandle").field("cancelled", &self.cancelled()).finish_non_exhaustive()
    }
}

/// A callback with a timer. Dropping the handle does not cancel it.
pub struct TimerHandle {
    call: CallHandle,
    timer: Homed<TimerKey>,
    at: Option<Instant>,
}

impl TimerHandle {
    /// Cancels the callback, if it has not been called, and frees its timer.
    pub fn cancel(&self) {
        if self.call.cancelled() {
            return;
        }
        self.call.cancel();
        self.timer.on_loop(|lp, timer| {
            // Only a timer that has not fired still refers to the callback's slot.
            if let Some(Due::Call(slot)) = lp.remove_timer(timer) {
                lp.calls.take(slot);
            }
        });
    }

    /// Whether `cancel` was called.
    pub fn cancelled(&self) -> bool {
        self.call.cancelled()
    }

    /// When the callback is due; `None` if the time overflows: never.
    pub fn when(&self) -> Option<Instant> {
        self.at
    }
}

impl fmt::Debug for TimerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cancelled = self.cancelled();
        f.debug_struct("TimerHandle").field("when", &self.at).field("cancelled", &cancelled).finish()
    }
}
