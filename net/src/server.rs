//! Servers (asyncio `start_server`, `Server`).

use std::{
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use corio_runtime::{
    ExceptionContext, call_exception_handler, call_soon, create_task, current_task,
    fd::{Fd, require_kernel},
    socket::{self, ListenOptions},
    time::timeout,
};
use pin_project_lite::pin_project;

use crate::{
    addr::ToSocketAddrs,
    balance::{self, Balance},
    connect::check_limit,
    listener::ListenerKey,
    streams::{DEFAULT_LIMIT, Origin, StreamReader, StreamWriter, TABLE},
};

/// Listens on `addr` and runs `handler` for each connection, in a task of its own (asyncio `start_server`).
///
/// A handler is a closure that returns `async move`, an `async fn`, or an `async |r, w|` that captures
/// nothing; one with state is `move |r, w| { let state = state.clone(); async move { … } }`. The connection is
/// closed when its writer is dropped, so also when the handler ends, or never uses it. An error or panic of a
/// handler goes to the exception handler; the server goes on.
///
/// ```
/// use corio_net::{open_connection, start_server};
/// corio_runtime::run(async {
///     let server = start_server("127.0.0.1:0", |mut reader, mut writer| async move {
///         loop {
///             let data = reader.read(65536).await?;
///             if data.is_empty() {
///                 return Ok(());
///             }
///             writer.write_all(data).await?;
///         }
///     }).await?;
///     let (mut reader, mut writer) = open_connection(server.local_addr()?).await?;
///     writer.write_all(b"echo").await?;
///     assert_eq!(reader.readexactly(4).await?, b"echo");
///     server.close();
///     drop(writer);
///     server.wait_closed().await;
///     std::io::Result::Ok(())
/// }).unwrap();
/// ```
///
/// # Errors
/// If the address is not free or not allowed, with the address in the text.
pub async fn start_server<H, Fut>(addr: impl ToSocketAddrs, handler: H) -> io::Result<Server>
where
    H: Fn(StreamReader, StreamWriter) -> Fut + 'static,
    Fut: Future<Output = io::Result<()>> + 'static,
{
    Server::builder().start(addr, handler).await
}

/// Options of a server.
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `start`"]
pub struct ServerBuilder {
    limit: usize,
    backlog: u32,
    reuse_port: bool,
    nodelay: bool,
    max_connections: usize,
    balance: Option<Balance>,
    linger: Option<(Duration, Duration)>,
}

impl ServerBuilder {
    /// The limit of each reader in bytes, at least 1. Default: 65536.
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Connections that the kernel keeps before they are accepted. Default: 1024, or what
    /// `net.core.somaxconn` allows.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections;
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

    /// Connections that are handled at once, at least 1; more wait to be accepted. Default: no limit.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// How long a connection may take to close, in all and without a byte moving
    /// ([`StreamWriter::linger`]). Default: 30 s and 5 s.
    pub fn linger(mut self, total: Duration, idle: Duration) -> Self {
        self.linger = Some((total, idle));
        self
    }

    /// Shares the address with the servers of other cores: each core of a
    /// [`run_per_core`](corio_runtime::run_per_core) starts one with the same address and balance. With port 0 they get
    /// the same port. With [`Balance::LeastConnections`] there is one socket: `backlog` and `nodelay` are those of the
    /// server that was first. Default: no sharing.
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

    /// As [`start_server`], with these options.
    pub async fn start<H, Fut>(self, addr: impl ToSocketAddrs, handler: H) -> io::Result<Server>
    where
        H: Fn(StreamReader, StreamWriter) -> Fut + 'static,
        Fut: Future<Output = io::Result<()>> + 'static,
    {
        check_limit(self.limit)?;
        if self.max_connections == 0 {
            let text = "max_connections 0: must be at least 1";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let target = addr.target();
        let options = ListenOptions {
            backlog: self.backlog,
            reuse_addr: true,
            reuse_port: self.reuse_port || self.balance == Some(Balance::Hash),
            nodelay: self.nodelay,
            v6_only: false,
        };
        let addrs = target.addresses().await?;
        let listener = match self.balance {
            None => ListenerKey::new(listen_first(addrs, options)?),
            Some(balance) => listen_shared(addrs, options, balance)?,
        };
        drop(create_task(serve(listener, self, handler)));
        Ok(Server { listener })
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
    options: ListenOptions,
    balance: Balance,
) -> io::Result<ListenerKey> {
    require_kernel("sockets that several loops share")?;
    first_of(addrs, |addr| balance::join(addr, balance, |addr| socket::listen(addr, options)))
}

/// Accepts until the listener closes.
async fn serve<H, Fut>(listener: ListenerKey, options: ServerBuilder, handler: H)
where
    H: Fn(StreamReader, StreamWriter) -> Fut + 'static,
    Fut: Future<Output = io::Result<()>> + 'static,
{
    loop {
        listener.wait_until(|open, active| !open || active < options.max_connections).await;
        match listener.accept().await {
            Ok(fd) => handle(&handler, listener, fd, &options),
            Err(_) if !listener.is_open() => return,
            Err(e) => {
                let text = "a server can accept no more connections and closes";
                call_exception_handler(&ExceptionContext::new(text).with_error(e));
                return listener.close();
            }
        }
    }
}

fn handle<H, Fut>(handler: &H, listener: ListenerKey, fd: Fd, options: &ServerBuilder)
where
    H: Fn(StreamReader, StreamWriter) -> Fut,
    Fut: Future<Output = io::Result<()>> + 'static,
{
    listener.connection_came();
    let origin = Origin::Accepted(listener);
    let (reader, mut writer) = TABLE.with(|streams| streams.open(fd, options.limit, true, origin));
    if let Some((total, idle)) = options.linger {
        writer.linger(total, idle);
    }
    match panic::catch_unwind(AssertUnwindSafe(|| handler(reader, writer))) {
        Ok(connection) => drop(create_task(Reported { connection })),
        Err(payload) => {
            // Its destructor is foreign code: what that panics with is the exception handler's, too.
            call_soon(move || drop(payload));
            let text = "Unhandled exception in client_connected_cb: the handler panicked";
            call_exception_handler(&ExceptionContext::new(text));
        }
    }
}

pin_project! {
    /// A connection whose error is reported.
    struct Reported<F> {
        #[pin]
        connection: F,
    }
}

impl<F: Future<Output = io::Result<()>>> Future for Reported<F> {
    type Output = ();

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Poll::Ready(ended) = self.project().connection.poll(cx) else { return Poll::Pending };
        if let Err(e) = ended {
            report_error(e);
        }
        Poll::Ready(())
    }
}

#[cold]
#[inline(never)]
fn report_error(e: io::Error) {
    let context = ExceptionContext::new("Unhandled exception in client_connected_cb");
    call_exception_handler(&context.with_error(e).with_task(current_task()));
}

/// A server that listens. Dropping it stops listening; its connections go on.
///
/// It is plain data and `Send`; away from its loop, `close` reaches it there.
pub struct Server {
    listener: ListenerKey,
}

impl Server {
    /// Options, then [`ServerBuilder::start`].
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            limit: DEFAULT_LIMIT,
            backlog: 1024,
            reuse_port: false,
            nodelay: true,
            max_connections: usize::MAX,
            balance: None,
            linger: None,
        }
    }

    /// The address that it listens on, with the port that was found for port 0.
    ///
    /// # Errors
    /// Once it is closed; on another loop.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The addresses that it listens on (asyncio `sockets`): none once it is closed.
    pub fn sockets(&self) -> Vec<SocketAddr> {
        self.local_addr().into_iter().collect()
    }

    /// Whether it accepts connections.
    pub fn is_serving(&self) -> bool {
        self.listener.is_open()
    }

    /// Connections that are alive.
    pub fn connections(&self) -> usize {
        self.listener.active()
    }

    /// Waits until the server is closed. A dropped future closes it, as cancelling does in asyncio.
    ///
    /// # Errors
    /// If it is closed already.
    pub async fn serve_forever(&self) -> io::Result<()> {
        if !self.is_serving() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "server is closed"));
        }
        let _closed = CloseOnDrop(self.listener);
        self.listener.wait_until(|open, _| !open).await;
        Ok(())
    }

    /// Refuses new connections from now on; those that are alive go on (asyncio `Server.close`).
    pub fn close(&self) {
        self.listener.close();
    }

    /// Closes every connection once what was written on it is sent.
    pub fn close_clients(&self) {
        let listener = self.listener;
        listener.home().run_at_home(move || {
            TABLE.try_with(|streams| streams.close_clients(listener));
        });
    }

    /// Resets every connection.
    pub fn abort_clients(&self) {
        let listener = self.listener;
        listener.home().run_at_home(move || {
            TABLE.try_with(|streams| streams.abort_clients(listener));
        });
    }

    /// Waits until the server is closed and its last connection is gone (asyncio `wait_closed`).
    pub async fn wait_closed(&self) {
        self.listener.wait_until(|open, active| !open && active == 0).await;
    }

    /// Closes, gives the connections `grace` to end by themselves, then resets what is left.
    pub async fn shutdown(&self, grace: Duration) -> ShutdownReport {
        self.close();
        let drained = timeout(grace, self.wait_closed()).await.is_ok();
        let cut = if drained { 0 } else { TABLE.with(|streams| streams.abort_clients(self.listener)) };
        ShutdownReport { cut }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listener.release();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("sockets", &self.sockets())
            .field("connections", &self.connections())
            .finish()
    }
}

struct CloseOnDrop(ListenerKey);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// How a shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Connections that did not end within the grace and were reset.
    pub cut: usize,
}
