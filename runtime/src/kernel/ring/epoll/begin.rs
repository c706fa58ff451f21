//! Begins the submitted operations and cancels, in order. An operation ends at once, or waits at the source of its
//! descriptor. A cancel takes an operation out of its source.

use super::{
    Epoll, Queued,
    sources::{Waiting, Way},
};
use crate::kernel::{
    fd::Fd,
    inflight::Table,
    key::Key,
    operation::Done,
    ring::perform::{Progress, Step, perform},
    sqe::{Kind, Sqe},
};

impl Epoll {
    #[inline(always)]
    pub(super) fn begin_queued(&mut self, table: &mut Table) {
        while let Some(queued) = self.queue.pop_front() {
            match queued {
                Queued::Begin(key) => self.begin(table, key),
                Queued::Cancel(key) => self.end_cancelled(table, key),
            }
        }
        self.queued_others = false;
    }

    fn begin(&mut self, table: &mut Table, key: Key) {
        if let Some((_, _, fd, _)) = table.receive(key) {
            let waits = self.wait_at(fd, Waiting { key, way: Way::In, progress: Progress::default() });
            return self.end_if_failed(key, waits);
        }
        let sqe = match table.describe(key) {
            Ok(Some(sqe)) => sqe,
            Ok(None) => return,
            Err(errno) => return self.end(key, Done::new(-errno)),
        };
        let begun = match (way_of(&sqe.kind), fd_of(&sqe.kind)) {
            (Some(way), Some(fd)) => {
                let fd = fd.clone();
                self.begin_at(&fd, key, way, sqe)
            }
            _ => {
                self.begin_elsewhere(key, sqe);
                Ok(())
            }
        };
        self.end_if_failed(key, begun);
    }

    fn end_if_failed(&mut self, key: Key, begun: Result<(), i32>) {
        if let Err(errno) = begun {
            self.end(key, Done::new(-errno));
        }
    }

    /// Begins an operation that may wait for `fd`.
    fn begin_at(&mut self, fd: &Fd, key: Key, way: Way, sqe: Sqe<'_>) -> Result<(), i32> {
        let slot = self.sys.sources.of(fd)?;
        let silent = key.silent().is_some();
        let mut waiting = Waiting { key, way, progress: Progress::new(silent) };
        if way == Way::In {
            // Not tried before the first edge: the registration reports the readiness.
            self.sys.sources.register(slot, fd, false)?;
        }
        let Some(source) = self.sys.sources.get(slot) else { return Err(libc::EBADF) };
        let always_ready = source.is_always_ready();
        let tried = match way {
            // A transfer of no bytes does not wait.
            Way::In => always_ready || sqe.is_empty(),
            Way::Out => !source.waits(Way::Out),
            Way::Event => true,
        };
        if tried {
            match perform(&mut self.sys, sqe, &mut waiting.progress) {
                // No event will ever come.
                Step::Blocked if always_ready => return Err(libc::EAGAIN),
                Step::Blocked => self.found_nothing(slot, way),
                Step::More(done) => self.end_one(key, done),
                Step::Last(done) => {
                    self.end(key, done);
                    return Ok(());
                }
                Step::Silence => return Ok(()),
            }
        }
        if silent { Err(libc::EAGAIN) } else { self.wait_at(fd, waiting) }
    }

    /// Begins an operation that ends at once, or that waits without a descriptor (a pause).
    fn begin_elsewhere(&mut self, key: Key, sqe: Sqe<'_>) {
        let mut progress = Progress::default();
        match perform(&mut self.sys, sqe, &mut progress) {
            Step::Blocked => {
                if let Some(end) = progress.due() {
                    let now = self.sys.clock.now_ns();
                    self.pauses.begin(key, end, now);
                }
            }
            Step::More(done) | Step::Last(done) => self.end(key, done),
            Step::Silence => {}
        }
    }

    /// Registers the descriptor if necessary, and queues the operation at its source.
    fn wait_at(&mut self, fd: &Fd, waiting: Waiting) -> Result<(), i32> {
        let sources = &mut self.sys.sources;
        let slot = sources.of(fd)?;
        sources.register(slot, fd, waiting.way == Way::Out)?;
        sources.push(slot, waiting);
        self.list(slot);
        Ok(())
    }

    /// Ends an operation with the result of a cancel, unless it has already ended.
    fn end_cancelled(&mut self, table: &mut Table, key: Key) {
        let waiting = if let Some((_, _, fd, _)) = table.receive(key) {
            let slot = self.sys.sources.known(fd);
            slot.and_then(|slot| self.sys.sources.take(slot, key))
        } else {
            match table.describe(key) {
                Ok(Some(sqe)) => self.take_described(key, &sqe),
                Ok(None) => None,
                Err(_) => self.sys.sources.take_anywhere(key),
            }
        };
        if let Some(waiting) = waiting {
            self.end(key, waiting.progress.cancelled());
        }
    }

    fn take_described(&mut self, key: Key, sqe: &Sqe<'_>) -> Option<Waiting> {
        let Some(fd) = fd_of(&sqe.kind) else {
            let paused = Waiting { key, way: Way::Event, progress: Progress::default() };
            return self.pauses.take(key).then_some(paused);
        };
        let slot = self.sys.sources.known(fd)?;
        let waiting = self.sys.sources.take(slot, key)?;
        let idle = self.sys.sources.get(slot).is_some_and(|source| source.is_idle());
        if matches!(sqe.kind, Kind::Accept { .. }) && idle {
            self.sys.sources.unregister(slot, fd);
        }
        Some(waiting)
    }
}

/// What the operation may have to wait for; `None` if it ends at once, or waits without a descriptor.
fn way_of(kind: &Kind<'_>) -> Option<Way> {
    match kind {
        Kind::Read { .. } | Kind::Recv { .. } | Kind::RecvMulti { .. } | Kind::Accept { .. } => Some(Way::In),
        Kind::Write { .. } | Kind::Send { .. } | Kind::SendVectored { .. } | Kind::Connect { .. } => {
            Some(Way::Out)
        }
        Kind::PollReadable { .. } | Kind::PollMulti { .. } => Some(Way::Event),
        Kind::Nop | Kind::Shutdown { .. } | Kind::WaitExit { .. } | Kind::Pause { .. } => None,
    }
}

pub(super) fn fd_of<'a>(kind: &Kind<'a>) -> Option<&'a Fd> {
    match kind {
        Kind::Read { fd, .. }
        | Kind::Write { fd, .. }
        | Kind::Recv { fd, .. }
        | Kind::RecvMulti { fd, .. }
        | Kind::Send { fd, .. }
        | Kind::SendVectored { fd, .. }
        | Kind::Accept { fd, .. }
        | Kind::Connect { fd, .. }
        | Kind::Shutdown { fd, .. }
        | Kind::PollReadable { fd }
        | Kind::PollMulti { fd } => Some(fd),
        Kind::Nop | Kind::WaitExit { .. } | Kind::Pause { .. } => None,
    }
}
