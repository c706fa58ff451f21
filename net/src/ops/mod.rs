//! The operations on sockets, one file each. What a completion does is defined where the operation is started
//! (`streams/completions`, `listener`).

mod accept;
mod by_thread;
mod connect;
mod hang_up;
mod recv_into;
mod recv_once;
mod segment;
mod send;

pub(crate) use accept::Accept;
pub(crate) use by_thread::{ByThread, Work};
pub(crate) use connect::Connect;
pub(crate) use hang_up::HangUp;
pub(crate) use recv_into::RecvInto;
pub(crate) use recv_once::RecvOnce;
pub(crate) use segment::Segment;
pub(crate) use send::{Batch, Load, OWNED_MIN};

/// How the bytes of a stream are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// recv and send.
    Socket,
    /// read and write, by the kernel.
    Pipe,
    /// read and write, by a thread, as they may block.
    Thread,
}
