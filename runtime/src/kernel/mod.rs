//! The kernel's side of a loop: operations, the in-flight table, descriptors and buffers, and the ring with its
//! kernels. Nothing here depends on the loop.

pub(crate) mod connection;
mod delivery;
pub(crate) mod driver;
pub mod error;
pub(crate) mod fd;
pub(crate) mod inflight;
pub(crate) mod key;
pub(crate) mod operation;
pub(crate) mod payload;
pub(crate) mod pool;
pub(crate) mod receive;
pub(crate) mod ring;
mod scratch;
mod silent;
pub(crate) mod socket;
pub(crate) mod sqe;

pub(crate) use delivery::To;
