//! Sends a batch of segments: one buffer, or several as a vectored send; to what is no socket, one after the other.

use std::collections::VecDeque;

use bytes::Bytes;
use corio_runtime::{
    fd::Fd,
    op::{Done, Operation, Sqe},
};

use crate::streams::{Chunk, TABLE};

/// The kernel's `UIO_MAXIOV`.
const SEGMENTS_MAX: usize = 1024;
/// Copied data that a batch keeps the memory of.
const SPARE_MAX: usize = 64 << 10;

/// A piece of what is to be sent.
#[derive(Debug)]
pub(crate) enum Segment {
    Copied(Vec<u8>),
    Vec(Vec<u8>),
    Chunk(Chunk),
    Bytes(Bytes),
}

impl AsRef<[u8]> for Segment {
    #[inline(always)]
    fn as_ref(&self) -> &[u8] {
        match self {
            Segment::Copied(data) | Segment::Vec(data) => data,
            Segment::Chunk(data) => data,
            Segment::Bytes(data) => data,
        }
    }
}

/// What one send takes to the kernel. Batches are pooled: an idle stream has none.
#[derive(Debug, Default)]
pub(crate) struct Send {
    pub(crate) fd: Option<Fd>,
    pub(crate) slot: u32,
    /// `None` only in an empty batch. Apart from `rest`, which most batches never use.
    first: Option<Segment>,
    rest: VecDeque<Segment>,
    /// Of the first segment.
    sent: usize,
    pub(crate) len: usize,
    pub(crate) silent: bool,
    pub(crate) pipe: bool,
    spare: Vec<u8>,
}

impl Send {
    /// Appends `data` of `len` bytes as a segment, which is made in its place.
    #[inline(always)]
    pub(crate) fn push<D>(&mut self, data: D, len: usize, segment: impl FnOnce(D) -> Segment) {
        self.len += len;
        match self.first {
            None => self.first = Some(segment(data)),
            Some(_) => self.push_back(segment(data)),
        }
    }

    #[inline(never)]
    fn push_back(&mut self, segment: Segment) {
        self.rest.push_back(segment);
    }

    pub(crate) fn copy(&mut self, data: &[u8]) {
        if let Some(Segment::Copied(tail)) = self.rest.back_mut().or(self.first.as_mut()) {
            self.len += data.len();
            return tail.extend_from_slice(data);
        }
        let mut tail = std::mem::take(&mut self.spare);
        tail.extend_from_slice(data);
        self.push(tail, data.len(), Segment::Copied);
    }

    /// Drops what was sent, which is not all.
    pub(crate) fn consume(&mut self, count: usize) {
        self.len -= count;
        let mut left = count;
        while let Some(segment) = &self.first {
            let rest = segment.as_ref().len() - self.sent;
            if left < rest {
                self.sent += left;
                return;
            }
            left -= rest;
            self.sent = 0;
            self.first = self.rest.pop_front();
        }
    }

    /// Drops everything. A small copy's memory is kept.
    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        if let Some(Segment::Copied(data)) = &mut self.first
            && data.capacity() <= SPARE_MAX
        {
            data.clear();
            self.spare = std::mem::take(data);
        }
        self.first = None;
        if !self.rest.is_empty() {
            self.rest.clear();
        }
        (self.sent, self.len) = (0, 0);
    }
}

impl Operation for Send {
    type Output = ();

    #[inline(always)]
    fn prepare(&mut self) -> Sqe<'_> {
        // A batch without a descriptor or data is never submitted.
        let (Some(fd), Some(first)) = (&self.fd, &self.first) else { return Sqe::nop() };
        let first = &first.as_ref()[self.sent..];
        if self.pipe {
            return Sqe::write(fd, first);
        }
        if !self.rest.is_empty() {
            return vectored(fd, first, &self.rest);
        }
        let sqe = Sqe::send(fd, first);
        if self.silent { sqe.silent() } else { sqe }
    }

    fn complete(self: Box<Self>, done: Done) {
        let result = done.into_number();
        TABLE.existing(|streams| streams.sent(self, result));
    }
}

#[inline(never)]
fn vectored<'a>(fd: &'a Fd, first: &'a [u8], rest: &'a VecDeque<Segment>) -> Sqe<'a> {
    let rest = rest.iter().map(Segment::as_ref);
    Sqe::send_vectored(fd, std::iter::once(first).chain(rest).take(SEGMENTS_MAX).collect())
}
