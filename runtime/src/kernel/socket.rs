//! Socket calls that are not operations of the ring: set-up, queries and shutdown. None of them blocks.

use std::{
    io,
    net::{Shutdown, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    getsockopt_impl,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        self as sys, AddressFamily, Backlog, MsgFlags, SockFlag, SockType, SockaddrStorage,
        sockopt::{self, Linger, ReuseAddr, ReusePort, TcpNoDelay},
    },
};

use crate::kernel::{
    connection::{Delivery, ListenOptions, Unread},
    error,
    fd::{Fd, Inner},
    sqe::SockAddr,
};

/// A socket that is bound to `addr`, and listens from its [`Fd::listen`] on.
pub(crate) fn bind(addr: SocketAddr, options: ListenOptions) -> io::Result<OwnedFd> {
    let fd = stream_socket(addr)?;
    sys::setsockopt(&fd, ReuseAddr, &options.reuse_addr)?;
    sys::setsockopt(&fd, ReusePort, &options.reuse_port)?;
    // Accepted sockets inherit the option.
    sys::setsockopt(&fd, TcpNoDelay, &options.nodelay)?;
    if addr.is_ipv6() {
        sys::setsockopt(&fd, sockopt::Ipv6V6Only, &options.v6_only)?;
    }
    sys::bind(fd.as_raw_fd(), &SockaddrStorage::from(addr))?;
    Ok(fd)
}

const RDHUP: PollFlags = PollFlags::from_bits_retain(libc::POLLRDHUP);

/// The indices of those `sockets` whose peer has ended or reset the connection, or that have another pending error (one
/// `poll` that does not wait).
///
/// ```
/// use corio_runtime::{fd::Fd, socket::hung_up};
/// use std::os::{fd::OwnedFd, unix::net::UnixStream};
/// let (ours, theirs) = UnixStream::pair()?;
/// let (other, _its_peer) = UnixStream::pair()?;
/// let sockets = [other, ours].map(|socket| Fd::from(OwnedFd::from(socket)));
/// assert_eq!(hung_up(&sockets), []);
/// drop(theirs);
/// assert_eq!(hung_up(&sockets), [1]);
/// # std::io::Result::Ok(())
/// ```
pub fn hung_up(sockets: &[Fd]) -> Vec<usize> {
    let (mut places, mut fds) = (Vec::new(), Vec::new());
    let mut found = Vec::new();
    for (place, socket) in sockets.iter().enumerate() {
        match socket.inner() {
            Inner::Os(fd) => {
                places.push(place);
                fds.push(PollFd::new(fd.as_fd(), RDHUP));
            }
            Inner::Sim(socket) if socket.hung_up() => found.push(place),
            Inner::Sim(_) => {}
        }
    }
    // If `poll` fails, only simulated sockets are reported: the caller asks again later.
    if !fds.is_empty() && poll(&mut fds, PollTimeout::ZERO).is_ok() {
        // `any` returns `None` if a flag is set that nix does not know, as POLLRDHUP.
        let told = places.iter().zip(&fds).filter(|(_, fd)| fd.any().unwrap_or(true));
        found.extend(told.map(|(place, _)| *place));
    }
    found
}

/// A stream socket for a connection to `remote`, bound to `local` if given.
pub(crate) fn connector(remote: SocketAddr, local: Option<SocketAddr>) -> io::Result<Fd> {
    let fd = stream_socket(remote)?;
    if let Some(local) = local {
        sys::setsockopt(&fd, ReuseAddr, &true)?;
        sys::bind(fd.as_raw_fd(), &SockaddrStorage::from(local))
            .map_err(|e| with_address(e.into(), "bind to", local))?;
    }
    Ok(Fd::from(fd))
}

fn listen(fd: &impl AsFd, backlog: u32) -> io::Result<()> {
    // The kernel reduces it to net.core.somaxconn anyway.
    let backlog = backlog.min(libc::SOMAXCONN.cast_unsigned());
    Ok(sys::listen(fd, Backlog::new(backlog.cast_signed())?)?)
}

fn stream_socket(addr: SocketAddr) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    Ok(sys::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?)
}

/// `e` with a text that names the action and the address.
pub(crate) fn with_address(e: io::Error, what: &str, addr: SocketAddr) -> io::Error {
    let text = format!("cannot {what} {addr}: {e}");
    error::explain(e, text)
}

/// The kernel's longest idle time and interval of `SO_KEEPALIVE`, in seconds.
const KEEPALIVE_MAX: u64 = 32767;
/// Probes without an answer that end a connection.
const KEEPALIVE_PROBES: u32 = 3;

impl Fd {
    /// Listens on a socket that [`bind`](crate::socket::bind) made, for at most `backlog` connections that wait to be
    /// accepted: lowered to 4096 and to `net.core.somaxconn`.
    ///
    /// ```
    /// use corio_runtime::socket::{ListenOptions, bind};
    /// use std::net::TcpStream;
    /// corio_runtime::run(async {
    ///     let options =
    ///         ListenOptions { backlog: 8, reuse_addr: true, reuse_port: false, nodelay: true, v6_only: false };
    ///     let fd = bind("127.0.0.1:0".parse().unwrap(), options)?;
    ///     let addr = fd.local_addr()?;
    ///     assert!(TcpStream::connect(addr).is_err());
    ///     fd.listen(8)?;
    ///     assert!(TcpStream::connect(addr).is_ok());
    ///     std::io::Result::Ok(())
    /// }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The kernel's error, with the address in the text.
    pub fn listen(&self, backlog: u32) -> io::Result<()> {
        let listening = match self.inner() {
            Inner::Os(fd) => listen(fd, backlog),
            Inner::Sim(socket) => socket.listen(backlog),
        };
        listening.map_err(|e| match self.local_addr() {
            Ok(addr) => with_address(e, "listen on", addr),
            Err(_) => e,
        })
    }

    /// `SO_KEEPALIVE`: after `idle` without a byte from the peer its kernel is asked, then every third of `idle`; the
    /// third question without an answer ends the connection with `ETIMEDOUT`. Times are in whole seconds, from 1 s to
    /// 32767 s: shorter ones are raised, longer ones lowered. The connections that a listener accepts inherit it.
    ///
    /// ```
    /// use std::{os::fd::OwnedFd, net::TcpListener, time::Duration};
    /// let fd = corio_runtime::fd::Fd::from(OwnedFd::from(TcpListener::bind("127.0.0.1:0")?));
    /// fd.set_keepalive(Duration::from_secs(60))?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn set_keepalive(&self, idle: Duration) -> io::Result<()> {
        let Inner::Os(fd) = self.inner() else { return Ok(()) };
        let seconds = |time: Duration| time.as_secs().clamp(1, KEEPALIVE_MAX) as u32;
        sys::setsockopt(fd, sockopt::KeepAlive, &true)?;
        sys::setsockopt(fd, sockopt::TcpKeepIdle, &seconds(idle))?;
        sys::setsockopt(fd, sockopt::TcpKeepInterval, &seconds(idle / 3))?;
        sys::setsockopt(fd, sockopt::TcpKeepCount, &KEEPALIVE_PROBES)?;
        Ok(())
    }

    /// `getsockname`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self.inner() {
            Inner::Os(fd) => to_std(sys::getsockname(fd.as_raw_fd())?),
            Inner::Sim(socket) => socket.local_addr(),
        }
    }

    /// `getpeername`.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self.inner() {
            Inner::Os(fd) => to_std(sys::getpeername(fd.as_raw_fd())?),
            Inner::Sim(socket) => socket.peer_addr(),
        }
    }

    /// `TCP_NODELAY`. No effect on sockets other than TCP.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        match self.inner() {
            Inner::Os(fd) => match sys::setsockopt(fd, TcpNoDelay, &on) {
                Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::ENOPROTOOPT) => Ok(()),
                other => Ok(other?),
            },
            Inner::Sim(_) => Ok(()),
        }
    }

    /// `shutdown`. Succeeds on a socket that is no longer connected.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self.inner() {
            Inner::Os(fd) => {
                let how = match how {
                    Shutdown::Read => sys::Shutdown::Read,
                    Shutdown::Write => sys::Shutdown::Write,
                    Shutdown::Both => sys::Shutdown::Both,
                };
                match sys::shutdown(fd.as_raw_fd(), how) {
                    Err(nix::errno::Errno::ENOTCONN) => Ok(()),
                    other => Ok(other?),
                }
            }
            Inner::Sim(socket) => {
                socket.shutdown(how);
                Ok(())
            }
        }
    }

    /// The result that a receive on the connection would have now (`MSG_PEEK`).
    ///
    /// ```
    /// use corio_runtime::{fd::Fd, socket::Unread};
    /// use std::{io::Write, os::{fd::OwnedFd, unix::net::UnixStream}};
    /// corio_runtime::run(async {
    ///     let (ours, mut peer) = UnixStream::pair().unwrap();
    ///     let fd = Fd::from(OwnedFd::from(ours));
    ///     assert_eq!(fd.unread().unwrap(), Unread::Nothing);
    ///     peer.write_all(b"x").unwrap();
    ///     assert_eq!(fd.unread().unwrap(), Unread::Data);
    /// });
    /// ```
    ///
    /// # Errors
    /// The error of such a receive.
    pub fn unread(&self) -> io::Result<Unread> {
        match self.inner() {
            Inner::Os(fd) => {
                let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
                match sys::recv(fd.as_raw_fd(), &mut [0], flags) {
                    Ok(0) => Ok(Unread::End),
                    Ok(_) => Ok(Unread::Data),
                    Err(Errno::EAGAIN) => Ok(Unread::Nothing),
                    Err(e) => Err(e.into()),
                }
            }
            Inner::Sim(socket) => socket.unread(),
        }
    }

    /// How much sent data the peer's kernel has acknowledged (`TCP_INFO`). A socket family without acknowledgements has
    /// none outstanding.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn delivery(&self) -> io::Result<Delivery> {
        match self.inner() {
            Inner::Os(fd) => match sys::getsockopt(fd, GetTcpInfo) {
                Ok(info) => Ok(Delivery {
                    acknowledged: info.bytes_acked,
                    outstanding: info.unacked > 0 || info.not_sent_bytes > 0,
                }),
                Err(Errno::EOPNOTSUPP | Errno::ENOPROTOOPT | Errno::ENOTSOCK) => Ok(Delivery::default()),
                Err(e) => Err(e.into()),
            },
            Inner::Sim(socket) => Ok(socket.delivery()),
        }
    }

    /// Makes the close of the socket a reset (`SO_LINGER` of 0 seconds).
    pub fn reset_on_close(&self) -> io::Result<()> {
        match self.inner() {
            Inner::Os(fd) => Ok(sys::setsockopt(fd, Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?),
            Inner::Sim(socket) => {
                socket.reset_on_close();
                Ok(())
            }
        }
    }

    /// The pending error of a socket (`SO_ERROR`), which this clears.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self.inner() {
            Inner::Os(fd) => {
                let errno = sys::getsockopt(fd, sockopt::SocketError)?;
                Ok((errno != 0).then(|| io::Error::from_raw_os_error(errno)))
            }
            Inner::Sim(_) => Ok(None),
        }
    }

    /// The real descriptor, or an error on the simulator.
    pub fn borrow_os(&self) -> io::Result<BorrowedFd<'_>> {
        self.as_fd()
            .ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "a simulated socket has no descriptor"))
    }
}

/// The first fields of the kernel's `struct tcp_info`, as every kernel since 4.6 fills them.
#[repr(C)]
#[derive(Clone, Copy)]
struct TcpInfo {
    _states: [u8; 8],
    _times: [u32; 4],
    /// In segments.
    unacked: u32,
    _counts: [u32; 19],
    _rates: [u64; 2],
    bytes_acked: u64,
    _bytes_received: u64,
    _segments: [u32; 2],
    not_sent_bytes: u32,
    _min_rtt: u32,
}

const _: () = assert!(size_of::<TcpInfo>() == 152);

#[derive(Clone, Copy)]
struct GetTcpInfo;

getsockopt_impl!(GetTcpInfo, libc::IPPROTO_TCP, libc::TCP_INFO, TcpInfo, sockopt::GetStruct<TcpInfo>);

fn to_std(addr: SockaddrStorage) -> io::Result<SocketAddr> {
    let unsupported = || io::Error::new(io::ErrorKind::Unsupported, "the socket has no internet address");
    SockAddr(addr).to_std().ok_or_else(unsupported)
}
