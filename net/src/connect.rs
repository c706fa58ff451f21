//! Connecting (asyncio `open_connection`).

mod errors;
mod order;
mod race;

use std::{io, net::SocketAddr, time::Duration};

use corio_runtime::fd::Fd;
pub use errors::ConnectErrors;
use order::interleaved;
use race::race;

use crate::{
    addr::ToSocketAddrs,
    streams::{Addrs, DEFAULT_LIMIT, Origin, StreamReader, StreamWriter, TABLE},
};

/// How long an address is tried before the next one is tried beside it, by default (RFC 8305).
const HAPPY_EYEBALLS_DELAY: Duration = Duration::from_millis(250);

/// Connects to `addr`; returns the connection as a reader and a writer (asyncio `open_connection`).
///
/// If a name has several addresses, they are tried in order, families alternating, each with a head start of 250 ms
/// before the next one, which starts at once if an attempt fails (happy eyeballs; in asyncio off by default, see
/// [`ConnectionBuilder::happy_eyeballs`]). Dropping the future closes every socket that it opened.
///
/// ```
/// corio_runtime::run(async {
///     let server = corio_net::start_server("127.0.0.1:0", |mut reader, mut writer| async move {
///         let line = reader.readline().await?;
///         writer.write_all(line).await
///     }).await?;
///     let (mut reader, mut writer) = corio_net::open_connection(server.local_addr()?).await?;
///     writer.write(b"hello\n")?;
///     assert_eq!(reader.readline().await?, b"hello\n");
///     std::io::Result::Ok(())
/// }).unwrap();
/// ```
///
/// # Errors
/// With the address in the text and the kernel's error as its source. If several addresses failed: "Multiple
/// exceptions: …", with each of them and its error, which [`ConnectErrors`] gives one by one.
pub async fn open_connection(addr: impl ToSocketAddrs) -> io::Result<(StreamReader, StreamWriter)> {
    Connection::builder().connect(addr).await
}

/// Options of a connection: see [`Connection::builder`].
#[derive(Debug)]
pub struct Connection(());

impl Connection {
    /// Options, for [`ConnectionBuilder::connect`].
    pub fn builder() -> ConnectionBuilder {
        ConnectionBuilder {
            limit: DEFAULT_LIMIT,
            local: None,
            nodelay: true,
            linger: None,
            delay: Some(HAPPY_EYEBALLS_DELAY),
            interleave: None,
        }
    }
}

/// Options of a connection.
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `connect`"]
pub struct ConnectionBuilder {
    limit: usize,
    local: Option<SocketAddr>,
    nodelay: bool,
    linger: Option<(Duration, Duration)>,
    delay: Option<Duration>,
    interleave: Option<usize>,
}

impl ConnectionBuilder {
    /// The reader's limit in bytes, at least 1: the longest line, and half of what may be buffered unread. Default:
    /// 65536.
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// The address to connect from. Remote addresses of the other family are skipped.
    pub fn local_addr(mut self, addr: SocketAddr) -> Self {
        self.local = Some(addr);
        self
    }

    /// `TCP_NODELAY`. Default: on.
    pub fn nodelay(mut self, on: bool) -> Self {
        self.nodelay = on;
        self
    }

    /// How long the connection may take to close, in all and without a byte moving: see [`StreamWriter::linger`].
    /// Default: 30 s and 5 s.
    pub fn linger(mut self, total: Duration, idle: Duration) -> Self {
        self.linger = Some((total, idle));
        self
    }

    /// How long an address is tried before the next one is tried beside it (asyncio `happy_eyeballs_delay`); the first
    /// to connect wins, and the others are given up. With `None` they are tried one after the other, as asyncio does by
    /// default: a silent one then costs as much as the kernel allows, about two minutes. Default: 250 ms.
    ///
    /// ```
    /// use corio_net::{Connection, TcpListener};
    /// use std::net::SocketAddr;
    /// corio_runtime::run(async {
    ///     let listener = TcpListener::bind("127.0.0.1:0").await?;
    ///     let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
    ///     let one_by_one = Connection::builder().happy_eyeballs(None);
    ///     let (_reader, writer) = one_by_one.connect([nobody, listener.local_addr()?]).await?;
    ///     assert_eq!(writer.peer_addr()?, listener.local_addr()?);
    ///     std::io::Result::Ok(())
    /// }).unwrap();
    /// ```
    pub fn happy_eyeballs(mut self, delay: impl Into<Option<Duration>>) -> Self {
        self.delay = delay.into();
        self
    }

    /// How many addresses of the first one's family come before one of the other family; from there on they alternate
    /// (asyncio `interleave`). 0 leaves the order as it is. Default: 1, or 0 if [`happy_eyeballs`] is off.
    ///
    /// [`happy_eyeballs`]: ConnectionBuilder::happy_eyeballs
    pub fn interleave(mut self, first: usize) -> Self {
        self.interleave = Some(first);
        self
    }

    /// As [`open_connection`], with these options.
    pub async fn connect(self, addr: impl ToSocketAddrs) -> io::Result<(StreamReader, StreamWriter)> {
        check_limit(self.limit)?;
        let (fd, addrs) = self.connect_fd(addr).await?;
        let (reader, mut writer) =
            TABLE.with(|streams| streams.open(fd, addrs, self.limit, true, Origin::Connected));
        if let Some((total, idle)) = self.linger {
            writer.linger(total, idle);
        }
        Ok((reader, writer))
    }

    pub(crate) async fn connect_fd(&self, addr: impl ToSocketAddrs) -> io::Result<(Fd, Addrs)> {
        let mut addrs = addr.target().addresses().await?;
        if let Some(local) = self.local {
            addrs.retain(|addr| addr.is_ipv4() == local.is_ipv4());
            if addrs.is_empty() {
                let text = format!("no address of the family of the local address {local}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        }
        let first = self.interleave.unwrap_or(usize::from(self.delay.is_some()));
        let (peer, fd) = race(interleaved(addrs, first), self.local, self.delay).await?;
        fd.set_nodelay(self.nodelay)?;
        let addrs = addresses(peer, &fd);
        Ok((fd, addrs))
    }
}

/// The addresses of a connected socket. The peer may have reset it since: its address is known without the kernel.
fn addresses(peer: SocketAddr, fd: &Fd) -> Addrs {
    // The kernel replaces the unspecified address by one of this machine.
    let told = if peer.ip().is_unspecified() { fd.peer_addr().ok() } else { None };
    Addrs::new(Some(told.unwrap_or(peer)), fd.local_addr().ok())
}

/// A limit of 0 could never be met.
pub(crate) fn check_limit(limit: usize) -> io::Result<()> {
    if limit == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "limit 0: must be at least 1 byte"));
    }
    Ok(())
}
