//! A slot of the task table: a task, or free.

use std::{panic::Location, task::Waker};

use super::{
    any_task::BoxTask,
    catch_scopes::ScopeKey,
    ends::EndsKey,
    homed::Homed,
    locals::Locals,
    loop_id::LoopId,
    slab::{NONE, Place},
    task_info::{TaskId, TaskInfo, TaskState},
    task_key::{Outcome, TaskKey},
    wake_key::WakeKey,
};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum State {
    Idle,
    Queued,
    Running,
    /// Running, and woken since it began.
    Woken,
    Done,
    Free,
}

/// Whether a task is to end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum Cancel {
    No,
    /// It was passed on to the awaited task; the next steps look whether that is still awaited.
    Passed,
    /// A scope of `catch_cancel` may take it.
    Asked,
    /// No scope takes it.
    Sure,
}

impl Cancel {
    /// Whether it was passed on; now it is not.
    pub(super) fn take_passed(&mut self) -> bool {
        let passed = *self == Cancel::Passed;
        if passed {
            *self = Cancel::No;
        }
        passed
    }
}

pub(super) struct Slot {
    /// The key in its wakers.
    pub(super) key: WakeKey,
    pub(super) generation: u32,
    pub(super) next_free: u32,
    pub(super) state: State,
    pub(super) outcome: Outcome,
    pub(super) cancel: Cancel,
    pub(super) detached: bool,
    /// The main future of `run`, which lives on the caller's stack and not in the table.
    pub(super) external: bool,
    /// A cleanup of `with_cleanup`: the end of `run` waits for it.
    pub(super) cleanup: bool,
    /// Cancels that were requested and not taken back.
    pub(super) requests: u16,
    /// The number of the latest of them.
    latest: u32,
    /// The slot of the task that its last step has polled, if that was the only one; else `NONE`.
    pub(super) awaits: u32,
    pub(super) joiner: Option<Waker>,
    pub(super) task: Option<BoxTask>,
    pub(super) id: TaskId,
    /// The id of the task that created it; 0 for none.
    pub(super) parent: u64,
    pub(super) location: &'static Location<'static>,
    pub(super) locals: Option<Locals>,
    pub(super) extra: Option<Box<Extra>>,
}

/// Rarely used fields.
#[derive(Default)]
pub(super) struct Extra {
    pub(super) name: Option<String>,
    pub(super) callbacks: Vec<DoneCallback>,
    /// The scopes of `catch_cancel` that it is in.
    pub(super) scopes: Vec<ScopeKey>,
    /// Its future was dropped; it ends once this is over.
    pub(super) ends: Option<EndsKey>,
    /// The numbers of the requests to cancel before the latest.
    older_requests: Vec<u32>,
    /// The task to which its cancel was passed on.
    pub(super) passed_to: Option<TaskKey>,
}

/// Called when a task is done.
pub(crate) type DoneCallback = Box<dyn FnOnce(&TaskInfo)>;

/// The contents of a freed slot, to be dropped while the table is not borrowed.
#[derive(Default)]
pub(super) struct Leftover {
    pub(super) task: Option<BoxTask>,
    pub(super) locals: Option<Locals>,
}

impl Place for Slot {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn is_free(&self) -> bool {
        self.state == State::Free
    }

    fn next_free(&self) -> u32 {
        self.next_free
    }

    fn set_next_free(&mut self, next: u32) {
        self.next_free = next;
    }
}

impl Slot {
    pub(super) fn free(key: WakeKey, generation: u32, location: &'static Location<'static>) -> Slot {
        Slot {
            key,
            generation,
            next_free: NONE,
            state: State::Free,
            outcome: Outcome::Finished,
            cancel: Cancel::No,
            detached: false,
            external: false,
            cleanup: false,
            requests: 0,
            latest: 0,
            awaits: NONE,
            joiner: None,
            task: None,
            id: TaskId(0),
            parent: 0,
            location,
            locals: None,
            extra: None,
        }
    }

    /// Takes the contents, to be dropped once nothing is borrowed.
    #[inline(always)]
    pub(super) fn leave(&mut self) -> Leftover {
        Leftover { task: self.task.take(), locals: self.locals.take() }
    }

    /// Frees the slot, whose contents were taken. `next` is the next free one.
    #[inline(always)]
    pub(super) fn empty(&mut self, home: LoopId, index: u32, next: u32) {
        self.generation = self.generation.wrapping_add(1);
        self.key = WakeKey::new(home.index(), self.generation, index);
        self.state = State::Free;
        self.next_free = next;
        if self.extra.is_some() {
            self.extra = None;
        }
    }

    /// Wakes the task; whether to push it to the ready queue.
    #[inline(always)]
    pub(super) fn wake(&mut self) -> bool {
        let idle = self.state == State::Idle;
        if idle {
            self.state = State::Queued;
        } else if self.state == State::Running {
            self.state = State::Woken;
        }
        idle
    }

    /// Whether it has a future that can be dropped or polled now.
    pub(super) fn is_suspended(&self) -> bool {
        self.state <= State::Queued
    }

    /// Whether its future was dropped, and it waits for what that left behind.
    pub(super) fn is_ending(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.ends.is_some())
    }

    /// Whether a cancel is to be delivered to it.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel > Cancel::Passed
    }

    pub(super) fn is_live(&self) -> bool {
        self.state < State::Done
    }

    /// The scopes of `catch_cancel` that it is in.
    pub(super) fn scopes(&self) -> &[ScopeKey] {
        self.extra.as_ref().map_or(&[], |extra| &extra.scopes)
    }

    /// Counts a request to cancel, which has this number in its loop.
    pub(super) fn request_cancel(&mut self, number: u32) {
        let older = (self.requests > 0).then_some(self.latest);
        if let (Some(count), Some(older)) = (self.requests.checked_add(1), older) {
            self.requests = count;
            self.extra.get_or_insert_default().older_requests.push(older);
        } else {
            self.requests = self.requests.max(1);
        }
        self.latest = number;
    }

    /// Takes the latest request back; returns how many are left.
    pub(super) fn uncancel(&mut self) -> u16 {
        self.requests = self.requests.saturating_sub(1);
        if let Some(older) = self.extra.as_mut().and_then(|extra| extra.older_requests.pop()) {
            self.latest = older;
        }
        self.requests
    }

    /// Whether a request that is newer than that number was not taken back.
    pub(super) fn is_requested_since(&self, number: u32) -> bool {
        self.requests > 0 && self.latest.wrapping_sub(number).cast_signed() > 0
    }

    pub(super) fn info(&self, home: LoopId, index: u32) -> TaskInfo {
        TaskInfo {
            id: self.id,
            name: self.extra.as_ref().and_then(|e| e.name.clone()),
            location: self.location,
            parent: (self.parent != 0).then_some(TaskId(self.parent)),
            state: self.task_state(),
            task: Some(Homed::new(home, TaskKey { slot: index, generation: self.generation })),
        }
    }

    fn task_state(&self) -> TaskState {
        match (self.state, self.outcome) {
            (State::Done | State::Free, Outcome::Finished) => TaskState::Finished,
            (State::Done | State::Free, Outcome::Cancelled) => TaskState::Cancelled,
            (State::Done | State::Free, Outcome::Panicked) => TaskState::Panicked,
            _ if self.cancel != Cancel::No || self.requests > 0 => TaskState::Cancelling,
            (State::Running | State::Woken, _) => TaskState::Running,
            (State::Idle | State::Queued, _) => TaskState::Pending,
        }
    }
}
