//! The system calls that execute operations for the epoll kernel. None of them blocks.

use std::{
    io::{IoSlice, IsTerminal},
    net::{Shutdown, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use nix::{
    errno::Errno as NixErrno,
    sys::socket::{SockaddrStorage, connect, getpeername},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, Mode, OFlags, fcntl_getfl, fstat, open},
    io::{Errno, ReadWriteFlags, ioctl_fionbio, pwritev2, read, retry_on_intr, write},
    net::{self, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags, ipproto, sockopt::socket_protocol},
};

use super::{
    place::Kind,
    sources::{Source, Sources},
};
use crate::{
    kernel::{
        fd::{Descriptor, Fd, Inner},
        pool::Pool,
        ring::{
            outcome::Outcome,
            perform::World,
            terms::{Abilities, Sizes},
        },
        sqe::SockAddr,
    },
    scheduler::clock::Clock,
};

/// The most bytes that one call moves (`MAX_RW_COUNT`, with pages of 64 KiB).
const LENGTH_MAX: usize = 0x7fff_0000;
const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// The device `/dev/ptmx`, the controlling side of pseudo-terminals. Opening it again makes another terminal.
const PTMX: u64 = libc::makedev(5, 2);

/// The calls on descriptors, and the sources that they update.
pub(super) struct Syscalls {
    pub(super) sources: Sources,
    pub(super) clock: Clock,
    pub(super) abilities: Abilities,
    pool: Pool,
    /// System calls made so far.
    pub(super) count: u64,
}

impl Syscalls {
    pub(super) fn new(sources: Sources, clock: Clock, pool: Pool, sizes: Sizes) -> Syscalls {
        let abilities = Abilities { quiet_writes: can_write_quietly(), ..Abilities::all(sizes) };
        Syscalls { sources, clock, abilities, pool, count: 0 }
    }

    #[inline(always)]
    pub(super) fn send_one(&mut self, fd: &Fd, buf: &[u8]) -> Outcome {
        let Inner::Os(fd) = fd.inner() else { return Outcome::Failed(libc::EOPNOTSUPP) };
        self.count += 1;
        outcome(net::send(fd, buf, SEND))
    }

    /// A receive has filled only a part of its buffer. A TCP socket is then empty, and the next data has its own edge,
    /// unless a hang-up, an error or urgent data was seen (rule 2 at the head of `mod.rs`).
    pub(super) fn is_short(&mut self, slot: u32, fd: &Descriptor) {
        let kind = match fd.kind.get() {
            Kind::Unknown => self.ask_kind(fd),
            kind => kind,
        };
        if kind == Kind::Tcp
            && let Some(source) = self.sources.get(slot)
            && !source.odd
        {
            source.readable = false;
        }
    }

    #[inline(never)]
    fn ask_kind(&mut self, fd: &Descriptor) -> Kind {
        self.count += 1;
        let kind = match socket_protocol(fd) {
            Ok(Some(protocol)) if protocol == ipproto::TCP => Kind::Tcp,
            Ok(_) => Kind::Socket,
            Err(_) => Kind::Other,
        };
        fd.kind.set(kind);
        if kind == Kind::Other {
            self.open_other(fd);
        }
        kind
    }

    /// Makes the reads and writes of a pipe or a device nonblocking. A terminal is opened again for that: `O_NONBLOCK`
    /// on the shared file description would make other processes lose output.
    #[cold]
    fn open_other(&mut self, fd: &Descriptor) {
        match fstat(fd) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {}
            Ok(stat) if stat.st_rdev != PTMX && fd.as_fd().is_terminal() => self.reopen(fd),
            _ => self.do_not_wait(fd),
        }
    }

    fn reopen(&mut self, fd: &Descriptor) {
        let mode = fcntl_getfl(fd).map_or(OFlags::RDWR, |flags| flags & OFlags::RWMODE);
        let flags = mode | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = open(format!("/proc/self/fd/{}", fd.as_raw_fd()), flags, Mode::empty());
        match (opened, self.source_of(fd)) {
            (Ok(terminal), Some(source)) => source.reopened = Some(Box::new(terminal)),
            _ => self.do_not_wait(fd),
        }
    }

    fn source_of(&mut self, fd: &Descriptor) -> Option<&mut Source> {
        let slot = fd.place.slot(&self.sources.home)?;
        self.sources.get(slot)
    }

    /// Sets `O_NONBLOCK`. A descriptor that refuses the flag never blocks.
    fn do_not_wait(&mut self, fd: &Descriptor) {
        if !fd.nonblocking.replace(true) {
            self.count += 1;
            let _ = ioctl_fionbio(fd, true);
        }
    }

    /// Calls `f` with the descriptor for reads and writes: the reopened terminal, if there is one.
    fn with_other(&mut self, fd: &Descriptor, f: impl FnOnce(BorrowedFd<'_>) -> Outcome) -> Outcome {
        self.count += 1;
        let reopened = self.source_of(fd).and_then(|source| source.reopened.as_deref());
        match reopened {
            Some(reopened) => f(reopened.as_fd()),
            None => f(fd.as_fd()),
        }
    }

    /// The subset of `flags` that currently holds.
    fn poll(&mut self, fd: BorrowedFd<'_>, flags: PollFlags) -> Outcome<i16> {
        self.count += 1;
        let mut fds = [PollFd::from_borrowed_fd(fd, flags)];
        // Even without a timeout a signal may interrupt it.
        match retry_on_intr(|| poll(&mut fds, Some(&Timespec::default()))) {
            Ok(0) => Outcome::Blocked,
            Ok(_) => Outcome::Ready(fds[0].revents().bits().cast_signed()),
            Err(e) => Outcome::Failed(e.raw_os_error()),
        }
    }

    fn kind(&mut self, fd: &Descriptor) -> Kind {
        match fd.kind.get() {
            Kind::Unknown => self.ask_kind(fd),
            kind => kind,
        }
    }
}

impl World for Syscalls {
    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    fn pool(&self) -> Pool {
        self.pool.clone()
    }

    fn cap(&self, asked: u32) -> u32 {
        self.abilities.cap(asked)
    }

    fn most(&mut self, len: usize) -> usize {
        len.min(LENGTH_MAX)
    }

    fn receive(&mut self, fd: &Fd, buf: &mut [u8]) -> Outcome {
        let Inner::Os(descriptor) = fd.inner() else { return Outcome::Failed(libc::EOPNOTSUPP) };
        let room = buf.len();
        self.count += 1;
        let received = net::recv(descriptor, buf, RecvFlags::DONTWAIT).map(|(count, _)| count);
        if received.is_ok_and(|count| 0 < count && count < room)
            && let Some(slot) = self.sources.known(fd)
        {
            self.is_short(slot, descriptor);
        }
        outcome(received)
    }

    fn send(&mut self, fd: &Fd, bufs: &[&[u8]]) -> Outcome {
        if let [buf] = bufs {
            return self.send_one(fd, buf);
        }
        let Inner::Os(fd) = fd.inner() else { return Outcome::Failed(libc::EOPNOTSUPP) };
        self.count += 1;
        let bufs: Vec<IoSlice<'_>> =
            bufs.iter().take(libc::UIO_MAXIOV as usize).map(|buf| IoSlice::new(buf)).collect();
        outcome(net::sendmsg(fd, &bufs, &mut SendAncillaryBuffer::default(), SEND))
    }

    fn read(&mut self, fd: &Fd, buf: &mut [u8]) -> Outcome {
        let Inner::Os(descriptor) = fd.inner() else { return Outcome::Failed(libc::EOPNOTSUPP) };
        if buf.is_empty() {
            return Outcome::Ready(0);
        }
        match self.kind(descriptor) {
            Kind::Tcp | Kind::Socket => self.receive(fd, buf),
            Kind::Unknown | Kind::Other => self.with_other(descriptor, |fd| outcome(read(fd, buf))),
        }
    }

    fn write(&mut self, fd: &Fd, data: &[u8]) -> Outcome {
        let Inner::Os(descriptor) = fd.inner() else { return Outcome::Failed(libc::EOPNOTSUPP) };
        match self.kind(descriptor) {
            Kind::Tcp | Kind::Socket => self.send(fd, &[data]),
            Kind::Unknown | Kind::Other => {
                let quiet = self.abilities.quiet_writes;
                self.with_other(descriptor, |fd| {
                    outcome(if quiet { write_quietly(fd, data) } else { write(fd, data) })
                })
            }
        }
    }

    fn accept(&mut self, fd: &Fd) -> Outcome<(Fd, Option<SockAddr>)> {
        let Inner::Os(fd) = fd.inner() else { return Outcome::Failed(libc::EOPNOTSUPP) };
        self.do_not_wait(fd);
        let kind = self.kind(fd);
        self.count += 1;
        outcome(net::acceptfrom_with(fd, SocketFlags::CLOEXEC).map(|(accepted, addr)| {
            let addr = addr.and_then(|addr| SocketAddr::try_from(addr).ok()).map(SockAddr::from);
            let unnamed = || getpeername::<SockaddrStorage>(accepted.as_raw_fd()).ok().map(SockAddr);
            let addr = addr.or_else(unnamed);
            let accepted = Fd::from(accepted);
            if let Inner::Os(accepted) = accepted.inner() {
                accepted.kind.set(kind);
            }
            (accepted, addr)
        }))
    }

    /// A second `connect` returns the result of the first: immediately, if the peer is on this machine.
    fn connect(&mut self, fd: &Fd, addr: &SockAddr, again: bool) -> Outcome<()> {
        let Inner::Os(descriptor) = fd.inner() else { return Outcome::Failed(libc::EOPNOTSUPP) };
        self.do_not_wait(descriptor);
        self.count += 1;
        match connect(descriptor.as_raw_fd(), &addr.0) {
            Ok(()) => Outcome::Ready(()),
            Err(NixErrno::EISCONN) if again => Outcome::Ready(()),
            Err(NixErrno::EALREADY | NixErrno::EINPROGRESS) if again => Outcome::Blocked,
            Err(NixErrno::EINPROGRESS) => self.connect(fd, addr, true),
            Err(NixErrno::EINTR) => Outcome::Blocked,
            Err(e) => Outcome::Failed(e as i32),
        }
    }

    fn shutdown(&mut self, fd: &Fd, how: Shutdown) -> Outcome<()> {
        let Inner::Os(fd) = fd.inner() else { return Outcome::Failed(libc::EOPNOTSUPP) };
        let how = match how {
            Shutdown::Read => net::Shutdown::Read,
            Shutdown::Write => net::Shutdown::Write,
            Shutdown::Both => net::Shutdown::Both,
        };
        self.count += 1;
        outcome(net::shutdown(fd, how))
    }

    fn poll_readable(&mut self, fd: &Fd) -> Outcome<i16> {
        let Inner::Os(fd) = fd.inner() else { return Outcome::Failed(libc::EOPNOTSUPP) };
        self.poll(fd.as_fd(), PollFlags::IN)
    }

    fn poll_hang_ups(&mut self, fd: &Fd) -> Outcome<i16> {
        let Inner::Os(fd) = fd.inner() else { return Outcome::Failed(libc::EOPNOTSUPP) };
        self.poll(fd.as_fd(), PollFlags::RDHUP)
    }

    /// Fails as on kernels without the operation: the caller then waits for the pidfd to become readable.
    fn wait_exit(&mut self, _: BorrowedFd<'_>) -> Outcome<()> {
        Outcome::Failed(libc::EINVAL)
    }
}

/// Whether a write to a pipe without a reader may suppress SIGPIPE (Linux 6.18).
fn can_write_quietly() -> bool {
    let Ok((_read, pipe)) = std::io::pipe() else { return false };
    pwritev2(&pipe, &[IoSlice::new(&[0])], CURRENT, NOSIGNAL) == Ok(1)
}

/// Writes without SIGPIPE. Files that do not support the flag are written without it.
fn write_quietly(fd: BorrowedFd<'_>, data: &[u8]) -> Result<usize, Errno> {
    match pwritev2(fd, &[IoSlice::new(data)], CURRENT, NOSIGNAL) {
        Err(Errno::OPNOTSUPP) => write(fd, data),
        other => other,
    }
}

/// The offset that means the current position.
const CURRENT: u64 = u64::MAX;
const NOSIGNAL: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x100);

#[inline(always)]
fn outcome<T>(result: Result<T, Errno>) -> Outcome<T> {
    match result {
        Ok(value) => Outcome::Ready(value),
        Err(Errno::AGAIN) => Outcome::Blocked,
        Err(e) => Outcome::Failed(e.raw_os_error()),
    }
}
