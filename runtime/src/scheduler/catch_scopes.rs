//! The scopes of `catch_cancel` that tasks are in.
//!
//! A cancel of a task with scopes is delivered in one step of the task: each innermost scope that is polled in it takes
//! the cancel, once. If no scope takes it, the task's future is dropped.
//!
//! ```text
//!   entered ──▶ polled in a delivering step, or resumed from inside ──▶ taken: it is left
//!       └── its future is ready, or dropped ──▶ left
//! ```

use std::{
    cell::{Cell, RefCell},
    task::{Context, Waker},
};

use crate::scheduler::{
    slab::{Held, HeldKey, Slab},
    task_key::TaskKey,
};

/// Names a scope.
pub(crate) type ScopeKey = HeldKey;

/// See the head of the file.
pub(crate) struct CatchScopes {
    scopes: RefCell<Slab<Held<Scope>>>,
    /// The innermost scope whose future is being polled.
    polled: Cell<Option<ScopeKey>>,
    /// The task whose cancel is being delivered, and the number of this delivery.
    delivering: Cell<Option<(TaskKey, u64)>>,
    deliveries: Cell<u64>,
    /// Cancels that scopes have taken in this delivery.
    taken: Cell<u64>,
}

struct Scope {
    task: TaskKey,
    /// Its place among the scopes of the task.
    place: usize,
    parent: Option<ScopeKey>,
    /// Scopes directly inside.
    children: u32,
    /// A cancel that was caught further in goes on from here.
    resumed: bool,
    /// It is around a future that was ended, and catches only what is resumed inside.
    around: bool,
    /// The delivery in which it was entered; 0 for none.
    entered: u64,
    /// A request to cancel is counted for it.
    counted: bool,
    waker: Option<Waker>,
}

/// What a removed scope was.
pub(super) struct LeftScope {
    pub(super) task: TaskKey,
    pub(super) place: usize,
    /// A request to cancel is counted for it.
    pub(super) counted: bool,
}

impl CatchScopes {
    pub(crate) fn new(far_too_large: fn()) -> CatchScopes {
        CatchScopes {
            scopes: RefCell::new(Slab::new(far_too_large)),
            polled: Cell::new(None),
            delivering: Cell::new(None),
            deliveries: Cell::new(0),
            taken: Cell::new(0),
        }
    }

    /// Whether no task is in a scope.
    pub(super) fn is_empty(&self) -> bool {
        self.scopes.borrow().used() == 0
    }

    /// Adds a scope of `task`, inside the one that is being polled.
    pub(super) fn enter(&self, task: TaskKey, around: bool) -> ScopeKey {
        let mut scopes = self.scopes.borrow_mut();
        let parent = self.polled.get().filter(|parent| {
            let parent = scopes.find(*parent).filter(|parent| parent.task == task);
            parent.is_some_and(|parent| {
                parent.children += 1;
                true
            })
        });
        let entered = self.delivering.get().map_or(0, |(_, delivery)| delivery);
        scopes.insert(Scope {
            task,
            place: 0,
            parent,
            children: 0,
            resumed: false,
            around,
            entered,
            counted: false,
            waker: None,
        })
    }

    /// A request to cancel is counted for the scope; returns its task.
    pub(super) fn count(&self, key: ScopeKey) -> Option<TaskKey> {
        let mut scopes = self.scopes.borrow_mut();
        let scope = scopes.find(key)?;
        scope.counted = true;
        Some(scope.task)
    }

    /// Removes a scope.
    pub(super) fn leave(&self, key: ScopeKey) -> Option<LeftScope> {
        // Its waker is dropped after the borrow: its destructor is foreign code.
        let scope = self.scopes.borrow_mut().remove(key)?;
        if let Some(parent) = scope.parent
            && let Some(parent) = self.scopes.borrow_mut().find(parent)
        {
            parent.children -= 1;
        }
        Some(LeftScope { task: scope.task, place: scope.place, counted: scope.counted })
    }

    /// The scope is polled in `task`, inside the one that is being polled. Returns the former task, if it is another,
    /// and the place there.
    pub(super) fn put(&self, key: ScopeKey, task: TaskKey) -> Option<(TaskKey, usize)> {
        let mut scopes = self.scopes.borrow_mut();
        let mut parent = self.polled.get();
        parent = parent.filter(|parent| scopes.find(*parent).is_some_and(|parent| parent.task == task));
        let scope = scopes.find(key)?;
        let former = (std::mem::replace(&mut scope.task, task), scope.place);
        let left = std::mem::replace(&mut scope.parent, parent);
        if left != parent {
            if let Some(left) = left.and_then(|left| scopes.find(left)) {
                left.children -= 1;
            }
            if let Some(parent) = parent.and_then(|parent| scopes.find(parent)) {
                parent.children += 1;
            }
        }
        (former.0 != task).then_some(former)
    }

    pub(super) fn set_place(&self, key: ScopeKey, place: usize) {
        if let Some(scope) = self.scopes.borrow_mut().find(key) {
            scope.place = place;
        }
    }

    /// The wakers of these scopes, for a cancel to reach them.
    pub(super) fn wakers(&self, keys: &[ScopeKey]) -> Vec<Waker> {
        let mut scopes = self.scopes.borrow_mut();
        keys.iter().filter_map(|key| scopes.find(*key)?.waker.take()).collect()
    }

    /// Keeps the waker for a cancel.
    pub(crate) fn wait(&self, key: ScopeKey, cx: &Context<'_>) {
        let waker = cx.waker().clone();
        // Dropped after the borrow: its destructor is foreign code.
        let _old = self.scopes.borrow_mut().find(key).and_then(|scope| scope.waker.replace(waker));
    }

    /// Whether the scope is to take a cancel before its future is polled.
    pub(crate) fn takes_first(&self, key: ScopeKey) -> bool {
        let mut scopes = self.scopes.borrow_mut();
        let Some(scope) = scopes.find(key) else { return false };
        std::mem::take(&mut scope.resumed) || (self.delivers_to(scope) && scope.children == 0)
    }

    /// Polls a scope's future by `poll`. Returns whether the scope is to take a cancel then: one that was resumed
    /// inside, or one that no scope inside has taken.
    pub(crate) fn poll_inside<R>(&self, key: ScopeKey, poll: impl FnOnce() -> R) -> (R, bool) {
        let delivers = self.scopes.borrow_mut().find(key).is_some_and(|scope| self.delivers_to(scope));
        let taken = self.taken.get();
        let polled = self.poll_within(key, poll);
        let passed = delivers && self.taken.get() == taken;
        (polled, self.take_resumed(key) || passed)
    }

    /// Polls something inside a scope.
    pub(crate) fn poll_within<R>(&self, key: ScopeKey, poll: impl FnOnce() -> R) -> R {
        let _inside = Inside { scopes: self, outer: self.polled.replace(Some(key)) };
        poll()
    }

    /// Whether a cancel was resumed inside the scope.
    pub(crate) fn take_resumed(&self, key: ScopeKey) -> bool {
        self.scopes.borrow_mut().find(key).is_some_and(|scope| std::mem::take(&mut scope.resumed))
    }

    fn delivers_to(&self, scope: &Scope) -> bool {
        self.delivering.get().is_some_and(|(task, delivery)| task == scope.task && delivery != scope.entered)
    }

    /// Counts a cancel that was taken.
    pub(crate) fn took(&self) {
        self.taken.set(self.taken.get() + 1);
    }

    /// Lets scopes of `task` take a cancel while `f` polls it. Returns whether one did.
    pub(crate) fn deliver<R>(&self, task: TaskKey, f: impl FnOnce() -> R) -> (R, bool) {
        self.deliveries.set(self.deliveries.get() + 1);
        let _outer = self.aside(Some((task, self.deliveries.get())));
        let result = f();
        (result, self.taken.get() > 0)
    }

    /// Puts the delivery that is going on aside, for another one or for none.
    fn aside(&self, delivering: Option<(TaskKey, u64)>) -> Delivering<'_> {
        let (outer, taken) = (self.delivering.replace(delivering), self.taken.replace(0));
        Delivering { scopes: self, outer, taken }
    }

    /// Calls `f` outside every scope: it runs another task.
    pub(super) fn apart<R>(&self, f: impl FnOnce() -> R) -> R {
        let _outer = self.aside(None);
        let _inside = Inside { scopes: self, outer: self.polled.replace(None) };
        f()
    }

    /// The innermost scope of `task` that is being polled gets a caught cancel again. `false` if there is none.
    pub(super) fn resume(&self, task: TaskKey) -> bool {
        let mut scopes = self.scopes.borrow_mut();
        let polled = self.polled.get().and_then(|key| scopes.find(key)).filter(|scope| scope.task == task);
        polled.is_some_and(|scope| {
            scope.resumed = true;
            true
        })
    }

    /// A cancel that was passed on comes back to `task`: the innermost scope that is being polled gets it. `false` if
    /// there is none.
    pub(super) fn come_back(&self, task: TaskKey) -> bool {
        let mut scopes = self.scopes.borrow_mut();
        let mut next = self.polled.get();
        while let Some(scope) = next.and_then(|key| scopes.find(key)).filter(|scope| scope.task == task) {
            if !scope.around {
                scope.resumed = true;
                return true;
            }
            next = scope.parent;
        }
        false
    }

    /// Whether one of `keys`, the scopes of `task`, may be inside what is being polled.
    pub(super) fn may_be_inside(&self, task: TaskKey, keys: &[ScopeKey]) -> bool {
        let mut scopes = self.scopes.borrow_mut();
        let polled = self.polled.get().and_then(|key| scopes.find(key)).filter(|scope| scope.task == task);
        polled.map_or(!keys.is_empty(), |scope| scope.children > 0)
    }

    /// Whether one of these scopes may take a cancel.
    pub(super) fn any_takes(&self, keys: &[ScopeKey]) -> bool {
        let mut scopes = self.scopes.borrow_mut();
        keys.iter().any(|key| scopes.find(*key).is_some_and(|scope| !scope.around))
    }

    /// Removes everything, for a closing loop to drop.
    pub(crate) fn clear(&self) -> Vec<Waker> {
        let scopes = self.scopes.borrow_mut().take_all();
        scopes.into_values().filter_map(|scope| scope.waker).collect()
    }

    /// Memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.scopes.borrow().bytes()
    }

    /// Frees memory after a peak.
    pub(crate) fn tidy(&self) {
        self.scopes.borrow_mut().shrink();
    }
}

/// Puts back the scope that was polled before.
struct Inside<'a> {
    scopes: &'a CatchScopes,
    outer: Option<ScopeKey>,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.scopes.polled.set(self.outer);
    }
}

/// Puts back the delivery that was going on before.
struct Delivering<'a> {
    scopes: &'a CatchScopes,
    outer: Option<(TaskKey, u64)>,
    taken: u64,
}

impl Drop for Delivering<'_> {
    fn drop(&mut self) {
        self.scopes.delivering.set(self.outer);
        self.scopes.taken.set(self.taken);
    }
}
