//! Pieces of the data to send.

use std::{
    collections::VecDeque,
    mem,
    panic::{self, AssertUnwindSafe},
    thread,
};

use bytes::Bytes;

use crate::streams::Chunk;

/// A piece of the data to send.
#[derive(Debug)]
pub(crate) enum Segment {
    Vec(Vec<u8>),
    Chunk(Chunk),
    Bytes(Foreign),
}

/// Bytes with a destructor of their own.
#[derive(Debug)]
pub(crate) struct Foreign(Bytes);

impl Drop for Foreign {
    /// A second panic while the first unwinds would abort the process: only the first one propagates.
    fn drop(&mut self) {
        if thread::panicking() {
            let bytes = mem::take(&mut self.0);
            if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(bytes))) {
                // The payload's destructor may panic, too.
                mem::forget(panic::catch_unwind(AssertUnwindSafe(|| drop(payload))));
            }
        }
    }
}

impl From<Bytes> for Segment {
    fn from(bytes: Bytes) -> Segment {
        Segment::Bytes(Foreign(bytes))
    }
}

impl AsRef<[u8]> for Segment {
    #[inline(always)]
    fn as_ref(&self) -> &[u8] {
        match self {
            Segment::Vec(data) => data,
            Segment::Chunk(data) => data,
            Segment::Bytes(Foreign(data)) => data,
        }
    }
}

/// The segments of a batch, for another thread.
pub(crate) struct Pieces {
    pub(super) first: Option<Segment>,
    pub(super) rest: VecDeque<Segment>,
    /// Bytes of the first segment that were written.
    pub(super) sent: usize,
    pub(super) len: usize,
}

impl Pieces {
    /// The unsent bytes.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let first = self.first.as_ref().map_or(&[][..], |first| &first.as_ref()[self.sent..]);
        std::iter::once(first).chain(self.rest.iter().map(Segment::as_ref))
    }
}
