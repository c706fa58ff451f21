//! Cancels of tasks: requesting, passing on, delivering.
//!
//! ```text
//!   requested ── the task awaits another ──▶ passed to that one ── it ends cancelled, or is given up ──▶ comes back
//!       └────── else ──▶ delivered in the task's next step
//!                           ├── a scope of `catch_cancel` takes it: the task goes on
//!                           └── else the future is dropped; the task ends once what that left behind has ended
//! ```

use std::task::{Context, Waker};

use crate::scheduler::{
    any_task::BoxTask,
    catch_scopes::ScopeKey,
    ready::Ready,
    slab::{NONE, Slab},
    task_error::TaskError,
    task_key::{Outcome, TaskKey},
    task_slot::{Cancel, Slot, State},
    task_table::{MANY, PollMain, TaskTable, fail, step, step_main},
    wake_key::WakeKey,
};

impl TaskTable {
    /// Cancels a task; `false` if it is done. The cancel of a task that awaits another is passed to that one.
    pub(crate) fn cancel(&self, key: TaskKey) -> bool {
        let (mut asked, mut wakers) = (false, Vec::new());
        {
            let mut slots = self.slots.borrow_mut();
            let mut next = Some(key);
            while let Some(at) = next.take() {
                // A circle of tasks that await each other ends where it began.
                let awaited = self.awaited(&slots, at).filter(|awaited| *awaited != key);
                let Some(slot) = live(&mut slots, at) else { break };
                // `run` alone ends its main future; `try_run` also if it is cancelled.
                if slot.external && !self.cancels_main.get() && slot.scopes().is_empty() {
                    break;
                }
                asked = true;
                slot.request_cancel(self.next_request());
                if awaited.is_some() {
                    slot.extra.get_or_insert_default().passed_to = awaited;
                    slot.cancel = Cancel::Passed;
                    next = awaited;
                    continue;
                }
                slot.cancel = if slot.cancel == Cancel::Sure { Cancel::Sure } else { Cancel::Asked };
                wakers = self.scopes.wakers(slot.scopes());
                self.wake_slot(slot, at.slot);
            }
        }
        wakers.into_iter().for_each(self.wake_foreign);
        asked
    }

    /// The number of the latest request to cancel a task of this loop: newer ones are greater, up to 2^31 later.
    #[inline(always)]
    pub(crate) fn latest_request(&self) -> u32 {
        self.requests.get()
    }

    fn next_request(&self) -> u32 {
        self.requests.set(self.requests.get().wrapping_add(1));
        self.requests.get()
    }

    /// Whether the running task has requests to cancel that are newer than that number.
    pub(crate) fn is_cancelled_since(&self, number: u32) -> bool {
        let is_requested = |slot: &mut Slot| slot.is_requested_since(number);
        number != self.requests.get()
            && self.current().and_then(|key| self.with(key, is_requested)).unwrap_or(false)
    }

    /// What is ended in this scope counts as cancelled, until the scope is left.
    pub(crate) fn count_ending(&self, scope: ScopeKey) {
        if let Some(task) = self.scopes.count(scope) {
            let number = self.next_request();
            self.with(task, |slot| slot.request_cancel(number));
        }
    }

    /// The only task that this one awaits, if that does not end already. Two cancels in a turn are one, so that it may
    /// have been asked to.
    fn awaited(&self, slots: &Slab<Slot>, key: TaskKey) -> Option<TaskKey> {
        let slot = slots.get(key.slot as usize).filter(|slot| slot.generation == key.generation)?;
        if slot.state != State::Idle || slot.cancel == Cancel::Sure {
            return None;
        }
        let inner = slots.get(slot.awaits as usize)?;
        let joiner = WakeKey::of(inner.joiner.as_ref()?, self.wakers)?;
        let free = inner.is_live() && inner.cancel != Cancel::Sure && !inner.detached;
        let awaited = free && joiner == slot.key;
        awaited.then_some(TaskKey { slot: slot.awaits, generation: inner.generation })
    }

    /// Whether the cancel of the running task was passed to this one, which has ended.
    #[cold]
    pub(super) fn comes_back(&self, slots: &mut Slab<Slot>, key: TaskKey) -> bool {
        let current = slots.get_mut(self.current.get() as usize);
        current.and_then(|slot| slot.extra.as_mut()?.passed_to.take_if(|passed| *passed == key)).is_some()
    }

    /// A task that was awaited is dropped. If the running task's cancel was passed to it, that cannot come back, and
    /// goes on now.
    pub(crate) fn give_up_await(&self, key: TaskKey) {
        let comes_back = self.comes_back(&mut self.slots.borrow_mut(), key);
        if comes_back {
            self.come_back();
        }
    }

    /// A cancel that was passed on comes back to the running task: the innermost scope takes it; if that is not being
    /// polled, it is delivered to all.
    #[cold]
    #[inline(never)]
    pub(super) fn come_back(&self) {
        let Some(key) = self.current() else { return };
        if !self.scopes.come_back(key) {
            self.with(key, |slot| {
                let caught = slot.cancel != Cancel::Sure && self.scopes.any_takes(slot.scopes());
                slot.cancel = if caught { Cancel::Asked } else { Cancel::Sure };
                self.wake_slot(slot, key.slot);
            });
        }
    }

    /// The cancels of a task that were requested and not taken back.
    pub(crate) fn cancelling(&self, key: TaskKey) -> usize {
        self.with(key, |slot| slot.requests.into()).unwrap_or(0)
    }

    /// Whether the main future is stepped to be dropped, as it was cancelled.
    #[inline(always)]
    pub(crate) fn ends_main(&self) -> bool {
        self.ends_main.get()
    }

    /// Whether a cancel of the task is not delivered yet, or was passed to a task from which it has taken no value.
    pub(crate) fn is_cancelled(&self, key: TaskKey) -> bool {
        let passed_to =
            |slot: &mut Slot| (slot.is_cancelled(), slot.extra.as_ref().and_then(|e| e.passed_to));
        self.with(key, passed_to).is_some_and(|(cancelled, passed)| {
            cancelled || passed.is_some_and(|passed| self.with(passed, |_| ()).is_some())
        })
    }

    /// Whether a task is about to end, or a cleanup is running.
    pub(crate) fn is_cleaning_up(&self) -> bool {
        let ends = |slot: &Slot| slot.is_live() && slot.is_cancelled();
        self.cleanups() > 0 || self.slots.borrow().iter().any(|(_, slot)| ends(slot))
    }

    /// Takes a request back, and returns how many are left. The last one takes back a cancel that was not delivered.
    pub(crate) fn uncancel(&self, key: TaskKey) -> usize {
        self.with(key, |slot| {
            let left = slot.uncancel();
            if left == 0 && slot.cancel == Cancel::Asked {
                slot.cancel = Cancel::No;
            }
            left.into()
        })
        .unwrap_or(0)
    }

    /// The running task goes on with a cancel that it has caught: the innermost scope takes it, else the task ends.
    pub(crate) fn resume(&self) {
        let Some(key) = self.current() else { return };
        if !self.scopes.resume(key) {
            self.with(key, |slot| {
                slot.cancel = Cancel::Sure;
                self.wake_slot(slot, key.slot);
            });
        }
    }

    /// Drops a task's future at once; the task ends in the next turn. `false` if the task can only be cancelled: it is
    /// running, in a scope of `catch_cancel`, or ending already.
    pub(crate) fn drop_future(&self, key: TaskKey) -> bool {
        let idle = |slot: &mut Slot| {
            let bound = !slot.scopes().is_empty() || slot.is_ending();
            (slot.is_suspended() && !bound).then(|| slot.task.take())
        };
        let Some(Some(mut task)) = self.with(key, idle).flatten() else { return false };
        // Its destructors and cleanups are in its own context, as they are when it is cancelled.
        let outer = self.current.replace(key.slot);
        fail(&mut task, TaskError::Cancelled, Outcome::Cancelled);
        self.current.set(outer);
        self.with(key, |slot| {
            slot.task = Some(task);
            slot.request_cancel(self.next_request());
            slot.cancel = Cancel::Sure;
            self.wake_slot(slot, key.slot);
        });
        true
    }

    /// Cancels all tasks but cleanups; with `late` these too, and no scope takes it.
    pub(crate) fn cancel_all(&self, late: bool) {
        self.ending.set(true);
        let mut wakers = Vec::new();
        {
            let mut slots = self.slots.borrow_mut();
            for (index, slot) in slots.iter_mut() {
                if slot.is_live() && (late || !slot.cleanup) {
                    if !slot.is_cancelled() {
                        slot.request_cancel(self.next_request());
                    }
                    let sure = late || slot.cancel == Cancel::Sure;
                    slot.cancel = if sure { Cancel::Sure } else { Cancel::Asked };
                    wakers.extend(self.scopes.wakers(slot.scopes()));
                    self.wake_slot(slot, index);
                }
            }
        }
        wakers.into_iter().for_each(self.wake_foreign);
    }

    /// A step of a task that was cancelled.
    #[cold]
    #[inline(never)]
    pub(super) fn step_cancelled(
        &self,
        waker: &Waker,
        task: &mut Option<BoxTask>,
        main: PollMain<'_>,
    ) -> Option<Outcome> {
        let key = self.current()?;
        if self.with(key, |slot| slot.is_ending()).unwrap_or(false) {
            return self.await_ends(key, waker);
        }
        let step = |task: &mut Option<BoxTask>, main: PollMain<'_>| match task {
            Some(task) => step(waker, task),
            None => {
                step_main(waker, main);
                None
            }
        };
        if self.with(key, |slot| slot.cancel.take_passed()).unwrap_or(false) {
            let outcome = step(task, main);
            self.look_after_passed(key);
            return outcome;
        }
        if self.with(key, begin_delivery).unwrap_or(false) {
            let (outcome, taken) = self.scopes.deliver(key, || step(task, &mut *main));
            if taken {
                self.note_late(key);
                return outcome;
            }
            // It ends the task now, and wins over a value.
            self.with(key, |slot| slot.cancel = Cancel::Sure);
            if outcome.is_some() {
                return outcome;
            }
        }
        let Some(task) = task else {
            self.ends_main.set(true);
            step_main(waker, main);
            self.ends_main.set(false);
            return None;
        };
        self.drop_cancelled(key, task).or_else(|| self.await_ends(key, waker))
    }

    /// Drops the task's future. `None` if that leaves something behind.
    fn drop_cancelled(&self, key: TaskKey, task: &mut BoxTask) -> Option<Outcome> {
        let mut outcome = Outcome::Cancelled;
        let ends = self.ends.collect(true, || outcome = fail(task, TaskError::Cancelled, Outcome::Cancelled));
        if ends.is_none() {
            return Some(outcome);
        }
        self.with(key, |slot| {
            (slot.cancel, slot.outcome) = (Cancel::Sure, outcome);
            slot.extra.get_or_insert_default().ends = ends;
        });
        None
    }

    /// The step has ended in going on with a cancel that was caught: the task ends at once, as by an exception; or
    /// its next step awaits what is left behind. (A main future ends in that step.)
    #[cold]
    #[inline(never)]
    pub(super) fn settle_resumed(&self, index: u32) -> Option<(TaskKey, Outcome)> {
        let outer = self.current.replace(index);
        let key = self.current()?;
        let open = |slot: &mut Slot| if slot.is_ending() { None } else { slot.task.take() };
        let mut task = self.with(key, open).flatten();
        let outcome = task.as_mut().and_then(|task| self.drop_cancelled(key, task));
        if task.is_some() {
            self.with(key, |slot| slot.task = task);
        }
        self.current.set(outer);
        if outcome.is_none() {
            self.ready.push(Ready::Task(index));
        }
        Some((key, outcome?))
    }

    /// After a step of a task whose cancel was passed on: it comes back if the other task is not awaited any more,
    /// unless the step took a value from it.
    fn look_after_passed(&self, key: TaskKey) {
        let joined = self.joined.get();
        let gives_up = {
            let mut slots = self.slots.borrow_mut();
            let passed = live(&mut slots, key).and_then(|slot| slot.extra.as_ref()?.passed_to);
            let Some(passed) = passed else { return };
            let inner = slots.get(passed.slot as usize).filter(|inner| inner.generation == passed.generation);
            let kept = inner.is_some();
            let awaited = inner.is_some_and(|inner| !inner.detached) && [passed.slot, MANY].contains(&joined);
            let Some(slot) = live(&mut slots, key) else { return };
            if awaited && slot.cancel == Cancel::No {
                slot.cancel = Cancel::Passed;
            } else if let Some(extra) = &mut slot.extra {
                extra.passed_to = None;
            }
            kept && !awaited
        };
        if gives_up {
            self.come_back();
        }
    }

    /// The future was dropped: the task ends once what that left behind has ended.
    fn await_ends(&self, key: TaskKey, waker: &Waker) -> Option<Outcome> {
        let (ends, outcome) =
            self.with(key, |slot| Some((slot.extra.as_ref()?.ends?, slot.outcome))).flatten()?;
        if self.ends.poll_over(ends, &Context::from_waker(waker)) {
            self.ends.close(ends);
            return Some(outcome);
        }
        self.note_late(key);
        None
    }

    /// The end of the loop waits for a task that does not end at once as for a cleanup.
    fn note_late(&self, key: TaskKey) {
        if self.ending.get()
            && self.with(key, |slot| !std::mem::replace(&mut slot.cleanup, true)) == Some(true)
        {
            self.cleanups.set(self.cleanups.get() + 1);
        }
    }

    /// The last step of a task was cancelled, or cancelled it: this wins over its value.
    #[cold]
    #[inline(never)]
    pub(super) fn overrule(&self, key: TaskKey) -> Outcome {
        let Some(Some(mut task)) = self.with(key, |slot| slot.task.take()) else { return Outcome::Finished };
        let outcome = if task.has_value() {
            fail(&mut task, TaskError::Cancelled, Outcome::Cancelled)
        } else {
            Outcome::Finished
        };
        self.with(key, |slot| slot.task = Some(task));
        outcome
    }

    /// Calls `f`, which steps another task, apart from what the running one does.
    pub(crate) fn apart<R>(&self, f: impl FnOnce() -> R) -> R {
        let (ends, joined) = (self.ends.leave(), self.joined.replace(NONE));
        let result = self.scopes.apart(f);
        self.joined.set(joined);
        self.ends.back(ends);
        result
    }

    /// The running task enters a scope of `catch_cancel`, or one `around` what was ended; `None` outside a task.
    pub(crate) fn enter_catch(&self, around: bool) -> Option<ScopeKey> {
        let task = self.current()?;
        let scope = self.scopes.enter(task, around);
        self.with(task, |slot| self.add_scope(slot, scope));
        Some(scope)
    }

    /// The scope is over, or dropped.
    pub(crate) fn leave_catch(&self, scope: ScopeKey) {
        if let Some(left) = self.scopes.leave(scope) {
            self.with(left.task, |slot| {
                self.remove_scope(slot, left.place);
                if left.counted {
                    slot.uncancel();
                }
            });
        }
    }

    /// A scope of the running task takes a cancel: every wait for a task to which it was passed is over.
    pub(crate) fn take_cancel(&self) {
        self.scopes.took();
        let forget = |slot: &mut Slot| slot.extra.as_mut().map(|extra| extra.passed_to = None);
        self.current().and_then(|task| self.with(task, forget));
    }

    /// The scope is polled in the running task, perhaps in another place than before.
    pub(crate) fn move_catch(&self, scope: ScopeKey) {
        let Some(task) = self.current() else { return };
        if let Some((former, place)) = self.scopes.put(scope, task) {
            self.with(former, |slot| self.remove_scope(slot, place));
            self.with(task, |slot| self.add_scope(slot, scope));
        }
    }

    fn add_scope(&self, slot: &mut Slot, scope: ScopeKey) {
        let scopes = &mut slot.extra.get_or_insert_default().scopes;
        scopes.push(scope);
        self.scopes.set_place(scope, scopes.len() - 1);
    }

    /// Removes the scope in this place; the last one takes the place.
    fn remove_scope(&self, slot: &mut Slot, place: usize) {
        let Some(scopes) = slot.extra.as_mut().map(|extra| &mut extra.scopes) else { return };
        if place < scopes.len() {
            scopes.swap_remove(place);
        }
        if let Some(moved) = scopes.get(place) {
            self.scopes.set_place(*moved, place);
        }
    }

    /// Lets the scopes that `poll` reaches take a cancel of the running task; the scope `around` is the innermost one
    /// for what they resume. Returns what `poll` gave, whether a scope took the cancel, and whether it was resumed.
    pub(crate) fn deliver_inside<R>(
        &self,
        around: ScopeKey,
        poll: impl FnOnce() -> R,
    ) -> Option<(R, bool, bool)> {
        let task = self.current()?;
        let wakers = self.with(task, |slot| self.scopes.wakers(slot.scopes()))?;
        wakers.into_iter().for_each(self.wake_foreign);
        let (result, taken) = self.scopes.deliver(task, || self.scopes.poll_within(around, poll));
        Some((result, taken, self.scopes.take_resumed(around)))
    }

    /// Whether a scope of `catch_cancel` may be inside what the running task polls.
    pub(crate) fn may_catch(&self) -> bool {
        let inside = |key| self.with(key, |slot| self.scopes.may_be_inside(key, slot.scopes()));
        !self.scopes.is_empty() && self.current().and_then(inside).unwrap_or(false)
    }
}

fn live(slots: &mut Slab<Slot>, key: TaskKey) -> Option<&mut Slot> {
    let slot = slots.get_mut(key.slot as usize)?;
    (slot.generation == key.generation && slot.is_live()).then_some(slot)
}

/// Whether scopes may take the cancel; a request of the step itself is then another one.
fn begin_delivery(slot: &mut Slot) -> bool {
    let catches = slot.cancel == Cancel::Asked && !slot.scopes().is_empty();
    if catches {
        slot.cancel = Cancel::No;
    }
    catches
}
