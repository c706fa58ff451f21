//! Executes one step of an operation, for a kernel that makes plain calls: how much a transfer has moved, when it
//! ends, and what its result is. The kernel implements the calls ([`World`]), and decides when to try again.

use std::{net::Shutdown, os::fd::BorrowedFd};

use crate::kernel::{
    fd::Fd,
    operation::{Brought, Done},
    pool::Pool,
    ring::outcome::Outcome,
    sqe::{Kind, SockAddr, Sqe},
};

/// The calls of a kernel, on descriptors of its own kind.
pub(crate) trait World {
    fn now_ns(&self) -> u64;

    /// What multishot receives fill.
    fn pool(&self) -> Pool;

    /// The cap of a multishot receive that should bring about `asked` bytes; 0: none.
    fn cap(&self, asked: u32) -> u32;

    /// How much of `len` bytes a transfer moves at most.
    fn most(&mut self, len: usize) -> usize;

    fn receive(&mut self, fd: &Fd, buf: &mut [u8]) -> Outcome;
    fn send(&mut self, fd: &Fd, data: &[u8]) -> Outcome;
    /// A connection, and its peer's address.
    fn accept(&mut self, fd: &Fd) -> Outcome<(Fd, SockAddr)>;
    fn connect(&mut self, fd: &Fd, addr: &SockAddr) -> Outcome<()>;
    fn shutdown(&mut self, fd: &Fd, how: Shutdown) -> Outcome<()>;
    /// Of `POLLIN`, what holds.
    fn poll_readable(&mut self, fd: &Fd) -> Outcome<i16>;
    /// Of `POLLERR`, `POLLHUP` and `POLLRDHUP`, what holds; blocked if nothing does.
    fn poll_hang_ups(&mut self, fd: &Fd) -> Outcome<i16>;
    fn wait_exit(&mut self, pidfd: BorrowedFd<'_>) -> Outcome<()>;
}

/// How far an operation has come.
#[derive(Default)]
pub(crate) struct Progress {
    /// Bytes moved so far by a send, or by a capped receive; the events that a poll has told.
    moved: usize,
    sends: bool,
    /// A send that reports nothing if it sends everything, and does not wait.
    pub(crate) silent: bool,
    /// The end of a pause.
    pub(crate) due: Option<u64>,
}

impl Progress {
    /// Of an operation that has not begun.
    pub(crate) fn new(silent: bool) -> Progress {
        Progress { silent, ..Progress::default() }
    }

    /// The last word of a cancelled operation. A send tells how far it came, as io_uring's does.
    pub(crate) fn cancelled(&self) -> Done {
        match self.sends {
            true if self.moved > 0 => Done::new(self.moved as i32),
            _ => Done::new(-libc::ECANCELED),
        }
    }
}

/// What one step came to.
pub(crate) enum Step {
    Blocked,
    /// A result, with more to come.
    More(Done),
    Last(Done),
    /// The end of a silent send that sent everything.
    Silence,
}

/// Goes on with what `sqe` describes, as far as that can be without waiting.
pub(crate) fn perform(world: &mut impl World, sqe: Sqe<'_>, progress: &mut Progress) -> Step {
    match sqe.kind {
        Kind::Nop => Step::Last(Done::new(0)),
        Kind::Recv { fd, buf } | Kind::Read { fd, buf } => {
            let most = world.most(buf.len());
            last(world.receive(fd, &mut buf[..most]))
        }
        Kind::RecvMulti { fd, cap } => receive_multi(world, fd, cap, progress),
        Kind::Send { fd, buf } | Kind::Write { fd, buf } => send(world, fd, &[buf], progress),
        Kind::SendVectored { fd, bufs } => send(world, fd, &bufs, progress),
        Kind::Accept { fd, peer } => match accept(world.accept(fd)) {
            Ok((done, addr)) => {
                peer.addr = addr;
                Step::Last(done)
            }
            Err(step) => step,
        },
        Kind::Connect { fd, addr } => last(unit(world.connect(fd, addr))),
        Kind::Shutdown { fd, how } => last(unit(world.shutdown(fd, how))),
        Kind::WaitExit { pidfd } => last(unit(world.wait_exit(pidfd))),
        Kind::PollReadable { fd } => last(events(world.poll_readable(fd))),
        Kind::PollMulti { fd } => poll_multi(events(world.poll_hang_ups(fd)), progress),
        Kind::Pause { pause } => {
            let now = world.now_ns();
            let due = *progress.due.get_or_insert(now.saturating_add(pause.nanos));
            if due <= now { Step::Last(Done::new(-libc::ETIME)) } else { Step::Blocked }
        }
    }
}

fn receive_multi(world: &mut impl World, fd: &Fd, asked: u32, progress: &mut Progress) -> Step {
    let cap = world.cap(asked) as usize;
    let pool = world.pool();
    let mut outcome = Outcome::Failed(libc::ENOBUFS);
    let filled = pool.fill(|buf| {
        let most = world.most(buf.len());
        outcome = world.receive(fd, &mut buf[..most]);
        if let Outcome::Ready(count) = outcome { count } else { 0 }
    });
    match (filled, outcome) {
        (Some(filled), Outcome::Ready(count)) => {
            progress.moved += count;
            let mut done = Done::new(count as i32);
            done.brought = Brought::Buf(pool.share(filled));
            if cap > 0 && progress.moved >= cap { Step::Last(done) } else { Step::More(done) }
        }
        (_, outcome) => last(outcome),
    }
}

/// As `MSG_WAITALL`: ends when everything is sent. A silent send does not wait.
fn send(world: &mut impl World, fd: &Fd, bufs: &[&[u8]], progress: &mut Progress) -> Step {
    let silent = progress.silent;
    let total: usize = bufs.iter().map(|buf| buf.len()).sum();
    let stop = world.most(total);
    let mut skip = progress.moved;
    progress.sends = true;
    for buf in bufs {
        let rest = &buf[skip.min(buf.len())..];
        skip = skip.saturating_sub(buf.len());
        let rest = &rest[..rest.len().min(stop.saturating_sub(progress.moved))];
        if rest.is_empty() {
            continue;
        }
        match world.send(fd, rest) {
            Outcome::Ready(n) => progress.moved += n,
            Outcome::Failed(errno) if progress.moved == 0 => return Step::Last(Done::new(-errno)),
            Outcome::Failed(_) => return Step::Last(Done::new(progress.moved as i32)),
            Outcome::Blocked if !silent => return Step::Blocked,
            Outcome::Blocked if progress.moved == 0 => return Step::Last(Done::new(-libc::EAGAIN)),
            Outcome::Blocked => break,
        }
        if progress.moved < total && progress.moved < stop && !silent {
            return Step::Blocked;
        }
    }
    if silent && progress.moved == total {
        Step::Silence
    } else {
        Step::Last(Done::new(progress.moved as i32))
    }
}

/// What an accept brought, with the peer's address; or the step that it came to.
fn accept(outcome: Outcome<(Fd, SockAddr)>) -> Result<(Done, SockAddr), Step> {
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

/// Tells of each change once.
fn poll_multi(outcome: Outcome, progress: &mut Progress) -> Step {
    match outcome {
        Outcome::Ready(events) if events != progress.moved => {
            progress.moved = events;
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
