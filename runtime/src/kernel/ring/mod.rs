//! The kernel behind one narrow seam: submit an operation, cancel, enter, and take the completions (`arrived`, `next`,
//! `next_data`, `done`).
//!
//! Two kernels stand behind it: io_uring and the simulator. What the simulator lacks asks by `Driver::with_sim`.

mod not_entered;
mod outcome;
mod perform;
pub(crate) mod refusal;
mod self_test;
mod set_up;
pub(crate) mod sim;
pub(crate) mod terms;
pub(crate) mod unpark;
pub(crate) mod uring;

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use crate::{
    kernel::{
        fd::Fd,
        inflight::{ReceiverId, Table},
        key::Key,
        operation::Done,
        payload::Payload,
        pool::{Filled, Pool},
        ring::{
            refusal::Refusal,
            terms::{Abilities, Next, RingCounters, Sizes, Wait},
            unpark::Unpark,
            uring::{Encoded, Uring},
        },
    },
    scheduler::clock::Clock,
};

pub(crate) enum Ring {
    Uring(Box<Uring>),
    Sim(Box<sim::Sim>),
}

impl Ring {
    /// io_uring, and what the kernel can do of it.
    pub(crate) fn uring(sizes: Sizes, pool: Pool, clock: Clock) -> Result<Ring, Refusal> {
        let mut uring = Uring::new(sizes, pool, clock)?;
        self_test::try_all(&mut uring)?;
        Ok(Ring::Uring(Box::new(uring)))
    }

    /// Puts `op` into the table and its SQE into the queue. Never fails: what does not fit waits.
    #[inline(always)]
    pub(crate) fn submit(&mut self, table: &mut Table, encoded: Encoded) -> Key {
        match self {
            Ring::Uring(ring) => ring.submit(table, encoded),
            Ring::Sim(sim) => sim.submit(table, encoded.into_operation()),
        }
    }

    /// A send of `payload` that reports nothing if it sends everything; gives it back if that cannot be.
    #[inline(always)]
    pub(crate) fn send_silently<P: Payload>(
        &mut self,
        table: &mut Table,
        payload: Box<P>,
        fd: &Fd,
        token: u32,
    ) -> Result<Key, Box<P>> {
        match self {
            Ring::Uring(ring) => ring.send_silently(table, payload, fd, token),
            Ring::Sim(sim) => Ok(sim.send_silently(table, payload, fd, token)),
        }
    }

    pub(crate) fn abilities(&self) -> Abilities {
        match self {
            Ring::Uring(ring) => ring.abilities,
            Ring::Sim(sim) => sim.abilities,
        }
    }

    /// Uses nothing from now on that old kernels lack.
    pub(crate) fn be_old(&mut self) {
        match self {
            Ring::Uring(ring) => ring.abilities = Abilities::NONE,
            Ring::Sim(sim) => sim.abilities = Abilities::NONE,
        }
    }

    /// Asks for the end of an operation; its own final completion tells how it ended.
    pub(crate) fn cancel(&mut self, key: Key) {
        match self {
            Ring::Uring(ring) => ring.cancel(key),
            Ring::Sim(sim) => sim.cancel(key),
        }
    }

    /// Submits everything queued, and sleeps as `wait` says unless completions are there.
    pub(crate) fn enter(&mut self, table: &mut Table, wait: Wait) -> io::Result<()> {
        match self {
            Ring::Uring(ring) => ring.enter(wait),
            Ring::Sim(sim) => sim.enter(table, wait),
        }
    }

    /// Whether work waits on either side, so that `enter` should not be put off.
    pub(crate) fn wants_enter(&mut self) -> bool {
        match self {
            Ring::Uring(ring) => ring.wants_enter(),
            Ring::Sim(sim) => sim.wants_enter(),
        }
    }

    /// To be called after an `enter`, before the completions are taken.
    pub(crate) fn arrived(&mut self, table: &mut Table) {
        match self {
            Ring::Uring(ring) => ring.arrived(table),
            Ring::Sim(sim) => sim.arrived(table),
        }
    }

    /// Takes the next completion, which must be delivered before the next is asked for.
    #[inline(always)]
    pub(crate) fn next(&mut self, table: &mut Table) -> Next {
        match self {
            Ring::Uring(ring) => ring.next(table),
            Ring::Sim(sim) => sim.next(table),
        }
    }

    /// Takes the next completion, if it is data for `to`.
    #[inline(always)]
    pub(crate) fn next_data(&mut self, table: &mut Table, to: ReceiverId) -> Option<(u32, Filled)> {
        match self {
            Ring::Uring(ring) => ring.next_data(table, to),
            Ring::Sim(sim) => sim.next_data(table, to),
        }
    }

    /// What the completion brought that `next` gave last, as `Next::Other`.
    pub(crate) fn done(&mut self, table: &mut Table) -> Done {
        match self {
            Ring::Uring(ring) => ring.done(table),
            Ring::Sim(sim) => sim.done(),
        }
    }

    /// The kernel could not be stopped: nothing that it may still write to is ever freed.
    pub(crate) fn leak(&mut self) {
        match self {
            Ring::Uring(ring) => ring.leak(),
            Ring::Sim(_) => {}
        }
    }

    /// Gives the memory of a peak back.
    pub(crate) fn tidy(&mut self) {
        match self {
            Ring::Uring(ring) => ring.tidy(),
            Ring::Sim(_) => {}
        }
    }

    /// Has `fd`, an eventfd, signalled at every completion from now on, for a host that waits itself.
    pub(crate) fn embed(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        match self {
            Ring::Uring(ring) => ring.embed(fd),
            Ring::Sim(_) => {
                Err(io::Error::new(io::ErrorKind::Unsupported, "the simulator's time is its own"))
            }
        }
    }

    /// How another thread ends the sleep of `enter`, and what an operation of the loop has to read for that, if
    /// anything.
    pub(crate) fn unpark(&self) -> Result<(Unpark, Option<OwnedFd>), Refusal> {
        match self {
            Ring::Uring(_) => Unpark::eventfd().map(|(unpark, read)| (unpark, Some(read))),
            Ring::Sim(_) => Ok((Unpark::thread(), None)),
        }
    }

    pub(crate) fn is_simulated(&self) -> bool {
        matches!(self, Ring::Sim(_))
    }

    /// How many polls of tasks a busy loop makes before it enters the kernel in any case.
    pub(crate) fn polls_per_enter(&self) -> u32 {
        match self {
            // io_uring's flags tell meanwhile whether something is there; the simulator's time is its own.
            Ring::Uring(_) | Ring::Sim(_) => 256,
        }
    }

    pub(crate) fn counters(&mut self) -> &mut RingCounters {
        match self {
            Ring::Uring(ring) => &mut ring.counters,
            Ring::Sim(sim) => &mut sim.counters,
        }
    }

    /// What receives fill.
    pub(crate) fn pool(&self) -> &Pool {
        match self {
            Ring::Uring(ring) => &ring.pool,
            Ring::Sim(sim) => sim.pool(),
        }
    }
}
