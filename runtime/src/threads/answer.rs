//! The answer to come from another thread: one end owes it, the other waits for it, blocking or polling.
//!
//! Whatever becomes of the end that owes, it answers: dropped, it gives what it was told to give otherwise. A cancel
//! and the start of the task that answers may meet: both look at the other's mark under the lock, so one of the two
//! cancels the task.
//!
//! The file stands alone, so that the loom model (`tests/loom_answer.rs`) compiles it as it is.

#[cfg(not(all(loom, test)))]
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::{
    sync::PoisonError,
    task::Waker,
    time::{Duration, Instant},
};

#[cfg(all(loom, test))]
use loom::sync::{Arc, Condvar, Mutex, MutexGuard};

/// An answer of type `O`, given by a task that a `C` cancels; `otherwise` is for the case that nothing else is given.
pub(super) fn answer<O, C: Copy>(otherwise: O) -> (Owed<O, C>, Awaited<O, C>) {
    let state =
        State { outcome: None, taken: false, waker: None, blocks: false, task: None, cancelled: false };
    let shared = Arc::new(Shared { state: Mutex::new(state), done: Condvar::new() });
    (Owed { shared: Arc::clone(&shared), otherwise: Some(otherwise) }, Awaited { shared })
}

/// The end that waits. Dropping it lets the other end go on.
pub(super) struct Awaited<O, C> {
    shared: Arc<Shared<O, C>>,
}

impl<O, C: Copy> Awaited<O, C> {
    /// The answer, if it is there. It is given once: asking again is a panic.
    pub(super) fn take(&self) -> Option<O> {
        self.shared.lock().take()
    }

    /// Blocks until the answer is there; `None` after `timeout`.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> Option<O> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.shared.lock();
        state.blocks = true;
        loop {
            if let Some(outcome) = state.take() {
                return Some(outcome);
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let done = &self.shared.done;
            state = match left {
                Some(Duration::ZERO) => return None,
                Some(left) => done.wait_timeout(state, left).map_or_else(|e| e.into_inner().0, |w| w.0),
                None => done.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// The answer, or `waker` is woken when it is there.
    pub(super) fn poll(&self, waker: &Waker) -> Option<O> {
        let waker = waker.clone();
        let mut state = self.shared.lock();
        if let Some(outcome) = state.take() {
            return Some(outcome);
        }
        let old = state.waker.replace(waker);
        drop(state);
        drop(old);
        None
    }

    /// Asks for a cancel; `None` if the answer is there. The task, if it has begun, is the caller's to cancel.
    pub(super) fn cancel(&self) -> Option<Option<C>> {
        let mut state = self.shared.lock();
        if state.is_done() {
            return None;
        }
        state.cancelled = true;
        Some(state.task)
    }

    pub(super) fn is_done(&self) -> bool {
        self.shared.lock().is_done()
    }
}

/// The end that owes the answer.
pub(super) struct Owed<O, C> {
    shared: Arc<Shared<O, C>>,
    otherwise: Option<O>,
}

impl<O, C: Copy> Owed<O, C> {
    /// What is given if nothing else is, from now on.
    pub(super) fn otherwise(&mut self, outcome: O) {
        self.otherwise = Some(outcome);
    }

    /// Whether a cancel was asked for.
    pub(super) fn is_cancelled(&self) -> bool {
        self.shared.lock().cancelled
    }

    /// Tells of the task once there is one.
    pub(super) fn starter(&self) -> Starter<O, C> {
        Starter { shared: Arc::clone(&self.shared) }
    }
}

impl<O, C> Owed<O, C> {
    pub(super) fn give(&mut self, outcome: O) {
        let otherwise = self.otherwise.take();
        let (waker, blocks) = {
            let mut state = self.shared.lock();
            state.outcome = Some(outcome);
            (state.waker.take(), state.blocks)
        };
        // That costs a system call, also if there is nobody.
        if blocks {
            self.shared.done.notify_all();
        }
        waker.into_iter().for_each(Waker::wake);
        drop(otherwise);
    }
}

impl<O, C> Drop for Owed<O, C> {
    fn drop(&mut self) {
        if let Some(otherwise) = self.otherwise.take() {
            self.give(otherwise);
        }
    }
}

/// See [`Owed::starter`].
pub(super) struct Starter<O, C> {
    shared: Arc<Shared<O, C>>,
}

impl<O, C> Starter<O, C> {
    /// The task has begun. Whether a cancel was asked for meanwhile: then it is the caller's to cancel.
    pub(super) fn started(self, task: C) -> bool {
        let mut state = self.shared.lock();
        state.task = Some(task);
        state.cancelled
    }
}

struct Shared<O, C> {
    state: Mutex<State<O, C>>,
    done: Condvar,
}

impl<O, C> Shared<O, C> {
    fn lock(&self) -> MutexGuard<'_, State<O, C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct State<O, C> {
    outcome: Option<O>,
    /// The outcome was given to the caller.
    taken: bool,
    waker: Option<Waker>,
    /// Whether a thread blocks, or did.
    blocks: bool,
    task: Option<C>,
    cancelled: bool,
}

impl<O, C> State<O, C> {
    fn is_done(&self) -> bool {
        self.taken || self.outcome.is_some()
    }

    fn take(&mut self) -> Option<O> {
        assert!(!self.taken, "a ConcurrentFuture was asked again after it gave its answer");
        let outcome = self.outcome.take();
        self.taken = outcome.is_some();
        outcome
    }
}
