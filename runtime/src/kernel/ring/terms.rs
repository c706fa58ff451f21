//! The terms of the seam: what the loop asks of a ring, and what the ring answers.

use crate::kernel::{inflight::ReceiverId, key::Key, pool::Filled};

/// Sizes of a ring, as asked for.
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
    /// Until a completion or this time of the loop's clock, in nanoseconds.
    Until(u64),
    /// Until a completion.
    Forever,
}

/// What the kernel can do, as tried at start-up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Abilities {
    pub(crate) silent_sends: bool,
    /// The most bytes that a multishot receive is asked for; 0 if the kernel knows no cap.
    pub(crate) receive_cap: u32,
    pub(crate) quiet_writes: bool,
    /// An accept may wait at once, without a try that finds nothing.
    pub(crate) patient_accepts: bool,
}

/// A multishot receive that has filled more buffers than this without a wait does not look at the socket again: it
/// takes the rest, and sleeps though a reset is behind that. (Linux 6.18: `MULTISHOT_MAX_RETRY`.)
const BUFFERS_PER_RECEIVE: u32 = 32;

impl Abilities {
    /// Of a kernel that has nothing of what is tried.
    pub(crate) const NONE: Abilities =
        Abilities { silent_sends: false, receive_cap: 0, quiet_writes: false, patient_accepts: false };

    /// Of one that has all of it.
    pub(crate) fn all(sizes: Sizes) -> Abilities {
        // Sizes are checked by the pool: a buffer has at most 1 MiB.
        let receive_cap = BUFFERS_PER_RECEIVE.saturating_mul(sizes.buffer_size as u32);
        Abilities { silent_sends: true, receive_cap, quiet_writes: true, patient_accepts: true }
    }

    /// The cap of a multishot receive that should bring about `asked` bytes (0: any number).
    pub(crate) fn cap(self, asked: u32) -> u32 {
        if asked == 0 { self.receive_cap } else { asked.min(self.receive_cap) }
    }
}

/// What the ring counted: plain numbers of one loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingCounters {
    /// Times that the kernel was entered, to submit, to wait, or both.
    pub enters: u64,
    /// Entries submitted.
    pub sqes: u64,
    /// Completions taken, without those of silent sends.
    pub cqes: u64,
    /// Times the completion queue was found overflown.
    pub overflows: u64,
    /// Cancels asked for.
    pub cancels: u64,
    /// Receives that found no provided buffer.
    pub enobufs: u64,
    /// Completions that belong to no operation: always 0 unless the kernel misbehaves.
    pub strays: u64,
    /// Silent sends that needed no completion.
    pub silent: u64,
}

/// A completion.
pub(crate) enum Next {
    None,
    /// Data of a receive, with more to come.
    Data(ReceiverId, u32, Filled),
    /// Any other, of this operation: `done` tells what it brought.
    Other(Key),
}
