//! What the streams of a loop have in common.

use std::collections::VecDeque;

use corio_runtime::op::Receiver;

use crate::ops::{Batch, Load};

/// How many empty batches a loop keeps.
const BATCHES_MAX: usize = 256;
/// How many it keeps in any case.
const BATCHES_KEPT: usize = 16;

/// See the head of the file.
pub(super) struct Common {
    /// Takes what the multishot receives bring. It tells the table, which this is a part of: so it is handed in.
    pub(super) receiver: &'static Receiver,
    /// Streams that the end of the turn sends for.
    pub(super) dirty: Vec<u32>,
    /// Streams whose single receive the end of the turn arms.
    pub(super) due: Vec<u32>,
    /// Closed streams that the end of the turn retires.
    pub(super) closed: VecDeque<u32>,
    /// Empty ones.
    #[expect(clippy::vec_box, reason = "a batch goes to the kernel in its box and comes back in it")]
    pub(super) batches: Vec<Box<Batch>>,
    /// What will not be sent, until nothing is borrowed.
    pub(super) unsent: Vec<Load>,
    pub(super) bulk_armed: usize,
    /// A round has been asked for.
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

    /// Keeps an empty batch for the next that needs one.
    pub(super) fn keep_batch(&mut self, batch: Box<Batch>) {
        if self.batches.len() < BATCHES_MAX {
            self.batches.push(batch);
        }
    }

    /// Of the empty batches half is enough if they are many.
    pub(super) fn tidy_batches(&mut self) {
        if self.batches.len() > BATCHES_KEPT {
            self.batches.truncate((self.batches.len() / 2).max(BATCHES_KEPT));
            self.batches.shrink_to_fit();
        }
    }
}
