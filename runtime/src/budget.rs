//! The budget of a step: one poll of a task gets at most `RESULTS` results that were ready at once.
//!
//! Another core, a thread or the kernel can keep a channel, a listener or a stream ready for any length of time. A task
//! that awaits one of them in a loop would never suspend, and would starve the loop's timers, I/O and other tasks. So
//! each ready result of such a source counts. After `RESULTS` of them in a step, the next call wakes its own task and
//! is pending: the task continues in the next turn, as if the source were slower.
//!
//! Results between tasks of one loop (`corio-sync`, joins, `create_future`) do not count, as in asyncio. Concurrent
//! futures in one task share its budget.
//!
//! Outside a task's steps there is no budget. An executor that runs inside a step, and keeps polling instead of
//! returning, is not stuck for ever either: after `PATIENCE` refusals the step gets a new budget.
//!
//! The start of a step costs nothing: the first call in a new step renews the budget. Streams are on the path of every
//! message: they only count down, and compare the step once the count is below zero ([`count`]).

use std::task::Context;

use crate::event_loop::{
    current::{self, Loop},
    step_budget::{LEFT, NO_STEP, STEP, Step, UNLIMITED},
};

/// Ready results per step of a task, as in tokio.
const RESULTS: i32 = 128;
/// Refusals per step before it gets a new budget; enough for a task of many futures to return.
const PATIENCE: i32 = 1024;

/// Whether the running step has used up its budget. If so, the task was woken, and the caller returns `Pending`; the
/// task continues in the next turn. Call it before taking anything, with nothing borrowed: the waker may be foreign
/// code.
///
/// ```
/// use corio_runtime::{budget, run};
/// use std::{future::poll_fn, task::Poll};
/// let ready = || poll_fn(|cx| {
///     if budget::is_used_up(cx) {
///         return Poll::Pending;
///     }
///     budget::spend(1);
///     Poll::Ready(())
/// });
/// let turns = |results: usize| run(async move {
///     let before = corio_runtime::metrics().turns;
///     for _ in 0..results {
///         ready().await;
///     }
///     corio_runtime::metrics().turns - before
/// });
/// assert_eq!([turns(128), turns(129), turns(300)], [0, 1, 2]);
/// ```
#[inline(always)]
pub fn is_used_up(cx: &Context<'_>) -> bool {
    is_spent() && refuse(cx)
}

/// Counts one call, ready or not; returns whether to call [`is_over`]. This is the cheapest check, for the path of
/// every message. A step may first use up what an earlier step has left, and then its own budget.
///
/// ```
/// use corio_runtime::{budget, run};
/// use std::{future::poll_fn, task::Poll};
/// let ready = || poll_fn(|cx| {
///     if budget::count() && budget::is_over(cx) { Poll::Pending } else { Poll::Ready(()) }
/// });
/// let turns = run(async {
///     let before = corio_runtime::metrics().turns;
///     for _ in 0..1000 {
///         ready().await;
///     }
///     corio_runtime::metrics().turns - before
/// });
/// assert!((3..=7).contains(&turns), "{turns}");
/// ```
#[inline(always)]
pub fn count() -> bool {
    LEFT.set(LEFT.get().wrapping_sub(1));
    LEFT.get() < 0
}

/// As [`is_used_up`], after a call that [`count`] counted; see the example there.
#[cold]
#[inline(never)]
pub fn is_over(cx: &Context<'_>) -> bool {
    if is_spent() {
        return refuse(cx);
    }
    spend(1);
    false
}

/// Counts `results` that were ready; [`is_used_up`] has an example.
#[inline(always)]
pub fn spend(results: usize) {
    // More than a whole budget counts as one budget.
    LEFT.set(LEFT.get().wrapping_sub(results.min(RESULTS as usize) as i32));
}

/// Whether the running step has used up its budget.
#[inline]
pub(crate) fn is_spent() -> bool {
    let Some(step) = current::peek(Loop::step) else {
        LEFT.set(UNLIMITED);
        return false;
    };
    // Code between steps has no budget.
    if step == NO_STEP {
        LEFT.set(0);
        return false;
    }
    if STEP.replace(step) != step {
        LEFT.set(RESULTS);
    }
    LEFT.get() <= 0
}

#[cold]
#[inline(never)]
fn refuse(cx: &Context<'_>) -> bool {
    let left = LEFT.get();
    if left <= -PATIENCE {
        LEFT.set(RESULTS);
        return false;
    }
    LEFT.set(left - 1);
    // The ring is checked soon: its completions may wait, too.
    current::peek(|lp| lp.next_look.set(0));
    cx.waker().wake_by_ref();
    true
}

impl Loop {
    /// Identifies the running step of a task.
    fn step(&self) -> Step {
        if self.tasks.in_step() { (self.watch.turns(), self.tasks.ready.left()) } else { NO_STEP }
    }
}
