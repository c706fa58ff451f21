//! The simulator: a deterministic kernel with a virtual clock and an in-memory network.

use std::{
    collections::VecDeque,
    fmt, io,
    net::{Shutdown, SocketAddr},
};

use super::{Completion, RingCounters, Sizes, Wait};
use crate::{
    clock::Clock,
    fd::Fd,
    op::{
        OpKey,
        inflight::{InFlight, Owner, Table},
    },
    socket::ListenOptions,
};

/// Faults that the simulator injects.
#[derive(Clone, Debug, Default)]
pub struct Faults {}

pub(crate) struct Sim {
    pub(crate) counters: RingCounters,
}

impl Sim {
    pub(crate) fn new(_seed: u64, _sizes: Sizes, _faults: Faults, _clock: Clock) -> Sim {
        Sim { counters: RingCounters::default() }
    }
    pub(crate) fn submit(&mut self, table: &mut Table, op: InFlight, owner: Owner) -> OpKey {
        table.insert(op, None, false, owner)
    }
    pub(crate) fn cancel(&mut self, _key: OpKey) {}
    pub(crate) fn enter(&mut self, _table: &mut Table, _wait: Wait) -> io::Result<()> {
        Ok(())
    }
    pub(crate) fn wants_enter(&self) -> bool {
        true
    }
    pub(crate) fn drain(&mut self, _out: &mut VecDeque<Completion>) {}
    pub(crate) fn buffers_available(&self) -> usize {
        0
    }
    pub(crate) fn listen(&mut self, _addr: SocketAddr, _options: ListenOptions) -> io::Result<Fd> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(crate) fn connector(&mut self, _local: Option<SocketAddr>) -> io::Result<Fd> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// An open file description of the simulated network, closed when dropped.
pub(crate) struct Socket {}

impl Socket {
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(crate) fn shutdown(&self, _how: Shutdown) {}
    pub(crate) fn reset_on_close(&self) {}
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sim::Socket")
    }
}
