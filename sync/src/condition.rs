//! Waiting for a locked value to change (asyncio `Condition`).

use std::{
    fmt,
    future::{Future, poll_fn},
    ops::{Deref, DerefMut},
    pin::pin,
    rc::Rc,
    task::Poll,
};

use crate::{
    lock::{Lock, LockGuard},
    waiters::Waiters,
};

/// A [`Lock`] whose holder can wait until another task notifies it of a change (asyncio `Condition`).
///
/// Only the lock's holder can wait and notify: both are methods of its guard, and [`Condition::notify`] panics if the
/// lock is free. A notification to a task that is then cancelled goes to the next one. Several conditions can share a
/// lock: see [`Condition::on`].
///
/// ```
/// # futures::executor::block_on(async {
/// use corio_sync::Condition;
/// let ready = Condition::new(0);
/// let consumer = async {
///     let mut jobs = ready.acquire().await.wait_for(|jobs| *jobs > 0).await;
///     *jobs -= 1;
/// };
/// let producer = async {
///     let mut jobs = ready.acquire().await;
///     *jobs += 1;
///     jobs.notify(1);
/// };
/// futures::join!(consumer, producer);
/// assert_eq!(*ready.acquire().await, 0);
/// # });
/// ```
#[doc(alias = "Condvar")]
pub struct Condition<T = ()> {
    lock: Place<T>,
    waiters: Waiters,
}

/// Where the lock of a condition is.
enum Place<T> {
    Own(Lock<T>),
    Shared(Rc<Lock<T>>),
}

impl<T> Condition<T> {
    /// An unlocked condition around `value`.
    pub const fn new(value: T) -> Condition<T> {
        Condition { lock: Place::Own(Lock::new(value)), waiters: Waiters::new() }
    }

    /// A condition on `lock`, which other conditions and tasks may use as well (asyncio `Condition(lock)`). A guard
    /// waits for, and notifies, the condition that it was acquired from; other conditions on the lock are notified
    /// directly, by [`Condition::notify`].
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use corio_sync::{Condition, Lock};
    /// use std::{collections::VecDeque, rc::Rc};
    /// const MOST: usize = 2;
    /// let items = Rc::new(Lock::new(VecDeque::new()));
    /// let not_empty = Condition::on(items.clone());
    /// let not_full = Condition::on(items.clone());
    /// let producer = async {
    ///     for n in 0..10 {
    ///         let mut items = not_full.acquire().await.wait_for(|items| items.len() < MOST).await;
    ///         items.push_back(n);
    ///         not_empty.notify(1);
    ///     }
    /// };
    /// let consumer = async {
    ///     for n in 0..10 {
    ///         let mut items = not_empty.acquire().await.wait_for(|items| !items.is_empty()).await;
    ///         assert_eq!(items.pop_front(), Some(n));
    ///         not_full.notify(1);
    ///     }
    /// };
    /// futures::join!(producer, consumer);
    /// assert!(items.acquire().await.is_empty());
    /// # });
    /// ```
    pub const fn on(lock: Rc<Lock<T>>) -> Condition<T> {
        Condition { lock: Place::Shared(lock), waiters: Waiters::new() }
    }

    /// Waits for the lock (asyncio `acquire`), as [`Lock::acquire`] does.
    pub async fn acquire(&self) -> ConditionGuard<'_, T> {
        ConditionGuard { guard: self.lock().acquire().await, condition: self }
    }

    /// Whether the lock is held, through this condition or otherwise.
    pub fn locked(&self) -> bool {
        self.lock().locked()
    }

    /// Notifies the `n` tasks that have waited longest, while this task holds the lock through another condition or
    /// directly. Each continues once it has the lock.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use corio_sync::{Condition, Lock};
    /// use std::rc::Rc;
    /// let lock = Rc::new(Lock::new(false));
    /// let done = Condition::on(lock.clone());
    /// let waits = async { *done.acquire().await.wait_for(|done| *done).await };
    /// let ends = async {
    ///     *lock.acquire().await = true;
    ///     let _held = lock.acquire().await;
    ///     done.notify(1);
    /// };
    /// assert_eq!(futures::join!(waits, ends), (true, ()));
    /// # });
    /// ```
    ///
    /// # Panics
    /// If the lock is free: "cannot notify on un-acquired lock" (asyncio raises `RuntimeError`).
    #[track_caller]
    pub fn notify(&self, n: usize) {
        self.assert_locked();
        self.wake(n);
    }

    /// As [`notify`](Condition::notify), for all waiting tasks. They continue one after the other, as they get the
    /// lock.
    ///
    /// # Panics
    /// If the lock is free: "cannot notify on un-acquired lock" (asyncio raises `RuntimeError`).
    #[track_caller]
    pub fn notify_all(&self) {
        self.assert_locked();
        self.waiters.grant_all();
    }

    #[track_caller]
    fn assert_locked(&self) {
        assert!(self.locked(), "cannot notify on un-acquired lock");
    }

    fn lock(&self) -> &Lock<T> {
        match &self.lock {
            Place::Own(lock) => lock,
            Place::Shared(lock) => lock,
        }
    }

    fn wake(&self, n: usize) {
        for _ in 0..n.min(self.waiters.waiting()) {
            self.waiters.grant();
        }
    }

    /// Takes the lock again after a notification. If this is dropped before, the notification goes to the next task.
    async fn relock(&self) -> ConditionGuard<'_, T> {
        let notified = PassOn { condition: Some(self) };
        let guard = self.lock().acquire().await;
        notified.used();
        ConditionGuard { guard, condition: self }
    }
}

/// A notification that was received and not used yet.
struct PassOn<'a, T> {
    condition: Option<&'a Condition<T>>,
}

impl<T> PassOn<'_, T> {
    fn used(mut self) {
        self.condition = None;
    }
}

impl<T> Drop for PassOn<'_, T> {
    fn drop(&mut self) {
        if let Some(condition) = self.condition {
            condition.wake(1);
        }
    }
}

impl<T: Default> Default for Condition<T> {
    fn default() -> Condition<T> {
        Condition::new(T::default())
    }
}

impl<T> fmt::Debug for Condition<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.locked() { "locked" } else { "unlocked" };
        match self.waiters.waiting() {
            0 => write!(f, "<Condition [{state}]>"),
            waiters => write!(f, "<Condition [{state}, waiters:{waiters}]>"),
        }
    }
}

/// Holds the lock of a [`Condition`], and waits for and notifies that condition; releases the lock when dropped.
#[must_use = "a dropped guard releases its lock"]
pub struct ConditionGuard<'a, T> {
    guard: LockGuard<'a, T>,
    condition: &'a Condition<T>,
}

impl<'a, T> ConditionGuard<'a, T> {
    /// Releases the lock, waits for a notification, and takes the lock again (asyncio `wait`).
    ///
    /// If the future is dropped, the lock is not taken again. (In asyncio a cancelled task holds it while it unwinds;
    /// here no task is left to hold it.) A notification already received goes to the next task.
    ///
    /// ```compile_fail,E0599
    /// // COND-05: who does not hold the lock has nothing to wait with.
    /// async fn waits(condition: &corio_sync::Condition) {
    ///     condition.wait().await;
    /// }
    /// ```
    pub async fn wait(self) -> ConditionGuard<'a, T> {
        let condition = self.condition;
        self.notified().await;
        condition.relock().await
    }

    /// [`wait`](ConditionGuard::wait)s until `predicate` is true; returns at once if it is (asyncio `wait_for`).
    pub async fn wait_for(self, mut predicate: impl FnMut(&mut T) -> bool) -> ConditionGuard<'a, T> {
        let mut guard = self;
        while !predicate(&mut guard) {
            guard = guard.wait().await;
        }
        guard
    }

    /// As [`wait`](ConditionGuard::wait), for up to `duration`. The lock is taken again in any case; the flag is
    /// `false` after a timeout.
    #[cfg(feature = "timeout")]
    pub async fn wait_timeout(self, duration: std::time::Duration) -> (ConditionGuard<'a, T>, bool) {
        let condition = self.condition;
        if corio_runtime::time::timeout(duration, self.notified()).await.is_ok() {
            return (condition.relock().await, true);
        }
        (condition.acquire().await, false)
    }

    /// Notifies the `n` tasks that have waited longest. Each continues once it has the lock.
    pub fn notify(&self, n: usize) {
        self.condition.wake(n);
    }

    /// Notifies all waiting tasks. They continue one after the other, as they get the lock.
    pub fn notify_all(&self) {
        self.condition.waiters.grant_all();
    }

    /// Waits for a notification. Releases the lock once it is queued.
    async fn notified(self) {
        let condition = self.condition;
        let mut held = Some(self);
        let mut wait = pin!(condition.waiters.wait(|| condition.wake(1)));
        poll_fn(|cx| {
            let polled: Poll<()> = wait.as_mut().poll(cx);
            drop(held.take());
            polled
        })
        .await;
    }
}

impl<T> Deref for ConditionGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for ConditionGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T: fmt::Debug> fmt::Debug for ConditionGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
