//! Types of the ring's interface: requests of the loop, and answers of the ring.

use crate::kernel::{inflight::ReceiverId, key::Key, pool::Filled};

/// Requested sizes of a ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) sq: u32,
    pub(crate) cq: u32,
    pub(crate) buffer_count: u16,
    pub(crate) buffer_size: usize,
}

/// How long `enter` may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all.
    No,
    /// Until a completion or this time, in nanoseconds of the loop's clock.
    Until(u64),
    /// Until a completion.
    Forever,
}

/// The kernel's abilities, as found at start-up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Abilities {
    pub(crate) silent_sends: bool,
    /// The largest cap of a multishot receive, in bytes; 0 if the kernel supports no cap.
    pub(crate) receive_cap: u32,
    pub(crate) quiet_writes: bool,
    /// An accept may wait without first trying in vain.
    pub(crate) patient_accepts: bool,
}

/// The most buffers that a multishot receive may fill without a wait. After more it takes the rest without looking at
/// the socket again, and sleeps even if a reset follows. (Linux 6.18: `MULTISHOT_MAX_RETRY`.)
const BUFFERS_PER_RECEIVE: u32 = 32;

impl Abilities {
    /// A kernel with none of the tested abilities.
    pub(crate) const NONE: Abilities =
        Abilities { silent_sends: false, receive_cap: 0, quiet_writes: false, patient_accepts: false };

    /// A kernel with all abilities.
    pub(crate) fn all(sizes: Sizes) -> Abilities {
        // The pool checks the sizes: a buffer has at most 1 MiB.
        let receive_cap = BUFFERS_PER_RECEIVE.saturating_mul(sizes.buffer_size as u32);
        Abilities { silent_sends: true, receive_cap, quiet_writes: true, patient_accepts: true }
    }

    /// The cap of a multishot receive that should bring about `asked` bytes (0: any number).
    pub(crate) fn cap(self, asked: u32) -> u32 {
        if asked == 0 { self.receive_cap } else { asked.min(self.receive_cap) }
    }
}

/// Counters of a ring: plain numbers of one loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingCounters {
    /// On io_uring, calls of `io_uring_enter`. On epoll and in the simulator, the times that the loop began submitted
    /// operations and asked for completions.
    pub enters: u64,
    /// System calls for operations and sleeps: on io_uring the enters, in the simulator none.
    pub calls: u64,
    /// Submitted operations and cancels.
    pub sqes: u64,
    /// Completions taken, except those of silent sends.
    pub cqes: u64,
    /// Times that the completion queue had overflowed: never on epoll, which has none.
    pub overflows: u64,
    /// Requested cancels.
    pub cancels: u64,
    /// Receives that found no provided buffer.
    pub enobufs: u64,
    /// Completions without an operation: always 0 unless the kernel misbehaves.
    pub strays: u64,
    /// Silent sends that needed no completion.
    pub silent: u64,
}

/// A completion.
pub(crate) enum Next {
    None,
    /// Data of a receive that stays armed: the receiver, the token and the data.
    Data(ReceiverId, u32, Filled),
    /// Any other completion, of this operation: `done` returns its result.
    Other(Key),
}
