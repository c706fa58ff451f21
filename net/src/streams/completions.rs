//! Completions of the streams' operations: each updates the table.

use std::{fs::File, io, time::Duration};

use corio_runtime::{
    Handle, call_later, handle,
    op::{Done, Multishot, Operation, Payload, Receiver, Sqe},
    service::run_blocking,
};

use super::{
    chunk::{Block, Chunk, recycle},
    table::{running, try_running},
};
use crate::ops::{Batch, ByThread, HangUp, Load, RecvInto, RecvOnce, Work};

/// The multishot receives of all streams. The token is the stream's slot.
pub(super) static RECV_MULTI: Receiver = Receiver {
    data: |arrivals| running(|streams| streams.received(arrivals)),
    end: |slot, done| running(|streams| streams.multi_ended(slot, &done)),
};

impl Operation for RecvOnce {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        self.entry()
    }

    fn complete(self: Box<Self>, done: Done) {
        running(|streams| streams.once_ended(self.slot, done.number(), self.block, self.size));
    }
}

impl Operation for ByThread {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        self.entry()
    }

    fn complete(self: Box<Self>, done: Done) {
        let ByThread { fd, slot, work } = *self;
        let mut job = Job { home: handle(), slot, work: Some(work) };
        if let Some(errno) = done.errno() {
            return job.answer(-errno);
        }
        if job.is_unwanted() {
            return job.answer(-libc::ECANCELED);
        }
        // The thread has a descriptor of its own: an `Fd` stays on its loop.
        match fd.as_fd().map(|fd| fd.try_clone_to_owned()) {
            Some(Ok(own)) => {
                // If the system gives no thread, the job is dropped, and that tries again.
                let _ = run_blocking(move || job.run(&File::from(own)));
            }
            Some(Err(e)) => job.answer(-e.raw_os_error().unwrap_or(libc::EIO)),
            None => job.answer(-libc::EBADF),
        }
    }
}

/// Before another try, if there was no thread, or the pool was closed before one was free.
const NO_THREAD: Duration = Duration::from_millis(10);

/// A read or write on its way to a thread and back.
struct Job {
    home: Handle,
    slot: u32,
    /// `None` once the stream has it back.
    work: Option<Work>,
}

impl Job {
    /// Whether it would read for nobody: what is not taken is left to others that share the descriptor.
    fn is_unwanted(&self) -> bool {
        let reads = matches!(self.work, Some(Work::Read(..)));
        reads
            && running(|streams| streams.with_slot(self.slot, |_, slot| slot.receive.discarded))
                != Some(false)
    }

    fn run(mut self, file: &File) {
        let Some(work) = &mut self.work else { return };
        let result = work.run(file);
        self.answer(result);
    }

    /// Gives the stream a count or a negated error number.
    fn answer(&mut self, result: i32) {
        if let Some(work) = self.work.take() {
            let slot = self.slot;
            self.home.run_at_home(move || give_back(slot, work, result));
        }
    }
}

impl Drop for Job {
    /// It never ran.
    fn drop(&mut self) {
        if !self.home.is_current() {
            return self.answer(-libc::EAGAIN);
        }
        if let Some(work) = self.work.take() {
            let slot = self.slot;
            call_later(NO_THREAD, move || give_back(slot, work, -libc::EAGAIN));
        }
    }
}

fn give_back(slot: u32, work: Work, result: i32) {
    try_running(|streams| match work {
        Work::Read(block, asked) => streams.once_ended(slot, result, block, asked),
        Work::Write(pieces) => streams.sent(slot, Load::Batch(Box::new(pieces.into())), result),
    });
}

/// `B` is foreign code: it may panic, and return another slice each time.
impl<B: AsMut<[u8]> + 'static> Operation for RecvInto<B> {
    type Output = (io::Result<usize>, B);

    fn prepare(&mut self) -> Sqe<'_> {
        self.entry()
    }

    fn complete(self: Box<Self>, done: Done) -> Self::Output {
        try_running(|streams| streams.owned_ended(self.slot, &done, self.empty));
        let result = match done.errno() {
            Some(libc::ECANCELED | libc::EINTR | libc::EAGAIN) => Err(io::ErrorKind::Interrupted.into()),
            _ => done.count(),
        };
        (result, self.buf)
    }

    fn abandoned(mut self: Box<Self>, done: Done) {
        let count = done.count().unwrap_or(0);
        let mut unclaimed = Unclaimed { slot: self.slot, empty: self.empty, done, data: None };
        unclaimed.data = match count {
            0 => Some(Chunk::default()),
            _ => self.buf.as_mut().get(..count).map(Chunk::from),
        };
    }
}

/// Completes an abandoned receive, even if the caller's buffer panics.
struct Unclaimed {
    slot: u32,
    empty: bool,
    done: Done,
    /// The received bytes; `None` if the buffer does not return them.
    data: Option<Chunk>,
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        let data = self.data.take();
        try_running(|streams| streams.owned_abandoned(self.slot, &self.done, self.empty, data));
    }
}

impl Payload for Block {
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        self
    }

    fn sent(self: Box<Self>, slot: u32, result: i32) {
        running(|streams| streams.sent(slot, Load::Block(self), result));
    }

    fn sent_silently(self: Box<Self>) {
        recycle(self);
    }
}

impl Payload for Batch {
    fn bytes(&self) -> &[u8] {
        self.first()
    }

    fn sent(self: Box<Self>, slot: u32, result: i32) {
        running(|streams| streams.sent(slot, Load::Batch(self), result));
    }

    fn sent_silently(self: Box<Self>) {
        running(|streams| streams.keep_batch(self));
    }
}

impl Operation for Batch {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        self.entry()
    }

    fn complete(mut self: Box<Self>, done: Done) {
        let (slot, result) = (self.came_back(), done.number());
        running(|streams| streams.sent(slot, Load::Batch(self), result));
    }
}

impl Multishot for HangUp {
    fn prepare(&self) -> Sqe<'_> {
        self.entry()
    }

    fn item(&self, done: Done) {
        running(|streams| streams.hung_up(self.slot, &done, &self.fd));
    }

    fn end(&self, done: Done) {
        running(|streams| {
            streams.hung_up(self.slot, &done, &self.fd);
            streams.hang_up_ended(self.slot, &done);
        });
    }
}
