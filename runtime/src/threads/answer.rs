//! An answer from another thread: `Owed` gives it, `Awaited` waits for it, blocking or polling.
//!
//! A dropped `Owed` gives the answer set by `otherwise`. A cancel may race with the start of the task: both check the
//! other's mark under the lock, so one of the two cancels the task.
//!
//! The file stands alone, so that the loom model (`tests/loom_answer.rs`) can include it.

#[cfg(not(all(loom, test)))]
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::{
    sync::PoisonError,
    task::Waker,
    time::{Duration, Instant},
};

#[cfg(all(loom, test))]
use loom::sync::{Arc, Condvar, Mutex, MutexGuard};

/// An answer of type `O`, given by a task that a `C` can cancel. `otherwise` is the answer if `Owed` is dropped.
pub(super) fn answer<O, C: Copy>(otherwise: O) -> (Owed<O, C>, Awaited<O, C>) {
    let state =
        State { outcome: None, taken: false, waker: None, blocks: false, task: None, cancelled: false };
    let shared = Arc::new(Shared { state: Mutex::new(state), done: Condvar::new() });
    (Owed { shared: Arc::clone(&shared), otherwise: Some(otherwise) }, Awaited { shared })
}

/// The waiting end. Dropping it does not stop the other end.
pub(super) struct Awaited<O, C> {
    shared: Arc<Shared<O, C>>,
}

impl<O, C: Copy> Awaited<O, C> {
    /// The answer, if it was given. Panics if it was taken before.
    pub(super) fn take(&self) -> Option<O> {
        self.shared.lock().take()
    }

    /// Blocks until the answer is given; `None` after `timeout`.
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

    /// The answer; if it was not given yet, it will wake `waker`.
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

    /// Requests a cancel; `None` if the answer was given. The caller must cancel the returned task, if it has started.
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

/// The answering end.
pub(super) struct Owed<O, C> {
    shared: Arc<Shared<O, C>>,
    otherwise: Option<O>,
}

impl<O, C: Copy> Owed<O, C> {
    /// Sets the answer that a drop gives.
    pub(super) fn otherwise(&mut self, outcome: O) {
        self.otherwise = Some(outcome);
    }

    /// Whether a cancel was requested.
    pub(super) fn is_cancelled(&self) -> bool {
        self.shared.lock().cancelled
    }

    /// For reporting the task once it exists.
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
        // `notify_all` costs a system call even without a waiting thread.
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
    /// The task has started. Returns whether a cancel was requested meanwhile: then the caller must cancel it.
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
    /// Whether the outcome was returned.
    taken: bool,
    waker: Option<Waker>,
    /// Whether a thread has ever blocked on it.
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
