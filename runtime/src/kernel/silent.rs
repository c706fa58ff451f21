//! The silent sends in flight: sends without a completion if they send everything.
//!
//! A part of the in-flight table and of its proof. A send leaves it only by `report`, on its CQE, or by `next_over`,
//! when the kernel has skipped the CQE (or with the whole table, by `take_back` or leaked). Sends nearly always end in
//! the order in which they began, all at once, so they are a queue, and a key is a number in it.

use std::mem;

use crate::{
    kernel::{fd::Fd, key::Key, payload::Payload, sqe::Sqe},
    scheduler::slab::smaller,
};

/// A send, with the token that its end is reported with.
pub(crate) struct Sending {
    pub(crate) payload: Box<dyn Payload>,
    pub(crate) fd: Fd,
    pub(crate) token: u32,
}

impl Sending {
    /// The kernel is finished with the send, and has reported it.
    pub(crate) fn finish(self, result: i32) {
        let Sending { payload, fd, token } = self;
        drop(fd);
        payload.sent(token, result);
    }

    /// The kernel is finished with the send, and has sent everything.
    #[inline(always)]
    pub(crate) fn finish_silently(self) {
        let Sending { payload, fd, .. } = self;
        drop(fd);
        payload.sent_silently();
    }
}

/// See the head of the file.
#[derive(Default)]
pub(crate) struct SilentSends {
    /// The places of the queue, which are reused: the sends in flight are at `over..end`.
    places: Vec<Silent>,
    over: usize,
    end: usize,
    /// The sends before this place are settled.
    settled: usize,
    /// The number of the send in the first place.
    first: u32,
    /// The number of sends that succeeded without a report.
    pub(crate) succeeded: u64,
}

struct Silent {
    /// `None` after the end of the send.
    send: Option<Sending>,
    /// The number of SQEs pushed before this one.
    pushed: u64,
}

impl SilentSends {
    /// The number of sends in the queue, including reported sends that are not settled.
    pub(crate) fn len(&self) -> usize {
        self.end - self.over
    }

    /// Adds a send; `pushed` SQEs were pushed before it.
    #[inline(always)]
    pub(crate) fn push(&mut self, payload: Box<dyn Payload>, fd: &Fd, token: u32, pushed: u64) -> Key {
        let key = Key::of_silent(self.first.wrapping_add(self.end as u32));
        let send = Some(Sending { payload, fd: fd.clone(), token });
        // Not `Vec::push`: the compiler would build the value elsewhere first.
        match self.places.get_mut(self.end) {
            Some(place) => {
                debug_assert!(place.send.is_none(), "a place that is used again is free");
                // The old value has nothing to drop, which the compiler cannot know.
                mem::forget(mem::replace(&mut place.send, send));
                place.pushed = pushed;
            }
            None => self.add_place(Silent { send, pushed }),
        }
        self.end += 1;
        key
    }

    #[cold]
    #[inline(never)]
    fn add_place(&mut self, silent: Silent) {
        self.places.push(silent);
    }

    /// Settles the sends before which fewer than `pushed` SQEs were pushed: they have reported, if they ever will. The
    /// kernel has consumed them, and its reports are in the CQ.
    pub(crate) fn settle(&mut self, pushed: u64) {
        let settled = |silent: &Silent| silent.pushed < pushed;
        let queue = &self.places[..self.end];
        // The usual case: all.
        self.settled =
            if queue.last().is_none_or(settled) { self.end } else { queue.partition_point(settled) };
    }

    /// The next settled send without a report: it has succeeded (rule 3 of `ring/uring.rs`). To be called after every
    /// completion of the `enter` was delivered, until it returns `None`.
    #[inline(always)]
    pub(crate) fn next_over(&mut self) -> Option<Sending> {
        while self.over < self.settled {
            let send = self.places[self.over].send.take();
            self.over += 1;
            if send.is_some() {
                self.succeeded += 1;
                return send;
            }
        }
        self.forget();
        None
    }

    #[inline(always)]
    fn forget(&mut self) {
        self.first = self.first.wrapping_add(self.over as u32);
        // Rare.
        if self.over < self.end {
            self.places[..self.end].rotate_left(self.over);
        }
        self.end -= mem::take(&mut self.over);
        self.settled = 0;
    }

    /// Frees the memory of a peak.
    pub(crate) fn tidy(&mut self) {
        if let Some(to) = smaller(self.places.capacity(), self.end, size_of::<Silent>()) {
            self.places.truncate(to);
            self.places.shrink_to_fit();
        }
    }

    /// Memory of the places.
    pub(crate) fn bytes(&self) -> usize {
        self.places.capacity() * size_of::<Silent>()
    }

    /// Frees all sends: the kernel has consumed none, and never will.
    pub(crate) fn take_back(&mut self) {
        *self = SilentSends::default();
    }

    fn find(&mut self, key: Key) -> Option<&mut Option<Sending>> {
        let index = key.silent()?.wrapping_sub(self.first) as usize;
        Some(&mut self.places[..self.end].get_mut(index)?.send)
    }

    /// Takes a send that has reported.
    pub(crate) fn report(&mut self, key: Key) -> Option<Sending> {
        self.find(key)?.take()
    }

    pub(crate) fn contains(&mut self, key: Key) -> bool {
        self.find(key).is_some_and(|send| send.is_some())
    }

    /// The SQE of a send, for a kernel that executes it by plain calls.
    pub(crate) fn sqe(&mut self, key: Key) -> Option<Sqe<'_>> {
        let send = self.find(key)?.as_ref()?;
        Some(Sqe::send(&send.fd, send.payload.bytes()))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        let queue = self.places[self.over..self.end].iter().zip(self.over as u32..);
        let live = queue.filter(|(silent, _)| silent.send.is_some());
        live.map(|(_, index)| Key::of_silent(self.first.wrapping_add(index)))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    struct Nothing;

    impl Payload for Nothing {
        fn bytes(&self) -> &[u8] {
            &[]
        }

        fn sent(self: Box<Self>, _: u32, _: i32) {}
    }

    /// Sends whose tokens count from 0, each with one SQE.
    struct Sends(SilentSends, Fd, u32);

    impl Sends {
        fn new(first: u32) -> Sends {
            let null = std::fs::File::open("/dev/null").unwrap();
            let sends = SilentSends { first, ..SilentSends::default() };
            Sends(sends, Fd::from(OwnedFd::from(null)), 0)
        }

        fn push(&mut self) -> Key {
            let token = self.2;
            self.2 += 1;
            self.0.push(Box::new(Nothing), &self.1, token, token.into())
        }

        /// Settles `pushed` SQEs. Returns the tokens of the sends that are over.
        fn over(&mut self, pushed: u64) -> Vec<u32> {
            self.0.settle(pushed);
            std::iter::from_fn(|| self.0.next_over()).map(|send| send.token).collect()
        }

        fn report(&mut self, key: Key) -> Option<u32> {
            self.0.report(key).map(|send| send.token)
        }
    }

    #[test]
    fn what_is_settled_and_has_not_reported_is_over_in_order_and_once() {
        let mut sends = Sends::new(0);
        let keys: Vec<Key> = (0..4).map(|_| sends.push()).collect();
        assert_eq!(sends.report(keys[1]), Some(1));
        assert_eq!(sends.report(keys[1]), None);
        assert_eq!(sends.over(0), []);
        assert_eq!(sends.over(3), [0, 2]);
        assert_eq!((sends.0.len(), sends.0.succeeded), (1, 2));
        assert!(keys[..3].iter().all(|key| !sends.0.contains(*key)) && sends.0.contains(keys[3]));
        // Places behind the remaining sends are reused.
        let late = sends.push();
        assert_eq!(sends.0.keys().collect::<Vec<_>>(), [keys[3], late]);
        assert_eq!(sends.report(keys[0]), None);
        assert_eq!(sends.over(5), [3, 4]);
        assert_eq!((sends.0.len(), sends.report(late)), (0, None));
    }

    #[test]
    fn a_report_may_come_after_later_sends_are_settled_if_it_did_not_fit_into_the_cq() {
        let mut sends = Sends::new(0);
        let keys: Vec<Key> = (0..3).map(|_| sends.push()).collect();
        // An overflow settles nothing: the first report arrives with the next `enter`.
        assert_eq!(sends.report(keys[2]), Some(2));
        assert_eq!(sends.over(0), []);
        assert_eq!(sends.0.len(), 3);
        assert_eq!(sends.report(keys[0]), Some(0));
        assert_eq!(sends.over(3), [1]);
        assert_eq!(sends.0.len(), 0);
    }

    #[test]
    fn numbers_begin_anew_after_the_last() {
        let mut sends = Sends::new(u32::MAX - 1);
        for round in 0..4 {
            let keys: Vec<Key> = (0..3).map(|_| sends.push()).collect();
            assert!(keys.iter().all(|key| sends.0.contains(*key)));
            assert_eq!(sends.report(keys[1]), Some(3 * round + 1));
            assert_eq!(sends.over(u64::from(3 * round) + 3).len(), 2);
            assert!(keys.iter().all(|key| !sends.0.contains(*key)));
        }
    }
}
