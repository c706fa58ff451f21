//! Connecting (asyncio `open_connection`).

use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use corio_runtime::{
    error,
    fd::Fd,
    op::{self, Op},
    socket,
    time::{Sleep, sleep},
};

use crate::{
    addr::ToSocketAddrs,
    ops::Connect,
    streams::{Addrs, DEFAULT_LIMIT, Origin, StreamReader, StreamWriter, TABLE},
};

/// How long an address is tried before the next one is tried in parallel (RFC 8305).
const HAPPY_EYEBALLS_DELAY: Duration = Duration::from_millis(250);

/// Connects to `addr`; returns the connection as a reader and a writer (asyncio `open_connection`).
///
/// If a name has several addresses, they are tried in order, families alternating, each with a head start of 250 ms
/// (happy eyeballs). Dropping the future closes every socket that it opened.
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
/// With the address in the text and the kernel's error as its source. If several addresses failed for different
/// reasons: "Multiple exceptions: …", with the first error as the source.
pub async fn open_connection(addr: impl ToSocketAddrs) -> io::Result<(StreamReader, StreamWriter)> {
    Connection::builder().connect(addr).await
}

/// Options of a connection: see [`Connection::builder`].
#[derive(Debug)]
pub struct Connection(());

impl Connection {
    /// Options, for [`ConnectionBuilder::connect`].
    pub fn builder() -> ConnectionBuilder {
        ConnectionBuilder { limit: DEFAULT_LIMIT, local: None, nodelay: true, linger: None }
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
        let (peer, fd) = race(interleave(addrs), self.local).await?;
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

/// Alternates between the families, beginning with that of the first address.
fn interleave(addrs: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v4 = addrs.first().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) = addrs.into_iter().partition(|addr| addr.is_ipv4() == first_is_v4);
    let longest = first.len().max(second.len());
    (0..longest).flat_map(|i| first.get(i).into_iter().chain(second.get(i))).copied().collect()
}

/// Returns the first connection. After a failure the next address is tried at once, otherwise after the delay.
async fn race(addrs: Vec<SocketAddr>, local: Option<SocketAddr>) -> io::Result<(SocketAddr, Fd)> {
    let (attempts, errors, stagger) = (Vec::new(), Vec::new(), sleep(HAPPY_EYEBALLS_DELAY));
    let mut race = Race { addrs: addrs.into_iter(), local, attempts, errors, stagger };
    poll_fn(|cx| race.poll(cx)).await
}

struct Race {
    addrs: std::vec::IntoIter<SocketAddr>,
    local: Option<SocketAddr>,
    attempts: Vec<(SocketAddr, Op<Connect>)>,
    errors: Vec<io::Error>,
    stagger: Sleep,
}

impl Race {
    /// Starts with the next address. If that has no socket, it counts as failed.
    fn start_next(&mut self) -> bool {
        let Some(addr) = self.addrs.next() else { return false };
        self.stagger = sleep(HAPPY_EYEBALLS_DELAY);
        match socket::connector(addr, self.local) {
            Ok(fd) => self.attempts.push((addr, op::submit(Connect { fd, addr: addr.into() }))),
            Err(e) => self.errors.push(e),
        }
        true
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(SocketAddr, Fd)>> {
        loop {
            let before = self.attempts.len();
            if let Some(connected) = self.poll_attempts(cx) {
                return Poll::Ready(Ok(connected));
            }
            let failed = self.attempts.len() < before || self.attempts.is_empty();
            let late = self.addrs.len() > 0 && Pin::new(&mut self.stagger).poll(cx).is_ready();
            if (failed || late) && self.start_next() {
                continue;
            }
            if self.attempts.is_empty() {
                return Poll::Ready(Err(summary(&mut self.errors)));
            }
            return Poll::Pending;
        }
    }

    fn poll_attempts(&mut self, cx: &mut Context<'_>) -> Option<(SocketAddr, Fd)> {
        let mut index = 0;
        while let Some((addr, attempt)) = self.attempts.get_mut(index) {
            match Pin::new(attempt).poll(cx) {
                Poll::Ready(Ok(fd)) => return Some((*addr, fd)),
                Poll::Ready(Err(e)) => {
                    let text = format!("cannot connect to {addr}: {e}");
                    self.errors.push(error::explain(e, text));
                    drop(self.attempts.remove(index));
                }
                Poll::Pending => index += 1,
            }
        }
        None
    }
}

/// Combines several errors into one, as asyncio does.
fn summary(errors: &mut Vec<io::Error>) -> io::Error {
    let first = errors.remove(0);
    if errors.iter().all(|e| e.to_string() == first.to_string()) {
        return first;
    }
    let texts: Vec<String> = std::iter::once(&first).chain(errors.iter()).map(ToString::to_string).collect();
    error::explain(first, format!("Multiple exceptions: {}", texts.join(", ")))
}
