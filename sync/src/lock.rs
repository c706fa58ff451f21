//! A mutual exclusion lock for tasks (asyncio `Lock`).

use std::{
    cell::{Cell, RefCell, RefMut},
    fmt,
    ops::{Deref, DerefMut},
    rc::Rc,
};

use crate::waiters::Waiters;

/// Mutual exclusion among the tasks of one core, with the value that it protects (asyncio `Lock`).
///
/// It is fair: the lock goes to the task that has waited longest, and newcomers never overtake. If a task is cancelled
/// after the lock was granted to it, the lock goes to the next one.
///
/// ```
/// # futures::executor::block_on(async {
/// let lock = corio_sync::Lock::new(1);
/// {
///     let mut value = lock.acquire().await;
///     *value += 1;
///     assert!(lock.locked() && lock.try_acquire().is_none());
/// }
/// assert_eq!(*lock.acquire().await, 2);
/// # });
/// ```
#[doc(alias = "Mutex")]
pub struct Lock<T = ()> {
    held: Cell<bool>,
    waiters: Waiters,
    /// `None` while an owned guard holds it.
    value: RefCell<Option<T>>,
}

impl<T> Lock<T> {
    /// An unlocked lock around `value`.
    pub const fn new(value: T) -> Lock<T> {
        Lock { held: Cell::new(false), waiters: Waiters::new(), value: RefCell::new(Some(value)) }
    }

    /// Waits for the lock (asyncio `acquire`); returns at once, without a turn of the loop, if it is free and no task
    /// waits. The guard releases it.
    ///
    /// Dropping the future leaves the queue.
    ///
    /// ```compile_fail,E0624
    /// // LOCK-06: only the guard releases, so that what is not held cannot be released.
    /// fn releases(lock: &corio_sync::Lock) {
    ///     lock.release();
    /// }
    /// ```
    #[doc(alias = "lock")]
    pub async fn acquire(&self) -> LockGuard<'_, T> {
        self.wait().await;
        self.guard()
    }

    /// As [`acquire`](Lock::acquire), with a guard that borrows nothing.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use std::rc::Rc;
    /// let lock = Rc::new(corio_sync::Lock::new(String::new()));
    /// let mut guard = lock.clone().acquire_owned().await;
    /// guard.push('x');
    /// drop(guard);
    /// assert_eq!(*lock.acquire().await, "x");
    /// # });
    /// ```
    pub async fn acquire_owned(self: Rc<Self>) -> OwnedLockGuard<T> {
        self.wait().await;
        OwnedLockGuard { value: self.value.take(), lock: self }
    }

    /// The lock, if it is free and no task waits.
    pub fn try_acquire(&self) -> Option<LockGuard<'_, T>> {
        self.take().then(|| self.guard())
    }

    /// Whether the lock is held. As in asyncio, it is free between a release and the next holder's turn, though no
    /// other task can take it then.
    #[doc(alias = "is_locked")]
    pub fn locked(&self) -> bool {
        self.held.get()
    }

    /// The value, without locking: `&mut self` excludes other holders.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut().as_mut().expect("a guard that was leaked by mem::forget took the value along")
    }

    /// Returns the value.
    pub fn into_inner(self) -> T {
        self.value.into_inner().expect("a guard that was leaked by mem::forget took the value along")
    }

    pub(crate) async fn wait(&self) {
        if !self.take() {
            self.waiters.wait(|| self.hand_on()).await;
            self.held.set(true);
        }
    }

    fn take(&self) -> bool {
        let free = !self.held.get() && self.waiters.idle();
        if free {
            self.held.set(true);
        }
        free
    }

    pub(crate) fn guard(&self) -> LockGuard<'_, T> {
        LockGuard { _release: Release(self), value: self.value.borrow_mut() }
    }

    fn release(&self) {
        self.held.set(false);
        self.hand_on();
    }

    fn hand_on(&self) {
        self.waiters.grant();
    }
}

impl<T: Default> Default for Lock<T> {
    fn default() -> Lock<T> {
        Lock::new(T::default())
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.locked() { "locked" } else { "unlocked" };
        match self.waiters.waiting() + self.waiters.granted() {
            0 => write!(f, "<Lock [{state}]>"),
            waiters => write!(f, "<Lock [{state}, waiters:{waiters}]>"),
        }
    }
}

/// Holds a [`Lock`]; releases it when dropped.
#[must_use = "a dropped guard releases its lock"]
pub struct LockGuard<'a, T> {
    // Dropped first: the value must be free when the next holder runs.
    value: RefMut<'a, Option<T>>,
    _release: Release<'a, T>,
}

struct Release<'a, T>(&'a Lock<T>);

impl<T> Drop for Release<'_, T> {
    fn drop(&mut self) {
        self.0.release();
    }
}

const HELD: &str = "the holder of a lock has its value";

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect(HELD)
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect(HELD)
    }
}

impl<T: fmt::Debug> fmt::Debug for LockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Holds a [`Lock`] without borrowing it; releases it when dropped.
#[must_use = "a dropped guard releases its lock"]
pub struct OwnedLockGuard<T> {
    lock: Rc<Lock<T>>,
    value: Option<T>,
}

impl<T> Deref for OwnedLockGuard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect(HELD)
    }
}

impl<T> DerefMut for OwnedLockGuard<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect(HELD)
    }
}

impl<T> Drop for OwnedLockGuard<T> {
    fn drop(&mut self) {
        self.lock.value.replace(self.value.take());
        self.lock.release();
    }
}

impl<T: fmt::Debug> fmt::Debug for OwnedLockGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
