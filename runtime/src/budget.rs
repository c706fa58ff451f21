//! The budget of a step: a task takes at most `RESULTS` results in one step that were ready at once.
//!
//! Another core, a thread or the kernel can keep a channel, a listener or a stream ready for as long as it likes. A
//! task that awaits one of them in a loop would never suspend, and the loop would never come to its timers, its I/O
//! and its other tasks. So each ready result of such a source counts. Once a step has taken `RESULTS` of them, the
//! next call wakes its own task and is pending: the task goes on in the next turn, as it would if the source were
//! slower.
//!
//! What the tasks of one loop give each other (`corio-sync`, joins, `create_future`) does not count, as in asyncio.
//! Futures that run side by side inside one task share its budget.
//!
//! There is no budget outside of a task's steps. An executor that runs inside a step, and polls again and again
//! instead of returning, is not held up for ever either: after `PATIENCE` refusals the step gets another budget.
//!
//! The start of a step costs nothing: the first call in a new step renews the budget. A stream, which each message
//! passes, only counts down, and looks which step it is in once the count is below zero ([`count`]).

use std::task::Context;

use crate::event_loop::{
    current::{self, Loop},
    step_budget::{LEFT, NO_STEP, STEP, Step, UNLIMITED},
};

/// Ready results that one step of a task takes at most; as many as in tokio.
const RESULTS: i32 = 128;
/// Refusals in one step, in which even a task of many parts would have come to its end.
const PATIENCE: i32 = 1024;

/// Whether the running step has taken its share of ready results: then the caller returns `Pending`, and its task,
/// which this has woken, goes on in the next turn. To be asked before anything is taken, with nothing borrowed: the
/// waker may be foreign code.
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

/// Counts one call, ready or not, and tells whether to ask [`is_over`]: the cheapest way, for what each message
/// passes. A step may so get what an earlier one has left, and then its own.
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

/// As [`is_used_up`], after a call that was counted; [`count`] has an example.
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
    // More than a whole budget counts as one.
    LEFT.set(LEFT.get().wrapping_sub(results.min(RESULTS as usize) as i32));
}

/// Whether nothing is left to the running step.
#[inline]
pub(crate) fn is_spent() -> bool {
    let Some(step) = current::peek(Loop::step) else {
        LEFT.set(UNLIMITED);
        return false;
    };
    // What runs between the steps has no part in theirs.
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
    // The kernel's news are among what it gives way to.
    current::peek(|lp| lp.next_look.set(0));
    cx.waker().wake_by_ref();
    true
}

impl Loop {
    /// Names the running step of a task.
    fn step(&self) -> Step {
        if self.tasks.in_step() { (self.watch.turns(), self.tasks.ready.left()) } else { NO_STEP }
    }
}
