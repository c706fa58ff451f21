//! Semaphores for tasks (asyncio `Semaphore`, `BoundedSemaphore`).

use std::{cell::Cell, fmt, rc::Rc};

use crate::{error::error, waiters::Waiters};

/// A number of permits (asyncio `Semaphore`).
///
/// It is fair: a released permit goes to the task that has waited longest, and newcomers never overtake.
///
/// ```
/// # futures::executor::block_on(async {
/// let connections = corio_sync::Semaphore::new(2);
/// let first = connections.acquire().await;
/// let second = connections.acquire().await;
/// assert!(connections.locked() && connections.try_acquire().is_none());
/// drop(first);
/// assert_eq!(connections.available(), 1);
/// second.forget();
/// assert_eq!(connections.available(), 1);
/// # });
/// ```
pub struct Semaphore {
    permits: Cell<usize>,
    /// Maximal number of permits.
    bound: usize,
    waiters: Waiters,
}

impl Semaphore {
    /// A semaphore with `permits` permits.
    ///
    /// ```compile_fail,E0600
    /// // SEM-02: a number of permits is never negative.
    /// let semaphore = corio_sync::Semaphore::new(-1);
    /// ```
    pub const fn new(permits: usize) -> Semaphore {
        Semaphore::bounded(permits, usize::MAX)
    }

    const fn bounded(permits: usize, bound: usize) -> Semaphore {
        Semaphore { permits: Cell::new(permits), bound, waiters: Waiters::new() }
    }

    /// Waits for a permit (asyncio `acquire`); returns at once, without a turn of the loop, if there is one and no task
    /// waits. Dropping the future leaves the queue.
    pub async fn acquire(&self) -> Permit<'_> {
        self.wait().await;
        let permit = Permit { semaphore: self };
        self.hand_on();
        permit
    }

    /// As [`acquire`](Semaphore::acquire), with a permit that borrows nothing.
    pub async fn acquire_owned(self: Rc<Self>) -> OwnedPermit {
        self.wait().await;
        let permit = OwnedPermit { semaphore: Some(Rc::clone(&self)) };
        self.hand_on();
        permit
    }

    /// A permit, if there is one and no task waits.
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.take().then(|| Permit { semaphore: self })
    }

    /// Adds a permit (asyncio `release`): in place of a forgotten one, or one more than at the start.
    pub fn release(&self) {
        if self.permits.get() < self.bound {
            self.permits.set(self.permits.get() + 1);
            self.hand_on();
        }
    }

    /// Whether [`acquire`](Semaphore::acquire) would wait: there is no permit, or other tasks wait.
    pub fn locked(&self) -> bool {
        self.permits.get() == 0 || !self.waiters.idle()
    }

    /// Number of free permits, without those granted to waiting tasks.
    pub fn available(&self) -> usize {
        self.permits.get()
    }

    async fn wait(&self) {
        if !self.take() {
            self.waiters.wait(|| self.release()).await;
        }
    }

    fn take(&self) -> bool {
        let free = !self.locked();
        if free {
            self.permits.set(self.permits.get() - 1);
        }
        free
    }

    /// Grants free permits to waiting tasks. Also called after an acquire: it may have left permits to tasks behind it.
    fn hand_on(&self) {
        while self.waiters.waiting() > 0 && self.permits.get() > 0 {
            self.permits.set(self.permits.get() - 1);
            self.waiters.grant();
        }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe("Semaphore", self, f)
    }
}

fn describe(name: &str, semaphore: &Semaphore, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "<{name} [")?;
    if semaphore.locked() {
        f.write_str("locked")?;
    } else {
        write!(f, "unlocked, value:{}", semaphore.available())?;
    }
    match semaphore.waiters.waiting() + semaphore.waiters.granted() {
        0 => f.write_str("]>"),
        waiters => write!(f, ", waiters:{waiters}]>"),
    }
}

/// A permit of a [`Semaphore`] or [`BoundedSemaphore`]; dropping it releases the permit.
#[must_use = "a dropped permit is given back"]
#[derive(Debug)]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
}

impl Permit<'_> {
    /// Keeps the permit; only a call of [`Semaphore::release`] replaces it.
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.semaphore.release();
    }
}

/// A permit of a [`Semaphore`] that borrows nothing; dropping it releases the permit.
#[must_use = "a dropped permit is given back"]
#[derive(Debug)]
pub struct OwnedPermit {
    /// `None` once forgotten.
    semaphore: Option<Rc<Semaphore>>,
}

impl OwnedPermit {
    /// Keeps the permit; only a call of [`Semaphore::release`] replaces it.
    pub fn forget(mut self) {
        self.semaphore = None;
    }
}

impl Drop for OwnedPermit {
    fn drop(&mut self) {
        if let Some(semaphore) = &self.semaphore {
            semaphore.release();
        }
    }
}

/// A [`Semaphore`] that never has more permits than at the start (asyncio `BoundedSemaphore`).
///
/// ```
/// # futures::executor::block_on(async {
/// let semaphore = corio_sync::BoundedSemaphore::new(1);
/// semaphore.acquire().await.forget();
/// assert!(semaphore.release().is_ok());
/// assert!(semaphore.release().is_err());
/// # });
/// ```
pub struct BoundedSemaphore {
    inner: Semaphore,
}

impl BoundedSemaphore {
    /// A semaphore with `permits` permits, and never more.
    pub const fn new(permits: usize) -> BoundedSemaphore {
        BoundedSemaphore { inner: Semaphore::bounded(permits, permits) }
    }

    /// As [`Semaphore::acquire`].
    pub async fn acquire(&self) -> Permit<'_> {
        self.inner.acquire().await
    }

    /// As [`Semaphore::try_acquire`].
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.inner.try_acquire()
    }

    /// Releases a forgotten permit (asyncio `release`).
    ///
    /// # Errors
    /// [`OverRelease`] if all permits are free.
    pub fn release(&self) -> Result<(), OverRelease> {
        if self.inner.available() >= self.inner.bound {
            return Err(OverRelease { bound: self.inner.bound });
        }
        self.inner.release();
        Ok(())
    }

    /// As [`Semaphore::locked`].
    pub fn locked(&self) -> bool {
        self.inner.locked()
    }

    /// As [`Semaphore::available`].
    pub fn available(&self) -> usize {
        self.inner.available()
    }
}

impl fmt::Debug for BoundedSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe("BoundedSemaphore", &self.inner, f)
    }
}

/// A [`BoundedSemaphore`] was released more often than it was acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverRelease {
    bound: usize,
}

impl fmt::Display for OverRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BoundedSemaphore released too many times: all {} permits are there", self.bound)
    }
}

error!(OverRelease, Other);
