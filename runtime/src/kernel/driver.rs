//! The ring and the in-flight table behind one `RefCell`: submit, cancel, enter, deliver.

use std::{
    any::Any,
    cell::{Cell, RefCell, RefMut},
    io,
    os::fd::OwnedFd,
    rc::Rc,
    task::Waker,
};

use crate::kernel::{
    fd::Fd,
    inflight::{Ended, InFlight, ReceiverId, Table},
    key::Key,
    operation::{Multishot, Operation},
    payload::Payload,
    pool::{Filled, Pool},
    ring::{
        Ring,
        embedded::Embedded,
        sim::Sim,
        terms::{Abilities, RingCounters},
        uring::Encoded,
    },
};

/// No borrow is held while code of an operation runs, with exceptions, which must not call into the driver:
/// `Payload::bytes` and the callback of `Arrivals::each`, which must not panic either, and `prepare`, which epoll and
/// the simulator call again when they execute an operation (`Table::describe` catches its panic).
///
/// An operation of a handle gets its completion at once, by a call. That of a future keeps its result until the future
/// is polled.
pub(crate) struct Driver {
    pub(super) inner: RefCell<Inner>,
    /// A share of the ring's pool.
    pool: Pool,
    abilities: Abilities,
    polls_per_enter: u32,
    /// Whether something was queued since the last `enter`.
    pub(super) submitted: Cell<bool>,
    /// Silent sends of the last `enter` are not settled yet.
    pub(super) silent_left: Cell<bool>,
    /// The next `enter` must not sleep.
    pub(super) stay_awake: Cell<bool>,
}

pub(super) struct Inner {
    pub(super) table: Table,
    pub(super) ring: Ring,
}

impl Driver {
    /// `far_too_large` is called when the table grows far too large.
    pub(crate) fn new(ring: Ring, far_too_large: fn()) -> Driver {
        Driver {
            pool: ring.pool().clone(),
            abilities: ring.abilities(),
            polls_per_enter: ring.polls_per_enter(),
            inner: RefCell::new(Inner { table: Table::new(far_too_large), ring }),
            submitted: Cell::new(false),
            silent_left: Cell::new(false),
            stay_awake: Cell::new(false),
        }
    }

    /// Starts a send of a handle.
    pub(crate) fn send<P: Payload>(&self, fd: &Fd, payload: Box<P>, token: u32) -> Key {
        self.submit(InFlight::Send { payload, fd: fd.clone(), token })
    }

    /// For several sends, silent if possible. No task may begin to wait for one of them before the next `enter`, which
    /// may sleep: a silent success does not end a sleep.
    #[inline(always)]
    pub(crate) fn sends(&self) -> Sends<'_> {
        Sends { driver: self, inner: self.inner.borrow_mut() }
    }

    /// Starts a multishot receive of a handle.
    pub(crate) fn receive(&self, fd: &Fd, cap: u32, token: u32, to: ReceiverId) -> Key {
        self.submit(InFlight::Receive { to, fd: fd.clone(), token, cap })
    }

    /// Starts an operation of a handle.
    ///
    /// # Panics
    /// If the operation has many results.
    pub(crate) fn start<O: Operation<Output = ()>>(&self, op: Box<O>) -> Key {
        self.submit(InFlight::Resident(op))
    }

    /// Starts an operation of a handle with many results.
    pub(crate) fn start_multishot<M: Multishot>(&self, op: M) -> Key {
        self.submit(InFlight::Shots(Rc::new(op)))
    }

    /// Boxes an operation of a future and calls its `prepare`, outside any borrow.
    pub(crate) fn encode<O: Operation>(&self, op: O) -> Encoded {
        Encoded::new(InFlight::Claimed(Box::new(op)), self.abilities)
    }

    /// Fails after a `Sends` was forgotten (`mem::forget`): it borrows the ring for ever.
    #[inline(always)]
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.inner.try_borrow().is_err() { Err(forgotten()) } else { Ok(()) }
    }

    fn submit(&self, op: InFlight) -> Key {
        // Outside of the borrow, as the operation describes itself here.
        self.submit_encoded(Encoded::new(op, self.abilities))
    }

    #[inline(never)]
    pub(crate) fn submit_encoded(&self, encoded: Encoded) -> Key {
        self.submitted.set(true);
        let Inner { table, ring } = &mut *self.inner.borrow_mut();
        ring.submit(table, encoded)
    }

    #[inline(always)]
    pub(crate) fn polls_per_enter(&self) -> u32 {
        self.polls_per_enter
    }

    pub(crate) fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// Destructors call this and `abandon`, so both do nothing if a `Sends` was forgotten.
    pub(crate) fn cancel(&self, key: Key) {
        let Ok(mut inner) = self.inner.try_borrow_mut() else { return };
        let Inner { table, ring } = &mut *inner;
        if table.is_in_flight(key) {
            self.submitted.set(true);
            ring.cancel(key);
        }
    }

    pub(crate) fn is_in_flight(&self, key: Key) -> bool {
        self.inner.borrow_mut().table.is_in_flight(key)
    }

    pub(crate) fn claim(&self, key: Key, waker: &Waker) -> Option<Box<dyn Any>> {
        let (ended, old) = self.inner.borrow_mut().table.claim(key, waker);
        drop(old);
        ended.map(Ended::into_any)
    }

    /// Called when the future of an operation is dropped.
    pub(crate) fn abandon(&self, key: Key) {
        let left = {
            let Ok(mut inner) = self.inner.try_borrow_mut() else { return };
            let Inner { table, ring } = &mut *inner;
            let left = table.abandon(key);
            if left.cancel {
                self.submitted.set(true);
                ring.cancel(key);
            }
            left
        };
        if let Some(ended) = left.result {
            ended.abandon();
        }
    }

    /// 0 if a `Sends` was forgotten.
    pub(crate) fn in_flight(&self) -> usize {
        self.inner.try_borrow().map_or(0, |inner| inner.table.in_flight())
    }

    /// Frees the memory of a peak.
    pub(crate) fn tidy(&self) {
        let Inner { table, ring } = &mut *self.inner.borrow_mut();
        table.tidy();
        ring.tidy();
    }

    /// Memory of the table's entries, and of the ring's state per descriptor.
    pub(crate) fn bytes(&self) -> usize {
        let inner = self.inner.borrow();
        inner.table.bytes() + inner.ring.bytes()
    }

    pub(crate) fn cancel_all(&self) {
        let Inner { table, ring } = &mut *self.inner.borrow_mut();
        for key in table.keys() {
            self.submitted.set(true);
            ring.cancel(key);
        }
    }

    /// The descriptor that the host of an embedded loop waits for, and an eventfd that other threads must signal in
    /// addition to the loop's own, if necessary.
    pub(crate) fn embed(&self) -> io::Result<(Embedded, Option<OwnedFd>)> {
        self.inner.borrow_mut().ring.embed()
    }

    /// See `Ring::next_pause`.
    pub(crate) fn next_pause(&self) -> Option<u64> {
        self.inner.try_borrow().ok()?.ring.next_pause()
    }

    /// Whether silent sends of the last `enter`, or of a turn that panicked, are unsettled: tasks may wait for them,
    /// and they would not end a sleep.
    #[inline(always)]
    pub(crate) fn silent_left(&self) -> bool {
        self.silent_left.get()
    }

    /// For a turn that ends before its `enter`: its silent sends may be unsettled, so the next `enter` must not sleep.
    pub(crate) fn leave_silent(&self) {
        self.silent_left.set(true);
    }

    /// The next `enter` must not sleep.
    pub(crate) fn stay_awake(&self) {
        self.stay_awake.set(true);
    }

    #[inline(always)]
    pub(crate) fn stays_awake(&self) -> bool {
        self.silent_left.get() || self.stay_awake.get()
    }

    /// Whether something was queued since the last `enter`.
    pub(crate) fn submitted(&self) -> bool {
        self.submitted.get()
    }

    pub(crate) fn wants_enter(&self) -> bool {
        self.inner.borrow_mut().ring.wants_enter()
    }

    /// Calls `f` for `first`, and for the following completions as long as they are data for `to`. Passes the token,
    /// the data, and whether the data fills its buffer. Afterwards the buffer is free again. `f` must not call into the
    /// driver.
    #[inline(always)]
    pub(crate) fn each_data(
        &self,
        to: ReceiverId,
        first: (u32, Filled),
        mut f: impl FnMut(u32, &[u8], bool),
    ) {
        let Inner { table, ring } = &mut *self.inner.borrow_mut();
        let mut next = Some(first);
        while let Some((token, filled)) = next {
            self.pool.lend(filled, |data, full| f(token, data, full));
            next = ring.next_data(table, to);
        }
    }

    pub(crate) fn give_back(&self, filled: Filled) {
        self.pool.lend(filled, |_, _| ());
    }

    /// The kernel did not end all operations: leaks the memory that it may still write to.
    pub(crate) fn leak(&self) {
        // If a `Sends` was forgotten, `drop` leaks instead.
        if let Ok(mut inner) = self.inner.try_borrow_mut() {
            inner.ring.leak();
        }
    }

    pub(crate) fn counters(&self) -> RingCounters {
        let Ok(mut inner) = self.inner.try_borrow_mut() else { return RingCounters::default() };
        let Inner { table, ring } = &mut *inner;
        // Silent successes are counted by the table: the ring does not see them.
        RingCounters { silent: table.silent.succeeded, ..*ring.counters() }
    }

    pub(crate) fn buffers_available(&self) -> usize {
        self.pool.available()
    }

    pub(crate) fn is_simulated(&self) -> bool {
        self.inner.borrow().ring.is_simulated()
    }

    /// Calls `f` with the simulator, if the loop runs on it.
    pub(crate) fn with_sim<R>(&self, f: impl FnOnce(&mut Sim) -> R) -> Option<R> {
        match &mut self.inner.borrow_mut().ring {
            Ring::Sim(sim) => Some(f(sim)),
            Ring::Uring(_) | Ring::Epoll(_) => None,
        }
    }
}

/// Starts several sends under one borrow of the driver.
pub(crate) struct Sends<'a> {
    driver: &'a Driver,
    inner: RefMut<'a, Inner>,
}

impl Sends<'_> {
    #[inline(always)]
    pub(crate) fn send<P: Payload>(&mut self, fd: &Fd, payload: Box<P>, token: u32) -> Key {
        self.driver.submitted.set(true);
        let Inner { table, ring } = &mut *self.inner;
        let abilities = self.driver.abilities;
        let payload = match abilities.silent_sends {
            true => match ring.send_silently(table, payload, fd, token) {
                Ok(key) => return key,
                Err(payload) => payload,
            },
            false => payload,
        };
        let op = InFlight::Send { payload, fd: fd.clone(), token };
        ring.submit(table, Encoded::new(op, abilities))
    }
}

#[cold]
#[inline(never)]
fn forgotten() -> io::Error {
    io::Error::other(
        "a Sends was forgotten (mem::forget): the ring is out of reach, and what is in it is leaked",
    )
}

impl Drop for Driver {
    /// Operations are still in flight if the close was cut short by a panic or by a forgotten `Sends`.
    fn drop(&mut self) {
        let Inner { table, ring } = self.inner.get_mut();
        if table.in_flight() > 0 {
            ring.leak();
        }
    }
}
