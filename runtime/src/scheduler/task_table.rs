//! The task table: a task is a slot, and the ready queue (`ready.rs`) holds slot numbers.
//!
//! ```text
//!            create                    run (takes the future out)
//!   free ─────────────▶ queued ──────────────────────────────▶ running
//!    ▲                   ▲  ▲                                   │  │ │
//!    │ join/detach       │  └── requeue: woken while running ───┘  │ │
//!    │                   └───── wake ── idle ◀── pending ──────────┘ │
//!    └────────────────────── done ◀───────────── ready, panic, cancel┘
//! ```
//! No borrow of the table is held while foreign code runs: a future, a waker, a destructor, a callback. (The function
//! that `Arrivals::each` calls runs under a borrow, and must not call the table: see `Waking`.)

use std::{
    any::Any,
    cell::{Cell, RefCell, RefMut},
    future::Future,
    mem::{self, ManuallyDrop},
    panic::{self, AssertUnwindSafe, Location},
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, RawWakerVTable, Waker},
};

use crate::scheduler::{
    any_task::{BoxTask, Ending, Plain, Stage},
    catch_scopes::CatchScopes,
    ends::Ends,
    locals::Locals,
    loop_id::LoopId,
    ready::{Ready, ReadyQueue},
    slab::{NONE, Slab},
    task_error::{PanicPayload, TaskError},
    task_info::{TaskId, TaskInfo},
    task_key::{Outcome, TaskKey},
    task_slot::{Cancel, DoneCallback, Leftover, Slot, State},
    wake_key::{MAX_TASKS, WakeKey},
};

/// Polls the main future, which belongs to the caller of `run`.
pub(crate) type PollMain<'a> = &'a mut dyn FnMut(&mut Context<'_>);

/// No slot has this number.
pub(super) const MANY: u32 = NONE - 1;
/// Loops take task ids in blocks, so that creating a task costs no atomic operation.
const ID_BLOCK: u64 = 1 << 16;
static NEXT_ID_BLOCK: AtomicU64 = AtomicU64::new(0);

/// See the head of the file.
pub(crate) struct TaskTable {
    pub(super) home: LoopId,
    pub(super) wakers: &'static RawWakerVTable,
    pub(super) slots: RefCell<Slab<Slot>>,
    live: Cell<usize>,
    /// Live tasks that are cleanups.
    pub(super) cleanups: Cell<usize>,
    /// Task-locals outside any task; each main future passes its own on to the next.
    locals: RefCell<Option<Locals>>,
    pub(crate) ready: ReadyQueue,
    pub(super) current: Cell<u32>,
    /// Whether the main future can be cancelled outside a scope of `catch_cancel`.
    pub(super) cancels_main: Cell<bool>,
    /// This step is to drop the main future.
    pub(super) ends_main: Cell<bool>,
    /// The slot of the task that the running step has polled, which is not done: `NONE` for none, `MANY` for several.
    pub(super) joined: Cell<u32>,
    /// The next task id, and the end of this loop's block.
    ids: Cell<(u64, u64)>,
    pub(crate) ends: Ends,
    pub(crate) scopes: CatchScopes,
    /// The number of the latest request to cancel a task.
    pub(super) requests: Cell<u32>,
    /// The loop is ending: a task that ends late counts as a cleanup.
    pub(super) ending: Cell<bool>,
    /// Calls a waker that may be foreign code.
    pub(super) wake_foreign: fn(Waker),
}

/// A task that has just ended, and what its end sets off.
pub(crate) struct Ended {
    pub(crate) info: TaskInfo,
    pub(crate) joiner: Option<Waker>,
    pub(crate) callbacks: Vec<DoneCallback>,
    /// The task, if nobody will await it.
    pub(crate) unwanted: Option<BoxTask>,
    pub(crate) locals: Option<Locals>,
    pub(crate) outcome: Outcome,
}

impl TaskTable {
    /// The table of the loop `home`. `wakers` is the vtable of its tasks' wakers; `wake` calls any other waker;
    /// `far_too_large` is called when the table is.
    pub(crate) fn new(
        home: LoopId,
        wakers: &'static RawWakerVTable,
        wake: fn(Waker),
        far_too_large: fn(),
    ) -> TaskTable {
        TaskTable {
            home,
            wakers,
            slots: RefCell::new(Slab::new(far_too_large)),
            live: Cell::new(0),
            cleanups: Cell::new(0),
            locals: RefCell::new(None),
            ready: ReadyQueue::default(),
            current: Cell::new(NONE),
            cancels_main: Cell::new(false),
            ends_main: Cell::new(false),
            joined: Cell::new(NONE),
            ids: Cell::new((0, 0)),
            ends: Ends::new(wake, far_too_large),
            scopes: CatchScopes::new(far_too_large),
            requests: Cell::new(0),
            ending: Cell::new(false),
            wake_foreign: wake,
        }
    }

    pub(crate) fn create<K: Ending<F::Output>, F: Future + 'static>(
        &self,
        future: F,
        location: &'static Location<'static>,
    ) -> (TaskKey, TaskId) {
        let id = self.next_id();
        let key = self.insert(Some(Box::pin(Stage::<F, K>::Running { future })), id, location);
        self.ready.push(Ready::Task(key.slot));
        (key, id)
    }

    /// A task to be polled by `run_one` at once: it is not in the ready queue.
    pub(crate) fn create_eager<K: Ending<F::Output>, F: Future + 'static>(
        &self,
        future: F,
        location: &'static Location<'static>,
    ) -> (TaskKey, TaskId) {
        let id = self.next_id();
        (self.insert(Some(Box::pin(Stage::<F, K>::Running { future })), id, location), id)
    }

    /// A cleanup, which `cancel_all` can spare.
    pub(crate) fn create_cleanup<F: Future<Output = ()> + 'static>(
        &self,
        future: F,
        location: &'static Location<'static>,
    ) -> (TaskKey, TaskId) {
        let created = self.create::<Plain, F>(future, location);
        self.with(created.0, |slot| slot.cleanup = true);
        self.cleanups.set(self.cleanups.get() + 1);
        created
    }

    /// A task for the main future of `run`; `run_one` polls that by `main`. If it `can_cancel`, the run looks for a
    /// cancel itself.
    pub(crate) fn create_main(&self, can_cancel: bool, location: &'static Location<'static>) -> TaskKey {
        self.cancels_main.set(can_cancel);
        let key = self.insert(None, self.next_id(), location);
        self.ready.push(Ready::Task(key.slot));
        key
    }

    fn next_id(&self) -> TaskId {
        let (next, end) = self.ids.get();
        let (next, end) = if next < end {
            (next, end)
        } else {
            let block = NEXT_ID_BLOCK.fetch_add(1, Ordering::Relaxed) * ID_BLOCK;
            (block + 1, block + ID_BLOCK)
        };
        self.ids.set((next + 1, end));
        TaskId(next)
    }

    fn insert(&self, task: Option<BoxTask>, id: TaskId, location: &'static Location<'static>) -> TaskKey {
        let external = task.is_none();
        let mut slots = self.slots.borrow_mut();
        let (parent, locals) = match slots.get(self.current.get() as usize) {
            Some(creator) => (creator.id.0, creator.locals.clone()),
            None => (0, self.locals.borrow().clone()),
        };
        let (index, slot) = slots.take(|index, generation| {
            assert!((index as usize) < MAX_TASKS, "2^28 tasks are alive on one loop");
            Slot::free(WakeKey::new(self.home.index(), generation, index), generation, location)
        });
        // Field by field: a whole slot would be written twice.
        slot.state = State::Queued;
        slot.outcome = Outcome::Finished;
        slot.cancel = Cancel::No;
        slot.detached = false;
        slot.external = external;
        slot.cleanup = false;
        slot.requests = 0;
        slot.task = task;
        slot.id = id;
        slot.parent = parent;
        slot.location = location;
        slot.locals = locals;
        self.live.set(self.live.get() + 1);
        TaskKey { slot: index, generation: slot.generation }
    }

    pub(super) fn with<R>(&self, key: TaskKey, f: impl FnOnce(&mut Slot) -> R) -> Option<R> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(key.slot as usize)?;
        (slot.generation == key.generation && slot.state != State::Free).then(|| f(slot))
    }

    /// Number of tasks that are not done.
    pub(crate) fn live(&self) -> usize {
        self.live.get()
    }

    pub(crate) fn wake(&self, key: WakeKey) {
        self.waking().wake_key(key);
    }

    /// For waking several tasks.
    #[inline(always)]
    pub(crate) fn waking(&self) -> Waking<'_> {
        Waking { slots: self.slots.borrow_mut(), ready: self.ready.pushing(), wakers: self.wakers }
    }

    pub(super) fn wake_slot(&self, slot: &mut Slot, index: u32) {
        if slot.wake() {
            self.ready.push(Ready::Task(index));
        }
    }

    /// Number of live cleanups, which the end of `run` awaits and does not cancel.
    pub(crate) fn cleanups(&self) -> usize {
        self.cleanups.get()
    }

    /// The outcome; `None` while the task is not done.
    pub(crate) fn outcome(&self, key: TaskKey) -> Option<Outcome> {
        self.with(key, |slot| (slot.state == State::Done).then_some(slot.outcome)).flatten()
    }

    /// Whether a step of a task is running.
    pub(crate) fn in_step(&self) -> bool {
        self.current.get() != NONE
    }

    pub(crate) fn is_current(&self, key: TaskKey) -> bool {
        self.current.get() == key.slot && self.current() == Some(key)
    }

    pub(crate) fn current(&self) -> Option<TaskKey> {
        let index = self.current.get();
        let slots = self.slots.borrow();
        slots.get(index as usize).map(|slot| TaskKey { slot: index, generation: slot.generation })
    }

    pub(crate) fn info(&self, key: TaskKey) -> Option<TaskInfo> {
        self.with(key, |slot| slot.info(self.home, key.slot))
    }

    pub(crate) fn info_of(&self, slot: u32) -> Option<TaskInfo> {
        self.slots.borrow().get(slot as usize).map(|place| place.info(self.home, slot))
    }

    /// The task in this slot; in a free one, the last task.
    pub(crate) fn id_of(&self, slot: u32) -> Option<TaskId> {
        self.slots.borrow().get(slot as usize).map(|place| place.id)
    }

    /// The tasks that are not done.
    pub(crate) fn infos(&self) -> Vec<TaskInfo> {
        let slots = self.slots.borrow();
        let live = slots.iter().filter(|(_, s)| !matches!(s.state, State::Done | State::Free));
        live.map(|(index, slot)| slot.info(self.home, index)).collect()
    }

    /// Calls `f` with the task-locals of the running task.
    pub(crate) fn with_locals<R>(&self, f: impl FnOnce(&mut Option<Locals>) -> R) -> R {
        let mut slots = self.slots.borrow_mut();
        match slots.get_mut(self.current.get() as usize) {
            Some(slot) => f(&mut slot.locals),
            None => f(&mut self.locals.borrow_mut()),
        }
    }

    pub(crate) fn set_name(&self, key: TaskKey, name: String) {
        let old = self.with(key, |slot| slot.extra.get_or_insert_default().name.replace(name));
        drop(old);
    }

    /// Keeps `f` for the task's end; returns it if the task is done.
    pub(crate) fn add_done_callback(&self, key: TaskKey, f: DoneCallback) -> Result<(), DoneCallback> {
        let mut f = Some(f);
        self.with(key, |slot| {
            if slot.state != State::Done {
                slot.extra.get_or_insert_default().callbacks.extend(f.take());
            }
        });
        f.map_or(Ok(()), Err)
    }

    /// Moves the result into `place` if the task is done; else keeps `waker` for its end.
    pub(crate) fn join(&self, key: TaskKey, waker: &Waker, place: &mut dyn Any) -> Option<Outcome> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(key.slot as usize).filter(|s| s.generation == key.generation)?;
        if slot.state != State::Done {
            let known = slot.joiner.as_ref().is_some_and(|joiner| joiner.will_wake(waker));
            let old = if known { None } else { slot.joiner.replace(waker.clone()) };
            let again = [NONE, key.slot].contains(&self.joined.get());
            self.joined.set(if again { key.slot } else { MANY });
            drop(slots);
            drop(old);
            return None;
        }
        if slot.outcome == Outcome::Cancelled {
            return self.join_cancelled(slots, key, place);
        }
        self.take_result(slots, key, place)
    }

    #[cold]
    #[inline(never)]
    fn join_cancelled(
        &self,
        mut slots: RefMut<'_, Slab<Slot>>,
        key: TaskKey,
        place: &mut dyn Any,
    ) -> Option<Outcome> {
        if self.comes_back(&mut slots, key) {
            drop(slots);
            self.come_back();
            return None;
        }
        self.take_result(slots, key, place)
    }

    #[inline(always)]
    fn take_result(
        &self,
        mut slots: RefMut<'_, Slab<Slot>>,
        key: TaskKey,
        place: &mut dyn Any,
    ) -> Option<Outcome> {
        let slot = slots.get_mut(key.slot as usize)?;
        let (outcome, left) = (slot.outcome, slot.leave());
        self.free_slot(&mut slots, key.slot);
        drop(slots);
        if let Some(mut task) = left.task {
            task.as_mut().take(place);
        }
        Some(outcome)
    }

    /// Whether the task is done; if not, its end wakes `waker`.
    pub(crate) fn watch(&self, key: TaskKey, waker: &Waker) -> bool {
        let watched = self.with(key, |slot| {
            if slot.state == State::Done {
                return Ok(());
            }
            let known = slot.joiner.as_ref().is_some_and(|joiner| joiner.will_wake(waker));
            Err(if known { None } else { slot.joiner.replace(waker.clone()) })
        });
        match watched {
            Some(Err(old)) => {
                drop(old);
                false
            }
            Some(Ok(())) | None => true,
        }
    }

    /// Calls `f` with the result of a done task, an `Option<Result<Output, TaskError>>`.
    pub(crate) fn peek<R>(&self, key: TaskKey, f: impl FnOnce(&dyn Any) -> R) -> Option<R> {
        self.with(key, |slot| {
            (slot.state == State::Done).then(|| slot.task.as_ref()?.peek().map(f)).flatten()
        })
        .flatten()
    }

    /// The handle was dropped: the task continues, and its end frees the slot. If it has ended, returns what must be
    /// dropped.
    pub(crate) fn detach(&self, key: TaskKey) -> Option<Ended> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(key.slot as usize).filter(|s| s.generation == key.generation)?;
        if slot.state != State::Done {
            slot.detached = true;
            let joiner = slot.joiner.take();
            drop(slots);
            drop(joiner);
            return None;
        }
        let (info, outcome) = (slot.info(self.home, key.slot), slot.outcome);
        let Leftover { task: unwanted, locals } = slot.leave();
        self.free_slot(&mut slots, key.slot);
        Some(Ended { info, joiner: None, callbacks: Vec::new(), unwanted, locals, outcome })
    }

    /// Frees a slot, whose contents were taken.
    #[inline(always)]
    fn free_slot(&self, slots: &mut Slab<Slot>, index: u32) {
        slots.give_back(index as usize, |slot, next| {
            slot.empty(self.home, index, next);
            Some(())
        });
    }

    /// Polls one task, or drops its future if it was cancelled. If it has ended, the caller must call `end` at once.
    #[inline(always)]
    pub(crate) fn run_one(
        &self,
        index: u32,
        main: PollMain<'_>,
        make_waker: impl FnOnce(WakeKey) -> Waker,
    ) -> Option<(TaskKey, Outcome)> {
        let (mut task, waker, cancel) = {
            let mut slots = self.slots.borrow_mut();
            // The entry may be stale: the table may have shrunk.
            let slot = slots.get_mut(index as usize)?;
            if slot.state != State::Queued {
                return None;
            }
            slot.state = State::Running;
            (slot.task.take(), make_waker(slot.key), slot.cancel)
        };
        // The waker's destructor does nothing; this spares the call.
        let waker = ManuallyDrop::new(waker);
        let outer = self.current.replace(index);
        self.joined.set(NONE);
        let outcome = match &mut task {
            _ if cancel != Cancel::No => self.step_cancelled(&waker, &mut task, main),
            Some(task) => step(&waker, task),
            None => {
                step_main(&waker, main);
                None
            }
        };
        self.current.set(outer);
        self.settle(index, task, outcome)
    }

    /// Puts the task back into its slot.
    #[inline(always)]
    fn settle(
        &self,
        index: u32,
        task: Option<BoxTask>,
        outcome: Option<Outcome>,
    ) -> Option<(TaskKey, Outcome)> {
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots[index as usize];
        // The old value is `None`; `forget` spares the compiler's drop check.
        mem::forget(mem::replace(&mut slot.task, task));
        if let Some(outcome) = outcome {
            let key = TaskKey { slot: index, generation: slot.generation };
            if slot.cancel != Cancel::No && outcome == Outcome::Finished {
                drop(slots);
                return Some((key, self.overrule(key)));
            }
            return Some((key, outcome));
        }
        slot.awaits = self.joined.get();
        // A cancel is a wake, too.
        let again = slot.state == State::Woken;
        slot.state = if again { State::Queued } else { State::Idle };
        if again {
            if slot.cancel == Cancel::Sure {
                drop(slots);
                return self.settle_resumed(index);
            }
            self.ready.push(Ready::Task(index));
        }
        None
    }

    /// The end of a task, which is in its slot. Wakes a joiner of this table at once; otherwise returns what to
    /// announce.
    pub(crate) fn end(&self, key: TaskKey, outcome: Outcome) -> Option<Ended> {
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots[key.slot as usize];
        slot.state = State::Done;
        slot.outcome = outcome;
        self.live.set(self.live.get() - 1);
        self.cleanups.set(self.cleanups.get() - usize::from(slot.cleanup));
        let joiner = slot.joiner.take();
        // The common end: nothing but a joiner to wake.
        if !slot.detached && slot.extra.is_none() {
            if let Some(joiner) = joiner {
                let waking = Waking { slots, ready: self.ready.pushing(), wakers: self.wakers };
                return waking.wake_alone(joiner).and_then(|other| self.ended_for(key, other, outcome));
            }
            return None;
        }
        let info = slot.info(self.home, key.slot);
        let callbacks = slot.extra.as_mut().map(|e| mem::take(&mut e.callbacks)).unwrap_or_default();
        let detached = slot.detached;
        let mut left = Leftover::default();
        if detached {
            left = slot.leave();
            self.free_slot(&mut slots, key.slot);
        }
        let Leftover { task: unwanted, locals } = left;
        Some(Ended { info, joiner, callbacks, unwanted, locals, outcome })
    }

    /// The end of a task whose joiner's waker is not a task's of this table.
    #[cold]
    #[inline(never)]
    fn ended_for(&self, key: TaskKey, joiner: Waker, outcome: Outcome) -> Option<Ended> {
        let (info, joiner) = (self.info(key)?, Some(joiner));
        Some(Ended { info, joiner, callbacks: Vec::new(), unwanted: None, locals: None, outcome })
    }

    /// The main future is done: frees its slot.
    pub(crate) fn end_main(&self, key: TaskKey) {
        // Dropped after the borrow: their destructors are foreign code.
        let (mut _old, mut _left) = (None, Leftover::default());
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots[key.slot as usize];
        if slot.generation == key.generation && slot.external {
            self.live.set(self.live.get() - 1);
            slot.external = false;
            _old = self.locals.replace(slot.locals.take());
            _left = slot.leave();
            self.free_slot(&mut slots, key.slot);
        }
    }

    /// Frees memory after a peak.
    pub(crate) fn tidy(&self) {
        self.slots.borrow_mut().shrink();
        self.ready.tidy();
        self.ends.tidy();
        self.scopes.tidy();
    }

    /// Memory of the slots, and of the ready queue.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        (self.slots.borrow().bytes() + self.ends.bytes() + self.scopes.bytes(), self.ready.bytes())
    }

    /// Removes everything. The closing loop drops it.
    pub(crate) fn clear(&self) -> Vec<Box<dyn Any>> {
        let slots = self.slots.borrow_mut().take_all();
        self.live.set(0);
        self.ready.clear();
        let left = |slot: Slot| Box::new((slot.task, slot.joiner, slot.extra, slot.locals)) as Box<dyn Any>;
        let locals = Box::new(self.locals.take()) as Box<dyn Any>;
        let wakers = Box::new((self.ends.clear(), self.scopes.clear())) as Box<dyn Any>;
        slots.into_places().map(left).chain([locals, wakers]).collect()
    }
}

/// Wakes tasks of a table, under one borrow.
pub(crate) struct Waking<'a> {
    slots: RefMut<'a, Slab<Slot>>,
    ready: RefMut<'a, Vec<Ready>>,
    wakers: &'static RawWakerVTable,
}

impl Waking<'_> {
    /// `waker.wake()`, on a shorter path. Returns the waker if it is not of a task in this table.
    #[inline(always)]
    pub(crate) fn wake(&mut self, waker: Waker) -> Result<(), Waker> {
        if !WakeKey::of(&waker, self.wakers).is_some_and(|key| self.wake_key(key)) {
            return Err(waker);
        }
        // The waker's destructor does nothing; this spares the call.
        mem::forget(waker);
        Ok(())
    }

    /// As `wake`, for a single waker.
    #[inline(always)]
    fn wake_alone(mut self, waker: Waker) -> Option<Waker> {
        self.wake(waker).err()
    }

    /// `false` if no task in this table has this key.
    #[inline(always)]
    fn wake_key(&mut self, key: WakeKey) -> bool {
        let Some(slot) = self.slots.get_mut(key.slot()).filter(|slot| slot.key == key) else { return false };
        if slot.wake() {
            self.ready.push(Ready::Task(key.slot() as u32));
        }
        true
    }
}

impl Ended {
    /// The panic of a task that nobody will await.
    pub(crate) fn panic_message(&self) -> Option<String> {
        self.unwanted.as_ref().filter(|_| self.outcome == Outcome::Panicked)?.panic_message()
    }
}

#[inline(never)]
pub(super) fn step_main(waker: &Waker, main: PollMain<'_>) {
    main(&mut Context::from_waker(waker));
}

#[inline(always)]
pub(super) fn step(waker: &Waker, task: &mut BoxTask) -> Option<Outcome> {
    let polled =
        panic::catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(&mut Context::from_waker(waker))));
    match polled {
        Ok(false) => None,
        Ok(true) => Some(Outcome::Finished),
        Err(payload) => Some(panicked(task, payload)),
    }
}

#[cold]
#[inline(never)]
fn panicked(task: &mut BoxTask, payload: Box<dyn Any + Send>) -> Outcome {
    fail(task, TaskError::Panicked(PanicPayload::new(payload)), Outcome::Panicked)
}

/// Ends a task early. If a destructor panics, that is the task's result.
pub(super) fn fail(task: &mut BoxTask, error: TaskError, outcome: Outcome) -> Outcome {
    match panic::catch_unwind(AssertUnwindSafe(|| task.as_mut().fail(error))) {
        Ok(()) => outcome,
        Err(payload) => {
            let error = TaskError::Panicked(PanicPayload::new(payload));
            // The future is gone: the assignment replaces it even if its destructor panics.
            task.as_mut().fail(error);
            Outcome::Panicked
        }
    }
}
