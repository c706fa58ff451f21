//! The ring and the in-flight table behind one borrow: submit, cancel, enter, deliver.

use std::{
    any::Any,
    cell::{Cell, RefCell, RefMut},
    io,
    os::fd::BorrowedFd,
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
        sim::Sim,
        terms::{Abilities, RingCounters},
        uring::Encoded,
    },
};

/// No borrow is held while an operation's own code runs, but for what must neither call in nor panic: `Payload::bytes`,
/// what `Arrivals::each` calls, and an operation's description, which the simulator asks for as it executes it.
pub(crate) struct Driver {
    pub(super) inner: RefCell<Inner>,
    /// The ring's.
    pool: Pool,
    abilities: Abilities,
    polls_per_enter: u32,
    /// Whether something was queued since the last `enter`.
    pub(super) submitted: Cell<bool>,
    /// See its getter.
    pub(super) silent_left: Cell<bool>,
    /// The next `enter` is not to sleep.
    pub(super) stay_awake: Cell<bool>,
}

pub(super) struct Inner {
    pub(super) table: Table,
    pub(super) ring: Ring,
}

impl Driver {
    /// `far_too_large` hears that the table is.
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

    /// A send of a handle.
    pub(crate) fn send<P: Payload>(&self, fd: &Fd, payload: Box<P>, token: u32) -> Key {
        self.submit(InFlight::Send { payload, fd: fd.clone(), token })
    }

    /// To send several payloads, silently if that can be. Nobody may begin to wait for one before the next `enter`.
    #[inline(always)]
    pub(crate) fn sends(&self) -> Sends<'_> {
        Sends { driver: self, inner: self.inner.borrow_mut() }
    }

    /// A multishot receive of a handle.
    pub(crate) fn receive(&self, fd: &Fd, cap: u32, token: u32, to: ReceiverId) -> Key {
        self.submit(InFlight::Receive { to, fd: fd.clone(), token, cap })
    }

    /// An operation of a handle.
    ///
    /// # Panics
    /// If it has many results.
    pub(crate) fn start<O: Operation<Output = ()>>(&self, op: Box<O>) -> Key {
        self.submit(InFlight::Resident(op))
    }

    /// An operation of a handle, with many results.
    pub(crate) fn start_multishot<M: Multishot>(&self, op: M) -> Key {
        self.submit(InFlight::Shots(Rc::new(op)))
    }

    /// An operation of a future, to be submitted. Its description, which is foreign code, is over.
    pub(crate) fn encode<O: Operation>(&self, op: O) -> Encoded {
        Encoded::new(InFlight::Claimed(Box::new(op)), self.abilities)
    }

    /// Fails once somebody has forgotten a `Sends`, which has the ring for ever.
    #[inline(always)]
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.inner.try_borrow().is_err() { Err(forgotten()) } else { Ok(()) }
    }

    fn submit(&self, op: InFlight) -> Key {
        // Outside of the borrow: the operation describes itself.
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

    /// In destructors, too: so this and `abandon` have nothing to do where a `Sends` was forgotten.
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

    /// The future of an operation is gone.
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

    /// 0 where a `Sends` was forgotten.
    pub(crate) fn in_flight(&self) -> usize {
        self.inner.try_borrow().map_or(0, |inner| inner.table.in_flight())
    }

    /// Gives the memory of a peak back.
    pub(crate) fn tidy(&self) {
        let Inner { table, ring } = &mut *self.inner.borrow_mut();
        table.tidy();
        ring.tidy();
    }

    /// Memory of the operations' entries.
    pub(crate) fn bytes(&self) -> usize {
        self.inner.borrow().table.bytes()
    }

    pub(crate) fn cancel_all(&self) {
        let Inner { table, ring } = &mut *self.inner.borrow_mut();
        for key in table.keys() {
            self.submitted.set(true);
            ring.cancel(key);
        }
    }

    /// Has the kernel signal `fd`, an eventfd, at every completion from now on.
    pub(crate) fn embed(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.inner.borrow_mut().ring.embed(fd)
    }

    /// Whether silent sends are left of the last `enter`, or of a turn that a panic cut short: they may be waited for,
    /// and would not end a sleep.
    #[inline(always)]
    pub(crate) fn silent_left(&self) -> bool {
        self.silent_left.get()
    }

    /// Silent sends may be left: no `enter` has followed them.
    pub(crate) fn leave_silent(&self) {
        self.silent_left.set(true);
    }

    /// The next `enter` is not to sleep.
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

    /// Calls `f` with `first`, and with the completions after it as long as they are data for `to`: with its token, the
    /// data, and whether it fills its buffer, which then goes back to the kernel. `f` must not call into the driver.
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

    /// The kernel does not give everything back: what it may still write to is never freed.
    pub(crate) fn leak(&self) {
        // The driver's own end leaks what a forgotten `Sends` has.
        if let Ok(mut inner) = self.inner.try_borrow_mut() {
            inner.ring.leak();
        }
    }

    pub(crate) fn counters(&self) -> RingCounters {
        let Ok(mut inner) = self.inner.try_borrow_mut() else { return RingCounters::default() };
        let Inner { table, ring } = &mut *inner;
        // The one that the table counts: to the ring a silent success is nothing.
        RingCounters { silent: table.silent.succeeded, ..*ring.counters() }
    }

    pub(crate) fn buffers_available(&self) -> usize {
        self.pool.available()
    }

    pub(crate) fn is_simulated(&self) -> bool {
        self.inner.borrow().ring.is_simulated()
    }

    /// The simulator, if that is the kernel.
    pub(crate) fn with_sim<R>(&self, f: impl FnOnce(&mut Sim) -> R) -> Option<R> {
        match &mut self.inner.borrow_mut().ring {
            Ring::Sim(sim) => Some(f(sim)),
            Ring::Uring(_) => None,
        }
    }
}

/// Makes several sends.
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
    /// A loop whose close was cut short by a panic, or by a forgotten `Sends`, still has operations in flight.
    fn drop(&mut self) {
        let Inner { table, ring } = self.inner.get_mut();
        if table.in_flight() > 0 {
            ring.leak();
        }
    }
}
