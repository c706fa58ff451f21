//! The ring and the in-flight table behind one borrow: submit, cancel, enter, deliver.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    io,
    panic::{self, AssertUnwindSafe},
    task::Waker,
};

use crate::{
    exception,
    op::{
        OpKey,
        inflight::{Delivery, Ended, InFlight, Table},
    },
    ring::{Completion, Ring, RingCounters, Wait},
};

/// No borrow is held while an operation's own code runs, except `prepare`.
pub(crate) struct Driver {
    inner: RefCell<Inner>,
    /// Whether something was queued since the last `enter`.
    submitted: Cell<bool>,
}

struct Inner {
    table: Table,
    ring: Ring,
}

impl Driver {
    pub(crate) fn new(ring: Ring) -> Driver {
        Driver { inner: RefCell::new(Inner { table: Table::new(), ring }), submitted: Cell::new(false) }
    }

    #[inline(always)]
    pub(crate) fn submit(&self, op: InFlight) -> OpKey {
        self.submitted.set(true);
        let Inner { table, ring } = &mut *self.inner.borrow_mut();
        ring.submit(table, op)
    }

    pub(crate) fn cancel(&self, key: OpKey) {
        let Inner { table, ring } = &mut *self.inner.borrow_mut();
        if table.is_in_flight(key) {
            self.submitted.set(true);
            ring.cancel(key);
        }
    }

    pub(crate) fn claim(&self, key: OpKey, waker: &Waker) -> Option<Box<dyn Any>> {
        let (ended, old) = self.inner.borrow_mut().table.claim(key, waker);
        drop(old);
        ended.map(Ended::into_any)
    }

    /// The future of an operation is gone.
    pub(crate) fn abandon(&self, key: OpKey) {
        let left = {
            let Inner { table, ring } = &mut *self.inner.borrow_mut();
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

    pub(crate) fn in_flight(&self) -> usize {
        self.inner.borrow().table.in_flight()
    }

    pub(crate) fn cancel_all(&self) {
        let Inner { table, ring } = &mut *self.inner.borrow_mut();
        for key in table.keys() {
            self.submitted.set(true);
            ring.cancel(key);
        }
    }

    /// Whether something was queued since the last `enter`.
    pub(crate) fn submitted(&self) -> bool {
        self.submitted.get()
    }

    pub(crate) fn wants_enter(&self) -> bool {
        self.inner.borrow_mut().ring.wants_enter()
    }

    /// Submits, sleeps as `wait` says, and delivers what came.
    pub(crate) fn enter(&self, wait: Wait) -> io::Result<()> {
        self.submitted.set(false);
        {
            let Inner { table, ring } = &mut *self.inner.borrow_mut();
            ring.enter(table, wait)?;
            ring.arrived();
        }
        // An operation is library code, but a panic of one must not cost the others their completions, nor the
        // kernel the operation. The panic hook has told of it.
        while panic::catch_unwind(AssertUnwindSafe(|| self.deliver_all())).is_err() {}
        Ok(())
    }

    fn deliver_all(&self) {
        while let Some(delivery) = self.next() {
            match delivery {
                Delivery::Item(op, done) => op.deliver(done),
                Delivery::End(op, done) => op.finish(done),
                Delivery::Last(op, done) => op.finish(done),
                Delivery::Claimed(waker) => waker.into_iter().for_each(exception::wake),
                Delivery::Abandoned(op, done) => op.abandon(done),
                Delivery::Stray => self.stray(),
            }
        }
    }

    #[inline(always)]
    fn next(&self) -> Option<Delivery> {
        let Inner { table, ring } = &mut *self.inner.borrow_mut();
        let Completion { key, done } = ring.next(table)?;
        Some(table.deliver(key, done))
    }

    fn stray(&self) {
        self.inner.borrow_mut().ring.counters().strays += 1;
    }

    /// The kernel does not give everything back: what it may still write to is never freed.
    pub(crate) fn leak(&self) {
        let Inner { table, ring } = &mut *self.inner.borrow_mut();
        ring.leak();
        std::mem::forget(std::mem::replace(table, Table::new()));
    }

    pub(crate) fn counters(&self) -> RingCounters {
        *self.inner.borrow_mut().ring.counters()
    }

    pub(crate) fn buffers_available(&self) -> usize {
        self.inner.borrow().ring.buffers_available()
    }

    /// The simulator, if that is the kernel.
    pub(crate) fn with_sim<R>(&self, f: impl FnOnce(&mut crate::ring::sim::Sim) -> R) -> Option<R> {
        match &mut self.inner.borrow_mut().ring {
            Ring::Sim(sim) => Some(f(sim)),
            Ring::Uring(_) => None,
        }
    }
}
