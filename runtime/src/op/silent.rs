//! The silent sends in flight: they report nothing if they send everything.
//!
//! A part of the in-flight table and of its proof: a send leaves it only by `report`, on its CQE, and by `next_over`,
//! when the kernel has left that out. They end in the order in which they began, nearly always all at once, so they
//! are a queue, and a key is a number in it.

use std::mem;

use super::{Sqe, inflight::Key};
use crate::{fd::Fd, op::Payload};

/// A send, and whom it tells.
pub(crate) struct Sending {
    pub(crate) payload: Box<dyn Payload>,
    pub(crate) fd: Fd,
    pub(crate) token: u32,
}

impl Sending {
    /// The kernel is finished with it.
    #[inline(always)]
    pub(crate) fn finish(self, result: i32) {
        let Sending { payload, fd, token } = self;
        drop(fd);
        payload.sent(token, result);
    }
}

/// See the head of the file.
#[derive(Default)]
pub(crate) struct SilentSends {
    /// The places of a queue, used again: what is in flight is from `over` to `end`.
    places: Vec<Silent>,
    over: usize,
    end: usize,
    /// The number of what is in the first place.
    first: u32,
    /// Those before which fewer SQEs were pushed have reported, if they ever will.
    settled: u64,
    /// How many have succeeded, without a report.
    pub(crate) succeeded: u64,
}

struct Silent {
    /// `None` once it is over.
    send: Option<Sending>,
    len: u32,
    /// How many SQEs were pushed before this one.
    pushed: u64,
}

impl SilentSends {
    /// How many there are, with those that have reported behind one that has not.
    pub(crate) fn len(&self) -> usize {
        self.end - self.over
    }

    fn queue(&self) -> &[Silent] {
        &self.places[self.over..self.end]
    }

    /// A send of `len` bytes, before which `pushed` SQEs were pushed.
    #[inline(always)]
    pub(crate) fn push(
        &mut self,
        payload: Box<dyn Payload>,
        fd: &Fd,
        token: u32,
        len: u32,
        pushed: u64,
    ) -> Key {
        let key = Key::of_silent(self.first.wrapping_add(self.end as u32));
        let send = Some(Sending { payload, fd: fd.clone(), token });
        match self.places.get_mut(self.end) {
            Some(place) => {
                // There is nothing to drop in it, which the compiler cannot know.
                mem::forget(mem::replace(&mut place.send, send));
                (place.len, place.pushed) = (len, pushed);
            }
            None => self.add_place(Silent { send, len, pushed }),
        }
        self.end += 1;
        key
    }

    #[cold]
    #[inline(never)]
    fn add_place(&mut self, silent: Silent) {
        self.places.push(silent);
    }

    /// How many SQEs were pushed before the oldest.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.queue().first().map(|silent| silent.pushed)
    }

    /// Those before which fewer than `pushed` SQEs were pushed have reported by now, if they ever will.
    pub(crate) fn settle(&mut self, pushed: u64) {
        self.settled = pushed;
    }

    /// The next that is settled and has not reported, and its length. To be asked for until there is none.
    #[inline(always)]
    pub(crate) fn next_over(&mut self) -> Option<(Sending, i32)> {
        while let Some(silent) = self.places[..self.end].get_mut(self.over)
            && silent.pushed < self.settled
        {
            self.over += 1;
            if let Some(send) = silent.send.take() {
                self.succeeded += 1;
                return Some((send, silent.len as i32));
            }
        }
        self.forget();
        None
    }

    #[inline(always)]
    fn forget(&mut self) {
        self.first = self.first.wrapping_add(self.over as u32);
        // Nearly never.
        if self.over < self.end {
            self.places.rotate_left(self.over);
        }
        self.end -= mem::take(&mut self.over);
    }

    fn find(&mut self, key: Key) -> Option<&mut Option<Sending>> {
        let index = key.silent()?.wrapping_sub(self.first) as usize;
        Some(&mut self.places[..self.end].get_mut(index)?.send)
    }

    /// A send has reported: takes it.
    pub(crate) fn report(&mut self, key: Key) -> Option<Sending> {
        self.find(key)?.take()
    }

    pub(crate) fn contains(&mut self, key: Key) -> bool {
        self.find(key).is_some_and(|send| send.is_some())
    }

    /// The simulator's look at the SQE of a send that it owns.
    pub(crate) fn sqe(&mut self, key: Key) -> Option<Sqe<'_>> {
        let send = self.find(key)?.as_ref()?;
        Some(Sqe::send(&send.fd, send.payload.bytes()))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        let live = self.queue().iter().zip(self.over as u32..).filter(|(silent, _)| silent.send.is_some());
        live.map(|(_, index)| Key::of_silent(self.first.wrapping_add(index)))
    }
}
