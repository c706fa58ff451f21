//! The submission queue entry as a value that borrows from its operation.

use std::{
    fmt,
    net::{Ipv4Addr, Shutdown, SocketAddr},
    os::fd::BorrowedFd,
    time::Duration,
};

use io_uring::types::Timespec;
use nix::sys::socket::SockaddrStorage;

use crate::kernel::fd::Fd;

/// A socket address in the form the kernel reads.
#[derive(Clone, Debug)]
pub struct SockAddr(pub(crate) SockaddrStorage);

impl From<std::net::SocketAddr> for SockAddr {
    fn from(addr: std::net::SocketAddr) -> Self {
        SockAddr(addr.into())
    }
}

impl SockAddr {
    /// The internet address; `None` for another family.
    pub(crate) fn to_std(&self) -> Option<std::net::SocketAddr> {
        if let Some(v4) = self.0.as_sockaddr_in() {
            return Some((v4.ip(), v4.port()).into());
        }
        let v6 = self.0.as_sockaddr_in6()?;
        Some(std::net::SocketAddrV6::new(v6.ip(), v6.port(), v6.flowinfo(), v6.scope_id()).into())
    }
}

/// A span of time in the form the kernel reads.
pub(crate) struct Pause {
    pub(crate) timespec: Timespec,
    pub(crate) nanos: u64,
}

impl From<Duration> for Pause {
    fn from(span: Duration) -> Self {
        Pause { timespec: span.into(), nanos: u64::try_from(span.as_nanos()).unwrap_or(u64::MAX) }
    }
}

/// Room for the address of an accepted peer, which the kernel writes.
///
/// ```
/// use corio_runtime::{fd::Fd, op::{self, Done, Operation, PeerAddr, Sqe}, socket::{ListenOptions, listen}};
/// use std::{io, net::SocketAddr};
/// struct Accept { fd: Fd, peer: PeerAddr }
/// impl Operation for Accept {
///     type Output = io::Result<(Fd, Option<SocketAddr>)>;
///     fn prepare(&mut self) -> Sqe<'_> { Sqe::accept(&self.fd, &mut self.peer) }
///     fn complete(self: Box<Self>, done: Done) -> Self::Output { Ok((done.into_fd()?, self.peer.get())) }
/// }
/// corio_runtime::run(async {
///     let options =
///         ListenOptions { backlog: 8, reuse_addr: true, reuse_port: false, nodelay: true, v6_only: false };
///     let fd = listen("127.0.0.1:0".parse().unwrap(), options)?;
///     let client = std::net::TcpStream::connect(fd.local_addr()?)?;
///     let (_accepted, peer) = op::submit(Accept { fd, peer: PeerAddr::new() }).await?;
///     assert_eq!(peer, Some(client.local_addr()?));
///     io::Result::Ok(())
/// }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct PeerAddr {
    pub(crate) addr: SockAddr,
    /// The size of the room, then the length of the written address.
    pub(crate) len: u32,
}

impl PeerAddr {
    /// Room for an address.
    pub fn new() -> PeerAddr {
        PeerAddr { addr: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into(), len: 0 }
    }

    /// The internet address that the last accept wrote; `None` for another family.
    pub fn get(&self) -> Option<SocketAddr> {
        self.addr.to_std()
    }
}

impl Default for PeerAddr {
    fn default() -> PeerAddr {
        PeerAddr::new()
    }
}

/// A description of one operation, named as in io_uring. On epoll and in the simulator it has the same effect, by
/// nonblocking system calls, or in memory.
///
/// Its pointers can only be borrows of the operation that made it:
///
/// ```
/// use corio_runtime::{fd::Fd, op::{Done, Operation, Sqe}};
/// struct Recv { fd: Fd, buf: Vec<u8> }
/// impl Operation for Recv {
///     type Output = ();
///     fn prepare(&mut self) -> Sqe<'_> { Sqe::recv(&self.fd, &mut self.buf) }
///     fn complete(self: Box<Self>, _: Done) {}
/// }
/// ```
///
/// A borrow guard does not live long enough:
/// ```compile_fail,E0515
/// use corio_runtime::{fd::Fd, op::{Done, Operation, Sqe}};
/// use std::{cell::RefCell, rc::Rc};
/// struct Guard { fd: Fd, buf: Rc<RefCell<Vec<u8>>> }
/// impl Operation for Guard {
///     type Output = ();
///     fn prepare(&mut self) -> Sqe<'_> { Sqe::recv(&self.fd, &mut self.buf.borrow_mut()) }
///     fn complete(self: Box<Self>, _: Done) {}
/// }
/// ```
///
/// Nor does an array on the stack:
/// ```compile_fail,E0515
/// use corio_runtime::{fd::Fd, op::{Done, Operation, Sqe}};
/// struct Stack { fd: Fd }
/// impl Operation for Stack {
///     type Output = ();
///     fn prepare(&mut self) -> Sqe<'_> { let mut buf = [0u8; 8]; Sqe::recv(&self.fd, &mut buf) }
///     fn complete(self: Box<Self>, _: Done) {}
/// }
/// ```
///
/// And another object cannot be reached through a shared pointer, because a receive needs `&mut`:
/// ```compile_fail,E0596
/// use corio_runtime::{fd::Fd, op::{Done, Operation, Sqe}};
/// use std::rc::Rc;
/// struct Shared { fd: Fd, buf: Rc<Vec<u8>> }
/// impl Operation for Shared {
///     type Output = ();
///     fn prepare(&mut self) -> Sqe<'_> { Sqe::recv(&self.fd, &mut self.buf) }
///     fn complete(self: Box<Self>, _: Done) {}
/// }
/// ```
///
/// A multishot cannot lend memory to be written, because it is shared while armed:
/// ```compile_fail,E0596
/// use corio_runtime::{fd::Fd, op::{Done, Multishot, Sqe}};
/// struct Many { fd: Fd, buf: Vec<u8> }
/// impl Multishot for Many {
///     fn prepare(&self) -> Sqe<'_> { Sqe::recv(&self.fd, &mut self.buf) }
///     fn item(&self, _: Done) {}
///     fn end(&self, _: Done) {}
/// }
/// ```
pub struct Sqe<'a> {
    pub(crate) kind: Kind<'a>,
}

/// The kinds of operations. A kernel may refuse one with an error number.
pub(crate) enum Kind<'a> {
    Nop,
    Read { fd: &'a Fd, buf: &'a mut [u8] },
    Write { fd: &'a Fd, buf: &'a [u8] },
    Recv { fd: &'a Fd, buf: &'a mut [u8] },
    RecvMulti { fd: &'a Fd, cap: u32 },
    Send { fd: &'a Fd, buf: &'a [u8] },
    SendVectored { fd: &'a Fd, bufs: Vec<&'a [u8]> },
    Accept { fd: &'a Fd, peer: &'a mut PeerAddr },
    Connect { fd: &'a Fd, addr: &'a SockAddr },
    Shutdown { fd: &'a Fd, how: Shutdown },
    PollReadable { fd: &'a Fd },
    PollMulti { fd: &'a Fd },
    WaitExit { pidfd: BorrowedFd<'a> },
    Pause { pause: &'a Pause },
}

impl<'a> Sqe<'a> {
    fn new(kind: Kind<'a>) -> Sqe<'a> {
        Sqe { kind }
    }

    /// `IORING_OP_NOP`: completes immediately.
    pub fn nop() -> Sqe<'a> {
        Sqe::new(Kind::Nop)
    }

    /// `IORING_OP_READ` from the current position. On epoll a read of a regular file runs on the loop's thread and may
    /// block it. There, any other descriptor except a socket is set to `O_NONBLOCK`, which affects all who share it; a
    /// terminal is opened again instead.
    pub fn read(fd: &'a Fd, buf: &'a mut [u8]) -> Sqe<'a> {
        Sqe::new(Kind::Read { fd, buf })
    }

    /// `IORING_OP_WRITE` at the current position. A write to a pipe without a reader raises SIGPIPE, unless the kernel
    /// can suppress it ([`pipes_are_quiet`](crate::op::pipes_are_quiet)). On epoll like [`read`](Sqe::read).
    pub fn write(fd: &'a Fd, buf: &'a [u8]) -> Sqe<'a> {
        Sqe::new(Kind::Write { fd, buf })
    }

    /// `IORING_OP_RECV`: one receive into `buf`.
    pub fn recv(fd: &'a Fd, buf: &'a mut [u8]) -> Sqe<'a> {
        Sqe::new(Kind::Recv { fd, buf })
    }

    /// Multishot `IORING_OP_RECV` into buffers of the loop's pool. If the kernel supports a cap, the receive ends after
    /// about `cap` bytes in total, or after as many as fill 32 buffers if that is less, or if `cap` is 0.
    pub fn recv_multi(fd: &'a Fd, cap: u32) -> Sqe<'a> {
        Sqe::new(Kind::RecvMulti { fd, cap })
    }

    /// `IORING_OP_SEND` of all of `buf` (`MSG_WAITALL`), never raising SIGPIPE.
    pub fn send(fd: &'a Fd, buf: &'a [u8]) -> Sqe<'a> {
        Sqe::new(Kind::Send { fd, buf })
    }

    /// `IORING_OP_SENDMSG` of several buffers in order, at most 1024 of them.
    pub fn send_vectored(fd: &'a Fd, bufs: Vec<&'a [u8]>) -> Sqe<'a> {
        Sqe::new(Kind::SendVectored { fd, bufs })
    }

    /// `IORING_OP_ACCEPT` of one connection. The peer's address is written to `peer`, even if the peer has already
    /// reset the connection. On epoll the listening socket is set to `O_NONBLOCK`. For an example see [`PeerAddr`].
    pub fn accept(fd: &'a Fd, peer: &'a mut PeerAddr) -> Sqe<'a> {
        peer.len = size_of::<SockaddrStorage>() as u32;
        Sqe::new(Kind::Accept { fd, peer })
    }

    /// `IORING_OP_CONNECT`. On epoll the socket is set to `O_NONBLOCK`.
    pub fn connect(fd: &'a Fd, addr: &'a SockAddr) -> Sqe<'a> {
        Sqe::new(Kind::Connect { fd, addr })
    }

    /// `IORING_OP_SHUTDOWN`.
    pub fn shutdown(fd: &'a Fd, how: Shutdown) -> Sqe<'a> {
        Sqe::new(Kind::Shutdown { fd, how })
    }

    /// `IORING_OP_POLL_ADD` for readability.
    pub fn poll_readable(fd: &'a Fd) -> Sqe<'a> {
        Sqe::new(Kind::PollReadable { fd })
    }

    /// Multishot `IORING_OP_POLL_ADD` for the end of a connection: each result is the subset of `POLLERR`, `POLLHUP`
    /// and `POLLRDHUP` that holds, at the start and after each change.
    pub fn poll_multi(fd: &'a Fd) -> Sqe<'a> {
        Sqe::new(Kind::PollMulti { fd })
    }

    /// `IORING_OP_WAITID` (Linux 6.7) for the exit of the process that `pidfd` names, which is not reaped. Older
    /// kernels and epoll fail it with `EINVAL`: use [`poll_readable`](Sqe::poll_readable) of the pidfd there.
    pub fn wait_exit(pidfd: BorrowedFd<'a>) -> Sqe<'a> {
        Sqe::new(Kind::WaitExit { pidfd })
    }

    /// `IORING_OP_TIMEOUT`: fails with `ETIME` after this time.
    pub(crate) fn pause(pause: &'a Pause) -> Sqe<'a> {
        Sqe::new(Kind::Pause { pause })
    }

    /// Whether it is a transfer of no bytes.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.kind {
            Kind::Read { buf, .. } | Kind::Recv { buf, .. } => buf.is_empty(),
            Kind::Write { buf, .. } | Kind::Send { buf, .. } => buf.is_empty(),
            Kind::SendVectored { bufs, .. } => bufs.iter().all(|buf| buf.is_empty()),
            _ => false,
        }
    }

    /// # Panics
    /// If the operation may have more than one result.
    #[inline(always)]
    pub(crate) fn single(self) -> Sqe<'a> {
        let many = matches!(self.kind, Kind::RecvMulti { .. } | Kind::PollMulti { .. });
        assert!(!many, "{self:?} has many results: it needs start_multishot");
        self
    }
}

impl fmt::Debug for Sqe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.kind {
            Kind::Nop => "nop",
            Kind::Read { .. } => "read",
            Kind::Write { .. } => "write",
            Kind::Recv { .. } => "recv",
            Kind::RecvMulti { .. } => "recv_multi",
            Kind::Send { .. } => "send",
            Kind::SendVectored { .. } => "send_vectored",
            Kind::Accept { .. } => "accept",
            Kind::Connect { .. } => "connect",
            Kind::Shutdown { .. } => "shutdown",
            Kind::PollReadable { .. } => "poll_readable",
            Kind::PollMulti { .. } => "poll_multi",
            Kind::WaitExit { .. } => "wait_exit",
            Kind::Pause { .. } => "pause",
        };
        f.debug_struct("Sqe").field("op", &name).finish()
    }
}
