//! Visits the sources that can make progress, one after the other, and executes one operation at a time.

use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};

use super::{
    Advanced, Epoll, VISIT,
    pauses::PAUSE,
    place::Kind,
    sources::{Waiting, Way},
};
use crate::kernel::{
    fd::{Descriptor, Inner},
    inflight::{ReceiverId, Table},
    operation::{Brought, Done},
    pool::Filled,
    ring::perform::{Step, perform},
};

impl Epoll {
    /// The source to visit: the current one until it has given `VISIT` results, then the next.
    #[inline(always)]
    pub(super) fn visit(&mut self) -> Option<u32> {
        match self.visited {
            Some((slot, 1..)) => return Some(slot),
            Some((slot, 0)) => self.later.push_back(slot),
            None => {}
        }
        let next = self.ready.pop_front().or_else(|| self.apply_events());
        self.visited = next.map(|slot| (slot, VISIT));
        next
    }

    /// Applies the next events to the flags of their sources. Returns the first source where an operation can now
    /// continue.
    #[inline(always)]
    fn apply_events(&mut self) -> Option<u32> {
        while let Some(event) = self.events.get(self.next_event) {
            self.next_event += 1;
            let data = { event.data }.u64();
            if let Some((slot, source)) = self.sys.sources.named(data) {
                source.note(event.flags);
                if !source.listed && source.is_due() {
                    source.listed = true;
                    return Some(slot);
                }
            } else if data == PAUSE {
                self.end_pauses();
            }
            // Other events need nothing here: a stale one of a closed descriptor, or a wake. The loop checks its inbox
            // anyway.
        }
        None
    }

    /// Executes one operation of a source. With `only`, just a receive of that receiver. The visit ends if no operation
    /// can continue.
    #[inline(always)]
    pub(super) fn advance(&mut self, table: &mut Table, slot: u32, only: Option<ReceiverId>) -> Advanced {
        let Epoll { sys, visited, pool, counters, .. } = self;
        let Some(source) = sys.sources.get(slot) else {
            *visited = None;
            return Advanced::Continue;
        };
        if source.is_other_due() {
            // Before the receives, which may keep the source busy for long.
            if only.is_none() {
                self.advance_other(table, slot);
            }
            return if only.is_none() { Advanced::Continue } else { Advanced::NotWanted };
        }
        if source.readable
            && let Some(waiting) = source.next(Way::In)
            && let Some((to, token, fd, cap)) = table.receive(waiting.key)
            && let Inner::Os(fd) = fd.inner()
        {
            if only.is_some_and(|only| only != to) {
                return Advanced::NotWanted;
            }
            sys.count += 1;
            let mut received = Err(Errno::NOBUFS);
            let filled = pool.fill(|buf| {
                received = recv(fd, buf, RecvFlags::DONTWAIT);
                received.map_or(0, |(count, _)| count)
            });
            let (Some(filled), Ok((count, _))) = (filled, received) else {
                return self.end_receive(slot, received);
            };
            if waiting.progress.received(count, sys.abilities.cap(cap)) {
                return self.end_full_receive(slot, filled, count);
            }
            if !pool.is_full(&filled) {
                // See rule 2 at the head of `mod.rs`.
                match fd.kind.get() {
                    Kind::Tcp => source.readable &= source.odd,
                    Kind::Unknown => {
                        return self.ask_kind_after_receive(slot, fd, Advanced::Data(to, token, filled));
                    }
                    Kind::Socket | Kind::Other => {}
                }
            }
            counters.cqes += 1;
            if source.is_due() {
                self.count_step();
            } else {
                source.listed = false;
                *visited = None;
            }
            return Advanced::Data(to, token, filled);
        }
        if !source.is_due() {
            source.listed = false;
            *visited = None;
            return Advanced::Continue;
        }
        if only.is_some() {
            return Advanced::NotWanted;
        }
        self.advance_other(table, slot);
        Advanced::Continue
    }

    /// After the first receive that does not fill its buffer: asks the kernel for the kind of the descriptor, once.
    #[cold]
    #[inline(never)]
    fn ask_kind_after_receive(&mut self, slot: u32, fd: &Descriptor, advanced: Advanced) -> Advanced {
        self.sys.is_short(slot, fd);
        self.counters.cqes += 1;
        self.count_step();
        advanced
    }

    /// Counts one result against the visit's limit.
    #[inline(always)]
    fn count_step(&mut self) {
        if let Some((_, left)) = &mut self.visited {
            *left -= 1;
        }
    }

    /// Handles a receive without data: EAGAIN, an error, or the end of the stream.
    #[inline(never)]
    fn end_receive(&mut self, slot: u32, received: Result<(usize, usize), Errno>) -> Advanced {
        let Some(source) = self.sys.sources.get(slot) else { return Advanced::Continue };
        let result = match received {
            Err(Errno::AGAIN) => {
                source.readable = false;
                return Advanced::Continue;
            }
            Err(e) => -e.raw_os_error(),
            Ok(_) => 0,
        };
        if let Some(waiting) = self.sys.sources.take_next(slot, Way::In) {
            self.end(waiting.key, Done::new(result));
        }
        Advanced::Continue
    }

    /// Ends a receive whose cap is reached: its last completion carries the data.
    #[inline(never)]
    fn end_full_receive(&mut self, slot: u32, filled: Filled, count: usize) -> Advanced {
        let done = Done { brought: Brought::Buf(self.pool.share(filled)), ..Done::new(count as i32) };
        if let Some(waiting) = self.sys.sources.take_next(slot, Way::In) {
            self.end(waiting.key, done);
        }
        Advanced::Continue
    }

    /// Executes the next operation that is not a receive of handles; or all that wait for any event.
    #[inline(never)]
    fn advance_other(&mut self, table: &mut Table, slot: u32) {
        self.count_step();
        let Some(source) = self.sys.sources.get(slot) else { return };
        let way =
            match (source.writable && source.waits(Way::Out), source.changed && source.waits(Way::Event)) {
                (true, _) => Way::Out,
                (_, true) => return self.execute_event_waiters(table, slot),
                _ => Way::In,
            };
        if let Some(waiting) = self.sys.sources.take_next(slot, way) {
            self.execute(table, slot, waiting);
        }
    }

    fn execute_event_waiters(&mut self, table: &mut Table, slot: u32) {
        let Some(source) = self.sys.sources.get(slot) else { return };
        source.changed = false;
        for waiting in source.take_event_waiters() {
            self.execute(table, slot, waiting);
        }
    }

    /// Executes a step of an operation, and puts it back unless it has ended.
    fn execute(&mut self, table: &mut Table, slot: u32, mut waiting: Waiting) {
        let key = waiting.key;
        let sqe = match table.describe(key) {
            Ok(Some(sqe)) => sqe,
            Ok(None) => return,
            Err(errno) => return self.end(key, Done::new(-errno)),
        };
        match perform(&mut self.sys, sqe, &mut waiting.progress) {
            Step::Last(done) => return self.end(key, done),
            Step::More(done) => self.end_one(key, done),
            Step::Blocked => self.found_nothing(slot, waiting.way),
            Step::Silence => return,
        }
        self.sys.sources.put_back(slot, waiting);
    }
}
