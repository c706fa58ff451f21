//! The options of a server, and its listener.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use corio_runtime::{
    fd::{Fd, require_kernel},
    socket::{self, ListenOptions},
};

use crate::{
    balance::{self, Balance},
    connect::check_limit,
    listener::{Facts, ListenerKey},
    streams::DEFAULT_LIMIT,
};

/// The default of the kernel's accept queue: a burst of clients should not have to retry.
const BACKLOG: u32 = 1024;

/// Options of a server.
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `start`"]
pub struct ServerBuilder {
    pub(super) limit: usize,
    backlog: u32,
    reuse_addr: bool,
    reuse_port: bool,
    nodelay: bool,
    keepalive: Option<Duration>,
    pub(super) start_serving: bool,
    max_connections: usize,
    balance: Option<Balance>,
    pub(super) linger: Option<(Duration, Duration)>,
}

impl ServerBuilder {
    pub(super) fn new() -> ServerBuilder {
        ServerBuilder {
            limit: DEFAULT_LIMIT,
            backlog: BACKLOG,
            reuse_addr: true,
            reuse_port: false,
            nodelay: true,
            keepalive: None,
            start_serving: true,
            max_connections: usize::MAX,
            balance: None,
            linger: None,
        }
    }

    /// The limit of each reader in bytes, at least 1. Default: 65536.
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// The kernel's accept queue: connections it keeps before they are accepted; at most 4096 and `net.core.somaxconn`,
    /// to which larger values are lowered. Further clients wait and retry by themselves. Default: 1024; asyncio's
    /// is 100.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections;
        self
    }

    /// `SO_REUSEADDR`: listens although connections of a server before are still ending on the address. Default: on.
    pub fn reuse_addr(mut self, on: bool) -> Self {
        self.reuse_addr = on;
        self
    }

    /// `SO_REUSEPORT`: several listeners share the address. Default: off.
    pub fn reuse_port(mut self, on: bool) -> Self {
        self.reuse_port = on;
        self
    }

    /// `TCP_NODELAY` of the connections. Default: on.
    pub fn nodelay(mut self, on: bool) -> Self {
        self.nodelay = on;
        self
    }

    /// `SO_KEEPALIVE` (asyncio `keep_alive`): a peer from which nothing has come for `idle` is asked whether it is
    /// still there, then every third of `idle`; after the third question without an answer reads and writes fail with
    /// `TimedOut`. In whole seconds, from 1 s to 32767 s: shorter times are raised, longer ones lowered. Default: off.
    pub fn keepalive(mut self, idle: Duration) -> Self {
        self.keepalive = Some(idle);
        self
    }

    /// Whether it accepts connections from its start on. If not, its address is taken, and connections are refused,
    /// until [`start_serving`] or [`serve_forever`] of the server. Default: yes. Not with
    /// [`balance`](ServerBuilder::balance).
    ///
    /// [`start_serving`]: crate::Server::start_serving
    /// [`serve_forever`]: crate::Server::serve_forever
    pub fn start_serving(mut self, on: bool) -> Self {
        self.start_serving = on;
        self
    }

    /// Most connections handled at once, at least 1. A connection counts until it is closed and its handler has ended.
    /// Connections over the limit are not accepted: they wait in the kernel's accept queue, up to
    /// [`backlog`](ServerBuilder::backlog), and are reset when the server closes. Default: no limit.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// How long a connection may take to close, in all and without a byte moving: see
    /// [`StreamWriter::linger`](crate::StreamWriter::linger). Default: 30 s and 5 s.
    pub fn linger(mut self, total: Duration, idle: Duration) -> Self {
        self.linger = Some((total, idle));
        self
    }

    /// Shares the address with the servers of other cores: each core of a [`run_per_core`](corio_runtime::run_per_core)
    /// starts one with the same address and balance. Port 0 gives all of them the same port. With
    /// [`Balance::LeastConnections`] they share one socket, with the `backlog` and `nodelay` of the first server.
    /// Default: no sharing.
    ///
    /// ```
    /// use corio_net::{Balance, Server, open_connection};
    /// use corio_runtime::{Cores, run_per_core};
    /// let ended = run_per_core(Cores::Count(2), |core| async move {
    ///     let index = core.index();
    ///     let server = Server::builder()
    ///         .balance(Balance::LeastConnections)
    ///         .start("127.0.0.1:0", move |_, mut writer| async move {
    ///             writer.write_all(format!("core {index}")).await
    ///         })
    ///         .await?;
    ///     let (mut reader, _writer) = open_connection(server.local_addr()?).await?;
    ///     assert!(reader.read_to_end().await?.starts_with(b"core "));
    ///     std::io::Result::Ok(())
    /// });
    /// assert!(ended.iter().all(Result::is_ok));
    /// ```
    pub fn balance(mut self, balance: Balance) -> Self {
        self.balance = Some(balance);
        self
    }

    /// # Errors
    /// Of kind `InvalidInput`, if options are out of range or do not go together.
    pub(super) fn check(&self) -> io::Result<()> {
        check_limit(self.limit)?;
        let wrong = match (self.max_connections, self.balance) {
            (0, _) => "max_connections 0: must be at least 1",
            (_, Some(_)) if !self.start_serving => {
                "start_serving(false): servers that share an address by `balance` serve from the start"
            }
            _ => return Ok(()),
        };
        Err(io::Error::new(io::ErrorKind::InvalidInput, wrong))
    }

    /// A listener on the first address that can be bound.
    pub(super) fn listener(&self, addrs: Vec<SocketAddr>) -> io::Result<(ListenerKey, Arc<Facts>)> {
        let options = ListenOptions {
            backlog: self.backlog,
            reuse_addr: self.reuse_addr,
            reuse_port: self.reuse_port || self.balance == Some(Balance::Hash),
            nodelay: self.nodelay,
            v6_only: false,
        };
        let bind = |addr| {
            let fd = socket::bind(addr, options)?;
            // Before the first connection, which inherits it.
            self.keepalive.map_or(Ok(()), |idle| fd.set_keepalive(idle))?;
            if self.start_serving {
                fd.listen(self.backlog)?;
            }
            Ok(fd)
        };
        if let Some(balance) = self.balance {
            return listen_shared(addrs, bind, balance, self.max_connections);
        }
        let (listener, facts) = ListenerKey::new(first_of(addrs, bind)?, self.max_connections, true)?;
        if !self.start_serving {
            listener.listen_later(self.backlog);
        }
        Ok((listener, facts))
    }
}

/// Listens on the first address that can be bound.
pub(crate) fn listen_first(addrs: Vec<SocketAddr>, options: ListenOptions) -> io::Result<Fd> {
    first_of(addrs, |addr| socket::listen(addr, options))
}

fn first_of<T>(addrs: Vec<SocketAddr>, listen: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let mut last = None;
    for addr in addrs {
        match listen(addr) {
            Ok(listening) => return Ok(listening),
            Err(e) => last = Some(e),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no address to listen on")))
}

/// Listens beside the servers of other cores, on the first address that can be bound.
fn listen_shared(
    addrs: Vec<SocketAddr>,
    listen: impl Fn(SocketAddr) -> io::Result<Fd>,
    balance: Balance,
    max: usize,
) -> io::Result<(ListenerKey, Arc<Facts>)> {
    require_kernel("sockets that several loops share")?;
    first_of(addrs, |addr| balance::join(addr, balance, max, &listen))
}
