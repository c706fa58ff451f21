//! Enters the kernel, and delivers each completion to its operation.

use std::{
    io,
    panic::{self, AssertUnwindSafe},
    task::Waker,
};

use crate::{
    kernel::{
        driver::{Driver, Inner},
        inflight::{Delivery, Ended},
        key::Key,
        receive::{Arrivals, Receivers},
        ring::terms::{Next, Wait},
        silent,
    },
    scheduler::{task_error::discard, task_table::TaskTable},
};

/// The destinations of completions, besides their operations.
#[derive(Clone, Copy)]
pub(crate) struct To<'a> {
    pub(crate) receivers: &'a Receivers,
    /// The tasks, whose wakers are numbers.
    pub(crate) tasks: &'a TaskTable,
    /// Wakes any other waker: foreign code.
    pub(crate) wake: fn(Waker),
}

impl Driver {
    /// Submits, sleeps as `wait` says, and delivers the completions.
    pub(crate) fn enter(&self, wait: Wait, to: To<'_>) -> io::Result<()> {
        self.submitted.set(false);
        self.stay_awake.set(false);
        {
            let Inner { table, ring } = &mut *self.inner.borrow_mut();
            ring.enter(table, wait)?;
            ring.arrived(table);
        }
        // Operations are library code. Still, the panic of one must not cost the others their completions, nor free an
        // operation that the kernel has. The panic hook has reported it.
        while let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| self.deliver_all(to))) {
            discard(payload);
        }
        self.silent_left.set(self.inner.borrow().table.silent.len() > 0);
        Ok(())
    }

    /// Silent sends are last: those that reported have left the table by then.
    #[inline(always)]
    fn deliver_all(&self, to: To<'_>) {
        while self.deliver_next(to) {}
        while let Some(send) = self.next_silent() {
            send.finish_silently();
        }
    }

    #[inline(always)]
    fn next_silent(&self) -> Option<silent::Sending> {
        self.inner.borrow_mut().table.silent.next_over()
    }

    /// Delivers the next completion; `false` if there is none.
    #[inline(always)]
    fn deliver_next(&self, to: To<'_>) -> bool {
        let next = {
            let Inner { table, ring } = &mut *self.inner.borrow_mut();
            ring.next(table)
        };
        match next {
            Next::None => return false,
            Next::Data(whose, token, filled) => {
                let mut arrivals = Arrivals::new(self, to.tasks, whose, (token, filled), to.wake);
                (to.receivers.get(whose).data)(&mut arrivals);
                arrivals.finish();
            }
            Next::Other(key) => self.deliver_other(key, to),
        }
        true
    }

    #[inline(never)]
    fn deliver_other(&self, key: Key, to: To<'_>) {
        let done = {
            let Inner { table, ring } = &mut *self.inner.borrow_mut();
            ring.done(table)
        };
        if done.more {
            let item = self.inner.borrow_mut().table.item(key);
            return match item {
                Some(op) => op.deliver(done),
                None => self.stray(),
            };
        }
        let last = self.inner.borrow_mut().table.deliver(key);
        match last {
            Delivery::Sent(send) => send.finish(done.res),
            Delivery::Received { to: whose, fd, token } => {
                drop(fd);
                (to.receivers.get(whose).end)(token, done);
            }
            Delivery::End(op) => op.finish(done),
            Delivery::Last(op) => op.finish(done),
            Delivery::Abandoned(op) => op.abandon(done),
            Delivery::Claimed(op) => self.keep(key, op.finish(done), to.wake),
            Delivery::Stray => self.stray(),
        }
    }

    fn stray(&self) {
        self.inner.borrow_mut().ring.counters().strays += 1;
    }

    /// Keeps the result of an operation for its future, and wakes the waiting task.
    fn keep(&self, key: Key, ended: Box<dyn Ended>, wake: fn(Waker)) {
        let waker = self.inner.borrow_mut().table.keep(key, ended);
        waker.into_iter().for_each(wake);
    }
}
