//! What all streams of a loop share.

use std::collections::VecDeque;

use corio_runtime::op::Receiver;

use crate::ops::{Batch, Load};

/// Empty batches that a loop keeps, at most.
const BATCHES_MAX: usize = 256;
/// Empty batches that `tidy_batches` leaves.
const BATCHES_KEPT: usize = 16;

/// See the head of the file.
pub(super) struct Common {
    /// Takes the completions of multishot receives. Handed in, as it calls the table that this is a part of.
    pub(super) receiver: &'static Receiver,
    /// Streams with something to send at the end of the turn.
    pub(super) dirty: Vec<u32>,
    /// Streams whose single receive is armed at the end of the turn.
    pub(super) due: Vec<u32>,
    /// Closed streams, which the end of the turn retires.
    pub(super) closed: VecDeque<u32>,
    /// Empty batches, for reuse.
    #[expect(clippy::vec_box, reason = "a batch goes to the kernel in its box and comes back in it")]
    pub(super) batches: Vec<Box<Batch>>,
    /// Data that will not be sent; dropped once nothing is borrowed.
    pub(super) unsent: Vec<Load>,
    pub(super) bulk_armed: usize,
    /// A round has been requested.
    pub(super) round: bool,
}

impl Common {
    pub(super) const fn new(receiver: &'static Receiver) -> Common {
        Common {
            receiver,
            dirty: Vec::new(),
            due: Vec::new(),
            closed: VecDeque::new(),
            batches: Vec::new(),
            unsent: Vec::new(),
            bulk_armed: 0,
            round: false,
        }
    }

    #[inline(never)]
    pub(super) fn empty_batch(&mut self) -> Box<Batch> {
        self.batches.pop().unwrap_or_default()
    }

    /// Keeps an empty batch for reuse.
    pub(super) fn keep_batch(&mut self, batch: Box<Batch>) {
        if self.batches.len() < BATCHES_MAX {
            self.batches.push(batch);
        }
    }

    /// Halves the number of empty batches if they are many.
    pub(super) fn tidy_batches(&mut self) {
        if self.batches.len() > BATCHES_KEPT {
            self.batches.truncate((self.batches.len() / 2).max(BATCHES_KEPT));
            self.batches.shrink_to_fit();
        }
    }
}
