//! Waiting for what endings leave behind: guards of the entries in `scheduler/ends.rs`, and dropped handles of tasks.

use std::task::{Context, Poll};

use crate::{
    event_loop::{
        current::{self, Loop},
        exceptions::ExceptionContext,
    },
    scheduler::{
        ends::{Current, EndsKey},
        homed::Homed,
        task_info::TaskState,
        task_key::TaskKey,
    },
};

/// Keeps an entry from being over until dropped.
pub(crate) struct Hold(Homed<EndsKey>);

impl Hold {
    /// A hold of the entry that is current on the loop.
    pub(crate) fn current(lp: &Loop) -> Option<Hold> {
        let key = lp.tasks.ends.current()?;
        lp.tasks.ends.hold(key);
        Some(Hold(lp.homed(key)))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.at_home(|lp, key| lp.tasks.ends.release(key));
    }
}

/// What a dropped future left behind. If this is dropped, who drops it waits instead.
#[derive(Debug)]
pub(crate) struct Leftovers(Homed<EndsKey>);

impl Leftovers {
    /// Calls `f`, which drops a future that is ended; `None` if nothing is left.
    pub(crate) fn of_ended(f: impl FnOnce()) -> Option<Leftovers> {
        Leftovers::collect(true, f)
    }

    /// Calls `f`, which drops a future for whatever reason.
    pub(crate) fn of_dropped(f: impl FnOnce()) -> Option<Leftovers> {
        Leftovers::collect(false, f)
    }

    #[inline]
    fn collect(ended: bool, f: impl FnOnce()) -> Option<Leftovers> {
        let mut f = Some(f);
        let collect = |lp: &Loop| {
            let key = lp.tasks.ends.collect(ended, f.take()?)?;
            Some(Leftovers(lp.homed(key)))
        };
        let left = current::try_with(collect).flatten();
        if let Some(f) = f {
            f();
        }
        left
    }

    /// Ready once all of it has ended.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let over = self.0.here(|lp, key| lp.tasks.ends.poll_over(key, cx));
        if over.unwrap_or(true) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Another entry waits for it, too.
    pub(crate) fn also(&self, outer: Homed<EndsKey>) {
        self.0.at_home(|lp, key| lp.tasks.ends.also(key, outer.on(lp.id())));
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        self.0.on_loop(|lp, key| lp.tasks.ends.abandon(key));
    }
}

/// Makes an entry the current one until dropped, if its loop is running.
pub(crate) struct EnteredEnds(Option<(Homed<EndsKey>, Current)>);

impl EnteredEnds {
    #[inline(always)]
    pub(crate) fn new(key: Option<Homed<EndsKey>>) -> EnteredEnds {
        let enter = |key: Homed<EndsKey>| key.peek(|lp, own| (key, lp.tasks.ends.enter(own)));
        EnteredEnds(key.and_then(enter))
    }
}

impl Drop for EnteredEnds {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some((key, outer)) = self.0 {
            // The usual case: its loop is running.
            if key.peek(|lp, _| lp.tasks.ends.back(outer)).is_none() {
                key.at_home(|lp, _| lp.tasks.ends.back(outer));
            }
        }
    }
}

impl Loop {
    /// The handle of a task is dropped. If somebody had begun to await it, the task is cancelled.
    #[inline(always)]
    pub(crate) fn detach(&self, key: TaskKey, awaited: bool) {
        if awaited {
            self.drop_awaited(key);
        }
        if let Some(ended) = self.tasks.detach(key) {
            self.announce(ended);
        }
    }

    #[cold]
    #[inline(never)]
    fn drop_awaited(&self, key: TaskKey) {
        let info = if self.debug.get() && !self.tasks.ends.is_ending() { self.tasks.info(key) } else { None };
        let cancelled = self.cancel_awaited(key);
        self.tasks.give_up_await(key);
        if let Some(info) = info.filter(|info| cancelled && info.state() != TaskState::Cancelling) {
            let text = "a task was cancelled, as its handle was dropped after it was awaited: `detach` lets it go on";
            self.exceptions.report(&ExceptionContext::new(text).with_task(Some(info)));
        }
    }

    /// Cancels a task; who ends what awaited it waits for its end, unless it is that task itself. `false` if it is
    /// done.
    pub(crate) fn cancel_awaited(&self, key: TaskKey) -> bool {
        let cancelled = self.tasks.cancel(key);
        if cancelled && !self.tasks.is_current(key) {
            self.hold_until_done(key);
        }
        cancelled
    }

    /// Who ends something now waits for the end of a task.
    pub(crate) fn hold_until_done(&self, key: TaskKey) {
        if let Some(hold) = Hold::current(self) {
            // Not kept if the task has ended.
            let _done = self.tasks.add_done_callback(key, Box::new(move |_| drop(hold)));
        }
    }
}
