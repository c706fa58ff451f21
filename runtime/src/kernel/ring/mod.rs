//! The ring: one narrow interface to the kernel. Submit an operation, cancel, enter, and take the completions
//! (`arrived`, `next`, `next_data`, `done`).
//!
//! Three kernels implement it: io_uring, epoll and the simulator. Functions that the simulator does differently reach
//! it by `Driver::with_sim`.

pub(crate) mod embedded;
pub(crate) mod epoll;
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
    os::fd::{AsFd, OwnedFd},
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::{
    kernel::{
        fd::Fd,
        inflight::{ReceiverId, Table},
        key::Key,
        operation::Done,
        payload::Payload,
        pool::{Filled, Pool},
        ring::{
            embedded::Embedded,
            epoll::Epoll,
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
    Epoll(Box<Epoll>),
    Sim(Box<sim::Sim>),
}

impl Ring {
    /// An io_uring ring, with the kernel's abilities from the self-tests.
    pub(crate) fn uring(sizes: Sizes, pool: Pool, clock: Clock) -> Result<Ring, Refusal> {
        let mut uring = Uring::new(sizes, pool, clock)?;
        self_test::try_all(&mut uring)?;
        Ok(Ring::Uring(Box::new(uring)))
    }

    /// An epoll ring, if io_uring is refused or not wanted. `far_too_large` is called when a table grows far too large.
    pub(crate) fn epoll(
        sizes: Sizes,
        pool: Pool,
        clock: Clock,
        far_too_large: fn(),
    ) -> Result<Ring, Refusal> {
        Ok(Ring::Epoll(Box::new(Epoll::new(sizes, pool, clock, far_too_large)?)))
    }

    /// Puts an operation into the table and queues it. Never fails: what does not fit into the kernel's queue waits in
    /// a backlog.
    #[inline(always)]
    pub(crate) fn submit(&mut self, table: &mut Table, encoded: Encoded) -> Key {
        match self {
            Ring::Uring(ring) => ring.submit(table, encoded),
            Ring::Epoll(ring) => ring.submit(table, encoded.into_operation()),
            Ring::Sim(sim) => sim.submit(table, encoded.into_operation()),
        }
    }

    /// Sends `payload`, with no completion if everything is sent. Gives the payload back if it cannot be sent that way.
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
            Ring::Epoll(ring) => Ok(ring.send_silently(table, payload, fd, token)),
            Ring::Sim(sim) => Ok(sim.send_silently(table, payload, fd, token)),
        }
    }

    pub(crate) fn abilities(&self) -> Abilities {
        match self {
            Ring::Uring(ring) => ring.abilities,
            Ring::Epoll(ring) => ring.abilities(),
            Ring::Sim(sim) => sim.abilities,
        }
    }

    /// Behaves from now on as on an old kernel, without the abilities that self-tests try.
    pub(crate) fn be_old(&mut self) {
        match self {
            Ring::Uring(ring) => ring.abilities = Abilities::NONE,
            Ring::Epoll(ring) => ring.set_abilities(Abilities::NONE),
            Ring::Sim(sim) => sim.abilities = Abilities::NONE,
        }
    }

    /// Requests the end of an operation; its own final completion reports the result.
    pub(crate) fn cancel(&mut self, key: Key) {
        match self {
            Ring::Uring(ring) => ring.cancel(key),
            Ring::Epoll(ring) => ring.cancel(key),
            Ring::Sim(sim) => sim.cancel(key),
        }
    }

    /// Submits everything queued, and sleeps as `wait` says unless there are completions.
    pub(crate) fn enter(&mut self, table: &mut Table, wait: Wait) -> io::Result<()> {
        match self {
            Ring::Uring(ring) => ring.enter(wait),
            Ring::Epoll(ring) => ring.enter(table, wait),
            Ring::Sim(sim) => sim.enter(table, wait),
        }
    }

    /// Whether submissions or completions are pending, so that `enter` should not be delayed.
    pub(crate) fn wants_enter(&mut self) -> bool {
        match self {
            Ring::Uring(ring) => ring.wants_enter(),
            Ring::Epoll(ring) => ring.wants_enter(),
            Ring::Sim(sim) => sim.wants_enter(),
        }
    }

    /// To be called after an `enter`, before the completions are taken. Settles the silent sends that will not report.
    pub(crate) fn arrived(&mut self, table: &mut Table) {
        match self {
            Ring::Uring(ring) => ring.arrived(table),
            Ring::Epoll(ring) => ring.arrived(table),
            Ring::Sim(sim) => sim.arrived(table),
        }
    }

    /// Takes the next completion, which must be delivered before the next is asked for.
    #[inline(always)]
    pub(crate) fn next(&mut self, table: &mut Table) -> Next {
        match self {
            Ring::Uring(ring) => ring.next(table),
            Ring::Epoll(ring) => ring.next(table),
            Ring::Sim(sim) => sim.next(table),
        }
    }

    /// Takes the next completion, if it is data for `to`.
    #[inline(always)]
    pub(crate) fn next_data(&mut self, table: &mut Table, to: ReceiverId) -> Option<(u32, Filled)> {
        match self {
            Ring::Uring(ring) => ring.next_data(table, to),
            Ring::Epoll(ring) => ring.next_data(table, to),
            Ring::Sim(sim) => sim.next_data(table, to),
        }
    }

    /// The result of the completion that `next` returned last as `Next::Other`.
    pub(crate) fn done(&mut self, table: &mut Table) -> Done {
        match self {
            Ring::Uring(ring) => ring.done(table),
            Ring::Epoll(ring) => ring.done(),
            Ring::Sim(sim) => sim.done(),
        }
    }

    /// The kernel did not end all operations: leaks the memory that it may still write to.
    pub(crate) fn leak(&mut self) {
        match self {
            Ring::Uring(ring) => ring.leak(),
            Ring::Epoll(_) | Ring::Sim(_) => {}
        }
    }

    /// Frees the memory of a peak.
    pub(crate) fn tidy(&mut self) {
        match self {
            Ring::Uring(ring) => ring.tidy(),
            Ring::Epoll(ring) => ring.tidy(),
            Ring::Sim(_) => {}
        }
    }

    /// Memory of the state that the ring keeps per descriptor, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Ring::Epoll(ring) => ring.bytes(),
            Ring::Uring(_) | Ring::Sim(_) => 0,
        }
    }

    /// A descriptor that becomes readable when there is something to do, for a host that sleeps itself; and an eventfd
    /// that other threads must signal in addition to the loop's own, if necessary.
    pub(crate) fn embed(&mut self) -> io::Result<(Embedded, Option<OwnedFd>)> {
        match self {
            Ring::Uring(ring) => {
                // Made first: a failure leaves nothing registered with the kernel, and the next call may succeed.
                let fd = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
                let others = fd.as_fd().try_clone_to_owned()?;
                ring.embed(fd.as_fd())?;
                // Signals earlier completions, which the kernel does not. The write fails only if the counter is full:
                // it is readable then, too.
                let _ = fd.write(1);
                Ok((Embedded::EventFd(fd), Some(others)))
            }
            Ring::Epoll(ring) => Ok((Embedded::Epoll(ring.embed()?), None)),
            Ring::Sim(_) => {
                Err(io::Error::new(io::ErrorKind::Unsupported, "the simulator's time is its own"))
            }
        }
    }

    /// The means by which another thread ends the sleep of `enter`, and the descriptor that the loop must read for it,
    /// if any.
    pub(crate) fn unpark(&mut self) -> Result<(Unpark, Option<OwnedFd>), Refusal> {
        match self {
            Ring::Uring(_) => Unpark::eventfd().map(|(unpark, read)| (unpark, Some(read))),
            Ring::Epoll(ring) => Ok((ring.unpark()?, None)),
            Ring::Sim(_) => Ok((Unpark::thread(), None)),
        }
    }

    /// The end of the first pause, in the loop's time, if the host of an embedded loop has to time it. io_uring signals
    /// it.
    pub(crate) fn next_pause(&self) -> Option<u64> {
        match self {
            Ring::Epoll(ring) => ring.next_pause(),
            Ring::Uring(_) | Ring::Sim(_) => None,
        }
    }

    pub(crate) fn is_simulated(&self) -> bool {
        matches!(self, Ring::Sim(_))
    }

    /// The most polls of tasks that a busy loop makes before it enters the kernel.
    pub(crate) fn polls_per_enter(&self) -> u32 {
        match self {
            // Between enters, io_uring's flags show whether something arrived; the simulator has virtual time.
            Ring::Uring(_) | Ring::Sim(_) => 256,
            Ring::Epoll(_) => 64,
        }
    }

    pub(crate) fn counters(&mut self) -> &mut RingCounters {
        match self {
            Ring::Uring(ring) => &mut ring.counters,
            Ring::Epoll(ring) => ring.counters(),
            Ring::Sim(sim) => &mut sim.counters,
        }
    }

    /// The buffers that receives fill.
    pub(crate) fn pool(&self) -> &Pool {
        match self {
            Ring::Uring(ring) => &ring.pool,
            Ring::Epoll(ring) => ring.pool(),
            Ring::Sim(sim) => sim.pool(),
        }
    }
}
