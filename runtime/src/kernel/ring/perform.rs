//! Executes one step of an operation, for a kernel that makes plain calls: tracks how much a transfer has moved, when
//! it ends, and its result. The kernel implements the calls ([`World`]), and decides when to try again.

use std::{mem, net::Shutdown, num::NonZeroU64, os::fd::BorrowedFd};

use crate::kernel::{
    fd::Fd,
    operation::{Brought, Done},
    pool::Pool,
    ring::outcome::Outcome,
    sqe::{Kind, SockAddr, Sqe},
};

/// The system calls of a kernel, on its own kind of descriptors.
pub(crate) trait World {
    fn now_ns(&self) -> u64;

    /// The buffers that multishot receives fill.
    fn pool(&self) -> Pool;

    /// The cap of a multishot receive that should bring about `asked` bytes; 0: none.
    fn cap(&self, asked: u32) -> u32;

    /// The most bytes that a transfer of `len` bytes moves.
    fn most(&mut self, len: usize) -> usize;

    fn receive(&mut self, fd: &Fd, buf: &mut [u8]) -> Outcome;
    /// Sends `bufs` in order, or a part of them.
    fn send(&mut self, fd: &Fd, bufs: &[&[u8]]) -> Outcome;

    fn read(&mut self, fd: &Fd, buf: &mut [u8]) -> Outcome {
        self.receive(fd, buf)
    }

    fn write(&mut self, fd: &Fd, data: &[u8]) -> Outcome {
        self.send(fd, &[data])
    }

    /// Accepts a connection; with its peer's address, if known.
    fn accept(&mut self, fd: &Fd) -> Outcome<(Fd, Option<SockAddr>)>;
    /// `again` is set after the first call for this operation.
    fn connect(&mut self, fd: &Fd, addr: &SockAddr, again: bool) -> Outcome<()>;
    fn shutdown(&mut self, fd: &Fd, how: Shutdown) -> Outcome<()>;
    /// `POLLIN`, if the descriptor is readable; blocked if not.
    fn poll_readable(&mut self, fd: &Fd) -> Outcome<i16>;
    /// Those of `POLLERR`, `POLLHUP` and `POLLRDHUP` that hold; blocked if none does.
    fn poll_hang_ups(&mut self, fd: &Fd) -> Outcome<i16>;
    fn wait_exit(&mut self, pidfd: BorrowedFd<'_>) -> Outcome<()>;
}

/// The state of an operation between its steps.
#[derive(Default)]
pub(crate) struct Progress {
    /// The end of a pause.
    due: Option<NonZeroU64>,
    /// Bytes moved so far by a send or a capped receive; or the events that a poll reported last.
    moved: u32,
    sends: bool,
    /// The first `connect` call was made.
    begun: bool,
    /// A send that has no completion if it sends everything, and does not wait.
    pub(crate) silent: bool,
}

impl Progress {
    /// The state of an operation that has not begun.
    pub(crate) fn new(silent: bool) -> Progress {
        Progress { silent, ..Progress::default() }
    }

    /// The end of a pause, by the loop's clock.
    pub(crate) fn due(&self) -> Option<u64> {
        self.due.map(NonZeroU64::get)
    }

    /// Adds `count` received bytes. Whether `cap` is reached (0: no cap).
    #[inline(always)]
    pub(crate) fn received(&mut self, count: usize, cap: u32) -> bool {
        self.moved = self.moved.saturating_add(count as u32);
        cap > 0 && self.moved >= cap
    }

    /// The final completion of a cancelled operation. A send reports the bytes sent so far, as on io_uring.
    pub(crate) fn cancelled(&self) -> Done {
        match self.sends {
            true if self.moved > 0 => Done::new(self.moved as i32),
            _ => Done::new(-libc::ECANCELED),
        }
    }
}

/// The result of one step.
pub(crate) enum Step {
    Blocked,
    /// A result, with more to come.
    More(Done),
    Last(Done),
    /// The end of a silent send that sent everything.
    Silence,
}

/// Executes as much of the operation `sqe` as possible without waiting.
pub(crate) fn perform(world: &mut impl World, sqe: Sqe<'_>, progress: &mut Progress) -> Step {
    match sqe.kind {
        Kind::Nop => Step::Last(Done::new(0)),
        Kind::Recv { fd, buf } => {
            let most = world.most(buf.len());
            last(world.receive(fd, &mut buf[..most]))
        }
        Kind::Read { fd, buf } => {
            let most = world.most(buf.len());
            last(world.read(fd, &mut buf[..most]))
        }
        Kind::RecvMulti { fd, cap } => receive_multi(world, fd, cap, progress),
        Kind::Send { fd, buf } => send(world, fd, &[buf], progress),
        Kind::Write { fd, buf } => {
            let most = world.most(buf.len());
            last(world.write(fd, &buf[..most]))
        }
        Kind::SendVectored { fd, bufs } => send(world, fd, &bufs, progress),
        Kind::Accept { fd, peer } => match accept(world.accept(fd)) {
            Ok((done, addr)) => {
                peer.addr = addr.unwrap_or_else(|| peer.addr.clone());
                Step::Last(done)
            }
            Err(step) => step,
        },
        Kind::Connect { fd, addr } => {
            let again = mem::replace(&mut progress.begun, true);
            last(unit(world.connect(fd, addr, again)))
        }
        Kind::Shutdown { fd, how } => last(unit(world.shutdown(fd, how))),
        Kind::WaitExit { pidfd } => last(unit(world.wait_exit(pidfd))),
        Kind::PollReadable { fd } => last(events(world.poll_readable(fd))),
        Kind::PollMulti { fd } => poll_multi(events(world.poll_hang_ups(fd)), progress),
        Kind::Pause { pause } => {
            let now = world.now_ns();
            let end = NonZeroU64::new(now.saturating_add(pause.nanos)).unwrap_or(NonZeroU64::MIN);
            let due = *progress.due.get_or_insert(end);
            if due.get() <= now { Step::Last(Done::new(-libc::ETIME)) } else { Step::Blocked }
        }
    }
}

fn receive_multi(world: &mut impl World, fd: &Fd, asked: u32, progress: &mut Progress) -> Step {
    let cap = world.cap(asked);
    let pool = world.pool();
    let mut outcome = Outcome::Failed(libc::ENOBUFS);
    let filled = pool.fill(|buf| {
        let most = world.most(buf.len());
        outcome = world.receive(fd, &mut buf[..most]);
        if let Outcome::Ready(count) = outcome { count } else { 0 }
    });
    match (filled, outcome) {
        (Some(filled), Outcome::Ready(count)) => {
            let ends = progress.received(count, cap);
            let mut done = Done::new(count as i32);
            done.brought = Brought::Buf(pool.share(filled));
            if ends { Step::Last(done) } else { Step::More(done) }
        }
        (_, outcome) => last(outcome),
    }
}

/// Like `MSG_WAITALL`: ends when everything is sent. A silent send does not wait.
fn send(world: &mut impl World, fd: &Fd, bufs: &[&[u8]], progress: &mut Progress) -> Step {
    let total: usize = bufs.iter().map(|buf| buf.len()).sum();
    let stop = world.most(total);
    progress.sends = true;
    loop {
        let moved = progress.moved as usize;
        let outcome = match bufs {
            [buf] => world.send(fd, &[&buf[moved..stop.max(moved)]]),
            bufs => world.send(fd, &rest(bufs, moved, stop)),
        };
        match outcome {
            Outcome::Ready(0) => break,
            Outcome::Ready(n) => progress.moved += n as u32,
            Outcome::Failed(errno) if moved == 0 => return Step::Last(Done::new(-errno)),
            Outcome::Failed(_) => break,
            Outcome::Blocked if !progress.silent => return Step::Blocked,
            Outcome::Blocked if moved == 0 => return Step::Last(Done::new(-libc::EAGAIN)),
            Outcome::Blocked => break,
        }
        if progress.moved as usize >= stop {
            break;
        }
    }
    if progress.silent && progress.moved as usize == total {
        Step::Silence
    } else {
        Step::Last(Done::new(progress.moved as i32))
    }
}

/// The bytes from `from` to `to` of the concatenated `bufs`.
fn rest<'a>(bufs: &[&'a [u8]], from: usize, to: usize) -> Vec<&'a [u8]> {
    let mut begin = 0;
    let part = |buf: &&'a [u8]| {
        let (start, end) =
            (from.saturating_sub(begin).min(buf.len()), to.saturating_sub(begin).min(buf.len()));
        begin += buf.len();
        (start < end).then(|| &buf[start..end])
    };
    bufs.iter().filter_map(part).collect()
}

/// The completion of an accept, with the peer's address; or the step if there is no connection.
fn accept(outcome: Outcome<(Fd, Option<SockAddr>)>) -> Result<(Done, Option<SockAddr>), Step> {
    match outcome {
        Outcome::Ready((fd, peer)) => {
            let mut done = Done::new(0);
            done.brought = Brought::Fd(fd);
            Ok((done, peer))
        }
        Outcome::Blocked => Err(Step::Blocked),
        Outcome::Failed(errno) => Err(Step::Last(Done::new(-errno))),
    }
}

/// Reports each change once.
fn poll_multi(outcome: Outcome, progress: &mut Progress) -> Step {
    match outcome {
        Outcome::Ready(events) if events as u32 != progress.moved => {
            progress.moved = events as u32;
            Step::More(Done::new(events as i32))
        }
        Outcome::Ready(_) | Outcome::Blocked => Step::Blocked,
        Outcome::Failed(errno) => Step::Last(Done::new(-errno)),
    }
}

fn unit(outcome: Outcome<()>) -> Outcome {
    match outcome {
        Outcome::Ready(()) => Outcome::Ready(0),
        Outcome::Blocked => Outcome::Blocked,
        Outcome::Failed(errno) => Outcome::Failed(errno),
    }
}

fn events(outcome: Outcome<i16>) -> Outcome {
    match outcome {
        Outcome::Ready(events) => Outcome::Ready(events as usize),
        Outcome::Blocked => Outcome::Blocked,
        Outcome::Failed(errno) => Outcome::Failed(errno),
    }
}

fn last(outcome: Outcome) -> Step {
    match outcome {
        Outcome::Blocked => Step::Blocked,
        Outcome::Ready(n) => Step::Last(Done::new(n as i32)),
        Outcome::Failed(errno) => Step::Last(Done::new(-errno)),
    }
}
