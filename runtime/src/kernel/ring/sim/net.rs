//! The simulated network: listeners and byte streams between sockets of one loop.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr},
    rc::Rc,
};

use crate::{
    kernel::{
        connection::{Delivery, Unread},
        ring::outcome::Outcome,
    },
    scheduler::clock::Clock,
};

/// The most bytes that one direction of a stream holds before its sender waits.
const WINDOW: usize = 64 << 10;
const FIRST_PORT: u16 = 49152;

/// Data, or the end of the stream, in transit to a socket.
enum Parcel {
    Data(VecDeque<u8>),
    End,
    Reset,
}

#[derive(Default)]
struct Sock {
    local: Option<SocketAddr>,
    remote: Option<SocketAddr>,
    /// Connections to accept; `None` if the socket does not listen.
    backlog: Option<VecDeque<usize>>,
    backlog_max: usize,
    peer: Option<usize>,
    connected: bool,
    /// Parcels in order, each with the time from which it can be read.
    arriving: VecDeque<(u64, Parcel)>,
    arriving_bytes: usize,
    ended: bool,
    reset: bool,
    read_shut: bool,
    write_shut: bool,
    /// Bytes sent so far.
    sent: u64,
    reset_on_close: bool,
}

/// See the head of the file.
pub(super) struct Net {
    window: usize,
    socks: Vec<Option<Sock>>,
    free: Vec<usize>,
    next_port: u16,
}

pub(super) type SharedNet = Rc<RefCell<Net>>;

impl Net {
    pub(super) fn new(window: Option<usize>) -> Net {
        Net { window: window.unwrap_or(WINDOW), socks: Vec::new(), free: Vec::new(), next_port: FIRST_PORT }
    }

    fn insert(&mut self, sock: Sock) -> usize {
        match self.free.pop() {
            Some(id) => {
                self.socks[id] = Some(sock);
                id
            }
            None => {
                self.socks.push(Some(sock));
                self.socks.len() - 1
            }
        }
    }

    fn get(&mut self, id: usize) -> Option<&mut Sock> {
        self.socks.get_mut(id)?.as_mut()
    }

    /// A free port.
    fn port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
        port
    }

    fn listener_at(&self, addr: SocketAddr) -> Option<usize> {
        self.socks.iter().position(|sock| {
            let Some(Sock { backlog: Some(_), local: Some(local), read_shut: false, .. }) = sock else {
                return false;
            };
            local.port() == addr.port() && (local.ip() == addr.ip() || local.ip().is_unspecified())
        })
    }

    pub(super) fn bind(&mut self, addr: SocketAddr) -> io::Result<usize> {
        self.nobody_listens_on(addr)?;
        let port = if addr.port() == 0 { self.port() } else { addr.port() };
        Ok(self.insert(Sock { local: Some(SocketAddr::new(addr.ip(), port)), ..Sock::default() }))
    }

    fn listen(&mut self, id: usize, backlog: u32) -> io::Result<()> {
        if let Some(Sock { local: Some(addr), backlog: None, .. }) = self.get(id) {
            let addr = *addr;
            self.nobody_listens_on(addr)?;
        }
        if let Some(sock) = self.get(id) {
            sock.backlog.get_or_insert_default();
            sock.backlog_max = backlog as usize;
        }
        Ok(())
    }

    /// As on Linux with `SO_REUSEADDR`: sockets that do not listen may share an address.
    fn nobody_listens_on(&self, addr: SocketAddr) -> io::Result<()> {
        if addr.port() != 0 && self.listener_at(addr).is_some() {
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        Ok(())
    }

    pub(super) fn connector(&mut self, local: Option<SocketAddr>) -> usize {
        self.insert(Sock { local, ..Sock::default() })
    }

    pub(super) fn connect(&mut self, id: usize, addr: SocketAddr) -> Outcome<()> {
        let Some(listener) = self.listener_at(addr) else { return Outcome::Failed(libc::ECONNREFUSED) };
        let port = self.port();
        let Some(Sock { backlog: Some(backlog), backlog_max, .. }) = self.get(listener) else {
            return Outcome::Failed(libc::ECONNREFUSED);
        };
        if backlog.len() > *backlog_max {
            return Outcome::Blocked;
        }
        let ip = if addr.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { addr.ip() };
        let Some(client) = self.get(id) else { return Outcome::Failed(libc::EBADF) };
        if client.connected {
            return Outcome::Failed(libc::EISCONN);
        }
        let local = client.local.filter(|local| local.port() != 0).unwrap_or(SocketAddr::new(ip, port));
        let remote = SocketAddr::new(ip, addr.port());
        (client.local, client.remote, client.connected) = (Some(local), Some(remote), true);
        let server = self.insert(Sock {
            local: Some(remote),
            remote: Some(local),
            peer: Some(id),
            connected: true,
            ..Sock::default()
        });
        if let Some(client) = self.get(id) {
            client.peer = Some(server);
        }
        if let Some(Sock { backlog: Some(backlog), .. }) = self.get(listener) {
            backlog.push_back(server);
        }
        Outcome::Ready(())
    }

    pub(super) fn accept(&mut self, id: usize) -> Outcome {
        match self.get(id) {
            Some(Sock { read_shut: true, .. }) | None => Outcome::Failed(libc::EINVAL),
            Some(Sock { backlog: Some(backlog), .. }) => {
                backlog.pop_front().map_or(Outcome::Blocked, Outcome::Ready)
            }
            Some(_) => Outcome::Failed(libc::EINVAL),
        }
    }

    /// Fills `buf` with the data that has arrived by `now`.
    pub(super) fn receive(&mut self, id: usize, buf: &mut [u8], now: u64) -> Outcome {
        let Some(sock) = self.get(id) else { return Outcome::Failed(libc::EBADF) };
        if !sock.connected {
            return Outcome::Failed(libc::ENOTCONN);
        }
        let mut filled = 0;
        while let Some((at, parcel)) = sock.arriving.front_mut()
            && *at <= now
        {
            match parcel {
                Parcel::Data(data) => {
                    let n = data.len().min(buf.len() - filled);
                    for (place, byte) in buf[filled..].iter_mut().zip(data.drain(..n)) {
                        *place = byte;
                    }
                    filled += n;
                    if !data.is_empty() {
                        break;
                    }
                }
                Parcel::End | Parcel::Reset if filled > 0 => break,
                Parcel::End => sock.ended = true,
                Parcel::Reset => sock.reset = true,
            }
            sock.arriving.pop_front();
        }
        sock.arriving_bytes -= filled;
        match filled {
            0 if sock.reset => Outcome::Failed(libc::ECONNRESET),
            0 if sock.ended || sock.read_shut || buf.is_empty() => Outcome::Ready(0),
            0 => Outcome::Blocked,
            n => Outcome::Ready(n),
        }
    }

    /// Sends as much of `data` as fits, to arrive at `at`.
    pub(super) fn send(&mut self, id: usize, data: &[u8], at: u64) -> Outcome {
        let window = self.window;
        let Some(sock) = self.get(id) else { return Outcome::Failed(libc::EBADF) };
        if sock.reset {
            return Outcome::Failed(libc::ECONNRESET);
        }
        if sock.write_shut {
            return Outcome::Failed(libc::EPIPE);
        }
        if !sock.connected {
            return Outcome::Failed(libc::ENOTCONN);
        }
        let Some(peer) = sock.peer.and_then(|peer| self.get(peer)) else {
            return Outcome::Failed(libc::EPIPE);
        };
        let n = data.len().min(window.saturating_sub(peer.arriving_bytes));
        if n == 0 && !data.is_empty() {
            return Outcome::Blocked;
        }
        peer.push(at, Parcel::Data(data[..n].iter().copied().collect()));
        peer.arriving_bytes += n;
        if let Some(sock) = self.get(id) {
            sock.sent += n as u64;
        }
        Outcome::Ready(n)
    }

    pub(super) fn readable(&mut self, id: usize, now: u64) -> bool {
        self.get(id).is_none_or(|sock| {
            sock.reset
                || sock.ended
                || sock.read_shut
                || sock.backlog.as_ref().is_some_and(|queue| !queue.is_empty())
                || sock.arriving.front().is_some_and(|(at, _)| *at <= now)
        })
    }

    /// The number of parcels in transit to a socket, if they are only an end or a reset.
    pub(super) fn only_hang_up(&mut self, id: usize) -> Option<usize> {
        let arriving = &self.get(id)?.arriving;
        let data = arriving.iter().any(|(_, parcel)| matches!(parcel, Parcel::Data(_)));
        (!data && !arriving.is_empty()).then_some(arriving.len())
    }

    fn hung_up(&mut self, id: usize) -> bool {
        self.get(id).is_some_and(|sock| {
            let ends = |(_, parcel): &(u64, Parcel)| matches!(parcel, Parcel::End | Parcel::Reset);
            sock.ended || sock.reset || sock.arriving.iter().any(ends)
        })
    }

    /// Those of `POLLERR`, `POLLHUP` and `POLLRDHUP` that hold at `now`, even if data is unread.
    pub(super) fn hang_ups(&mut self, id: usize, now: u64) -> i16 {
        let Some(sock) = self.get(id) else { return libc::POLLHUP };
        let arrived = |which: fn(&Parcel) -> bool| sock.arriving.iter().any(|(at, p)| *at <= now && which(p));
        if sock.reset || arrived(|parcel| matches!(parcel, Parcel::Reset)) {
            return libc::POLLERR | libc::POLLHUP | libc::POLLRDHUP;
        }
        match sock.ended || sock.read_shut || arrived(|parcel| matches!(parcel, Parcel::End)) {
            true if sock.write_shut => libc::POLLHUP | libc::POLLRDHUP,
            true => libc::POLLRDHUP,
            false => 0,
        }
    }

    /// The result that a receive would have at `now`.
    pub(super) fn unread(&mut self, id: usize, now: u64) -> io::Result<Unread> {
        let Some(sock) = self.get(id) else { return Ok(Unread::End) };
        let reset = || Err(io::Error::from_raw_os_error(libc::ECONNRESET));
        match sock.arriving.front().filter(|(at, _)| *at <= now) {
            Some((_, Parcel::Data(_))) => Ok(Unread::Data),
            Some((_, Parcel::End)) => Ok(Unread::End),
            Some((_, Parcel::Reset)) => reset(),
            None if sock.reset => reset(),
            None if sock.ended || sock.read_shut => Ok(Unread::End),
            None => Ok(Unread::Nothing),
        }
    }

    /// The acknowledgement state: what has arrived at the peer by `now`.
    pub(super) fn delivery(&mut self, id: usize, now: u64) -> Delivery {
        let Some(sock) = self.get(id) else { return Delivery::default() };
        let (sent, peer) = (sock.sent, sock.peer);
        let under_way = peer.and_then(|peer| self.get(peer)).map_or(0, |peer| peer.under_way(now));
        Delivery { acknowledged: sent.saturating_sub(under_way), outstanding: under_way > 0 }
    }

    /// The next time at which something becomes readable.
    pub(super) fn next_arrival(&self, now: u64) -> Option<u64> {
        let socks = self.socks.iter().flatten();
        socks.filter_map(|sock| sock.arriving.front().map(|(at, _)| *at)).filter(|at| *at > now).min()
    }

    pub(super) fn shutdown(&mut self, id: usize, how: Shutdown) {
        let Some(sock) = self.get(id) else { return };
        if how != Shutdown::Write {
            sock.read_shut = true;
        }
        if how != Shutdown::Read && !sock.write_shut {
            sock.write_shut = true;
            self.end_peer(id);
        }
    }

    /// The peer reads the end of the stream after the data in transit.
    fn end_peer(&mut self, id: usize) {
        let peer = self.get(id).and_then(|sock| sock.peer);
        if let Some(peer) = peer.and_then(|peer| self.get(peer)) {
            peer.push(0, Parcel::End);
        }
    }

    /// The last descriptor of a socket is closed.
    fn close(&mut self, id: usize) {
        let Some(sock) = self.socks.get_mut(id).and_then(Option::take) else { return };
        self.free.push(id);
        for unaccepted in sock.backlog.into_iter().flatten() {
            if let Some(unaccepted) = self.get(unaccepted) {
                unaccepted.reset_on_close = true;
            }
            self.close(unaccepted);
        }
        let Some(peer) = sock.peer.and_then(|peer| self.get(peer)) else { return };
        peer.peer = None;
        // As on Linux: closing with unread data is a reset.
        if sock.reset_on_close || sock.arriving_bytes > 0 {
            peer.push(0, Parcel::Reset);
        } else if !sock.write_shut {
            peer.push(0, Parcel::End);
        }
    }
}

impl Sock {
    /// Bytes in transit: readable only after `now`.
    fn under_way(&self, now: u64) -> u64 {
        let later = self.arriving.iter().rev().take_while(|(at, _)| *at > now);
        later.map(|(_, parcel)| if let Parcel::Data(data) = parcel { data.len() as u64 } else { 0 }).sum()
    }

    /// Parcels arrive in the order in which they were sent.
    fn push(&mut self, at: u64, parcel: Parcel) {
        let at = self.arriving.back().map_or(at, |(last, _)| at.max(*last));
        self.arriving.push_back((at, parcel));
    }
}

/// An open socket of the simulated network; closed when dropped.
pub(crate) struct Socket {
    id: usize,
    net: SharedNet,
    clock: Clock,
}

impl Socket {
    pub(super) fn open(id: usize, net: &SharedNet, clock: &Clock) -> Socket {
        Socket { id, net: Rc::clone(net), clock: clock.clone() }
    }

    pub(super) fn id(&self) -> usize {
        self.id
    }

    fn address(&self, which: impl FnOnce(&Sock) -> Option<SocketAddr>) -> io::Result<SocketAddr> {
        let address = self.net.borrow_mut().get(self.id).and_then(|sock| which(sock));
        address.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOTCONN))
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.address(|sock| sock.local)
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.address(|sock| sock.remote)
    }

    pub(crate) fn listen(&self, backlog: u32) -> io::Result<()> {
        self.net.borrow_mut().listen(self.id, backlog)
    }

    pub(crate) fn shutdown(&self, how: Shutdown) {
        self.net.borrow_mut().shutdown(self.id, how);
    }

    /// Whether the peer has ended or reset the connection.
    pub(crate) fn hung_up(&self) -> bool {
        self.net.borrow_mut().hung_up(self.id)
    }

    pub(crate) fn unread(&self) -> io::Result<Unread> {
        self.net.borrow_mut().unread(self.id, self.clock.now_ns())
    }

    pub(crate) fn delivery(&self) -> Delivery {
        self.net.borrow_mut().delivery(self.id, self.clock.now_ns())
    }

    pub(crate) fn reset_on_close(&self) {
        if let Some(sock) = self.net.borrow_mut().get(self.id) {
            sock.reset_on_close = true;
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.net.borrow_mut().close(self.id);
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("sim::Socket").field("id", &self.id).finish_non_exhaustive()
    }
}
