//! Servers (asyncio `start_server`, `Server`).

mod builder;
mod handling;

use std::{
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    panic::{self, AssertUnwindSafe, Location},
    sync::Arc,
    thread,
    time::Duration,
};

pub use builder::ServerBuilder;
pub(crate) use builder::listen_first;
use corio_runtime::{
    ExceptionContext, TaskId, TaskInfo, all_tasks, call_exception_handler, call_soon, create_task_at,
    current_task, is_closing, run_coroutine_threadsafe, time::timeout,
};
use handling::{Handling, Session, panic_text};

use crate::{
    addr::ToSocketAddrs,
    listener::{Accepted, Facts, ListenerKey, Progress},
    streams::{Origin, StreamReader, StreamWriter, TABLE},
};

/// Listens on `addr` and runs `handler` for each connection, in a task of its own (asyncio `start_server`).
///
/// A handler is a closure that returns `async move`, an `async fn`, or an `async |r, w|` that captures nothing; one
/// with state is `move |r, w| { let state = state.clone(); async move { … } }`. The connection closes when its writer
/// is dropped, so at the end of the handler at the latest. A handler's error or panic goes to the exception handler;
/// the server continues.
///
/// If `addr` is a name or list with several addresses, the server listens on the first one that can be bound, and on no
/// other (asyncio listens on all). To listen on several, start a server for each.
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
/// If no address can be bound: the error of the last one, with the address in the text.
#[track_caller]
pub fn start_server<H, Fut>(addr: impl ToSocketAddrs, handler: H) -> impl Future<Output = io::Result<Server>>
where
    H: Fn(StreamReader, StreamWriter) -> Fut + 'static,
    Fut: Future<Output = io::Result<()>> + 'static,
{
    Server::builder().start(addr, handler)
}

impl ServerBuilder {
    /// As [`start_server`](crate::start_server), with these options.
    #[track_caller]
    pub fn start<H, Fut>(
        self,
        addr: impl ToSocketAddrs,
        handler: H,
    ) -> impl Future<Output = io::Result<Server>>
    where
        H: Fn(StreamReader, StreamWriter) -> Fut + 'static,
        Fut: Future<Output = io::Result<()>> + 'static,
    {
        let place = Location::caller();
        self.start_at(place, addr, handler)
    }

    async fn start_at<H, Fut>(
        self,
        place: &'static Location<'static>,
        addr: impl ToSocketAddrs,
        handler: H,
    ) -> io::Result<Server>
    where
        H: Fn(StreamReader, StreamWriter) -> Fut + 'static,
        Fut: Future<Output = io::Result<()>> + 'static,
    {
        self.check()?;
        let addrs = addr.target().addresses().await?;
        let (listener, facts) = self.listener(addrs)?;
        let ServerBuilder { limit, linger, .. } = self;
        let service = Service { handler, limit, linger, listener, facts: Arc::clone(&facts), place };
        let serving = Serving::new(listener, Arc::clone(&facts));
        let task = create_task_at(place, serve(service, serving)).id();
        if self.start_serving {
            listener.begin()?;
        }
        Ok(Server { listener, facts, task, place })
    }
}

/// State of a server's task.
struct Service<H> {
    handler: H,
    limit: usize,
    linger: Option<(Duration, Duration)>,
    listener: ListenerKey,
    facts: Arc<Facts>,
    /// Where the server was started.
    place: &'static Location<'static>,
}

/// Takes connections from the listener until it has closed and its queue is empty.
async fn serve<H, Fut>(service: Service<H>, serving: Serving)
where
    H: Fn(StreamReader, StreamWriter) -> Fut + 'static,
    Fut: Future<Output = io::Result<()>> + 'static,
{
    loop {
        match service.listener.accept().await {
            Ok(accepted) => service.handle(accepted),
            Err(e) => return serving.over(e),
        }
    }
}

/// Closes the server when its task ends for any reason, as nobody would take its connections.
struct Serving {
    listener: ListenerKey,
    facts: Arc<Facts>,
    told: bool,
}

impl Serving {
    fn new(listener: ListenerKey, facts: Arc<Facts>) -> Serving {
        listener.serve();
        Serving { listener, facts, told: false }
    }

    /// The listener gives no more connections.
    fn over(mut self, e: io::Error) {
        self.told = true;
        if self.facts.is_open() {
            let text =
                format!("the server on {} can accept no more connections and closes", self.facts.addr());
            call_exception_handler(&ExceptionContext::new(text).with_error(e));
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let (was_open, reset) = self.listener.serve_no_more();
        // The end of the loop cancels all tasks: no report.
        if self.told || !(was_open || reset > 0) || is_closing() {
            return;
        }
        let why = if thread::panicking() { "has panicked" } else { "was cancelled" };
        let text = format!(
            "the task that accepts for the server on {} {why}: the server closes; connections reset: {reset}",
            self.facts.addr()
        );
        // In a later turn: this may run during a panic.
        call_soon(move || call_exception_handler(&ExceptionContext::new(text)));
    }
}

impl<H, Fut> Service<H>
where
    H: Fn(StreamReader, StreamWriter) -> Fut,
    Fut: Future<Output = io::Result<()>> + 'static,
{
    fn handle(&self, accepted: Accepted) {
        let addrs = accepted.addrs(&self.facts);
        self.listener.connection_came();
        let origin = Origin::Accepted(self.listener);
        let (reader, mut writer) =
            TABLE.with(|streams| streams.open(accepted.fd, addrs.clone(), self.limit, true, origin));
        if let Some((total, idle)) = self.linger {
            writer.linger(total, idle);
        }
        let session = Session { stream: writer.key().local(), addrs };
        match panic::catch_unwind(AssertUnwindSafe(|| (self.handler)(reader, writer))) {
            Ok(handler) => drop(create_task_at(self.place, Handling { handler, session })),
            Err(payload) => {
                let what = session.what();
                let text =
                    format!("{what} [server started at {}]: panicked{}", self.place, panic_text(&*payload));
                // The destructor is foreign code: if it panics in this callback, the exception handler gets that, too.
                call_soon(move || drop(payload));
                call_exception_handler(&ExceptionContext::new(text));
            }
        }
    }
}

/// A listening server. Dropping it stops listening at once; its connections continue.
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// corio_runtime::run(async {
///     corio_net::start_server("127.0.0.1:0", async |_, _| Ok(())).await.unwrap();
/// });
/// ```
///
/// It is plain data and `Send`: on other threads it still knows its address and its connections, and its methods act on
/// its own loop.
#[must_use = "a dropped Server stops listening at once: keep it, or await its `serve_forever`"]
pub struct Server {
    listener: ListenerKey,
    facts: Arc<Facts>,
    /// The task that accepts; parent of the handlers' tasks.
    task: TaskId,
    /// Where the server was started.
    place: &'static Location<'static>,
}

impl Server {
    /// Options, then [`ServerBuilder::start`].
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    /// The address it listens on, with the port that was chosen for port 0. Works on any thread, also outside a run.
    ///
    /// # Errors
    /// Once the server is closed.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.facts.open_addr()
    }

    /// The addresses it listens on (asyncio `sockets`): none once it is closed.
    pub fn sockets(&self) -> Vec<SocketAddr> {
        self.local_addr().into_iter().collect()
    }

    /// Whether it accepts connections: not before [`start_serving`](Server::start_serving), if it was started without,
    /// and not once it is closed.
    pub fn is_serving(&self) -> bool {
        self.facts.is_serving()
    }

    /// Accepts connections from now on, if the server was started without
    /// ([`ServerBuilder::start_serving`]; asyncio `Server.start_serving`). If it does already, nothing changes. Works
    /// on any loop.
    ///
    /// ```
    /// use corio_net::{Server, open_connection};
    /// corio_runtime::run(async {
    ///     let builder = Server::builder().start_serving(false);
    ///     let server = builder.start("127.0.0.1:0", async |_, mut writer| writer.write_all("hi").await).await?;
    ///     let addr = server.local_addr()?;
    ///     assert!(!server.is_serving() && open_connection(addr).await.is_err());
    ///     server.start_serving().await?;
    ///     let (mut reader, _writer) = open_connection(addr).await?;
    ///     assert_eq!(reader.read_to_end().await?, b"hi");
    ///     std::io::Result::Ok(())
    /// }).unwrap();
    /// ```
    ///
    /// # Errors
    /// If the server is closed, or if another socket has begun to listen on the address meanwhile.
    pub async fn start_serving(&self) -> io::Result<()> {
        let listener = self.listener;
        let begun = self.at_home(move || async move { listener.begin() }).await;
        begun.unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::NotConnected, "server is closed")))
    }

    /// Number of open connections.
    pub fn connections(&self) -> usize {
        self.facts.connections()
    }

    /// Starts to serve, if it does not yet, and waits until the server is closed (asyncio `serve_forever`). Dropping
    /// the future closes it, as cancelling does in asyncio, but waits for no connection: that is
    /// [`wait_closed`](Server::wait_closed).
    ///
    /// # Errors
    /// If the server is closed already; if called on another loop; those of [`start_serving`](Server::start_serving).
    pub async fn serve_forever(&self) -> io::Result<()> {
        if !self.facts.is_open() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "server is closed"));
        }
        if !self.listener.home().is_current() {
            return Err(io::Error::other("the server is attached to a different loop"));
        }
        self.listener.begin()?;
        let _closed = CloseOnDrop(self.listener);
        self.listener.wait_until(|now| !now.open).await;
        Ok(())
    }

    /// Refuses new connections from now on (asyncio `Server.close`). Open connections continue, and those just accepted
    /// still get their handlers. The kernel resets the connections in its accept queue.
    pub fn close(&self) {
        self.listener.close();
    }

    /// Closes every connection once everything written to it is sent.
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

    /// Waits until the server is closed and its last connection has ended (asyncio `wait_closed`). A handler may run on
    /// after its connection has ended: [`shutdown`](Server::shutdown) waits for the handlers, too.
    pub async fn wait_closed(&self) {
        let listener = self.listener;
        self.at_home(move || listener.wait_until(is_quiet)).await;
    }

    /// Closes the server, gives connections and handlers `grace` to end by themselves, then resets the remaining
    /// connections and cancels the remaining handlers. It waits up to a second more for their end.
    ///
    /// A handler that calls it does not wait for itself, and continues. It does wait for its own connection: close that
    /// before, or the call waits for the whole `grace`, and resets the connection.
    ///
    /// ```
    /// use corio_net::{open_connection, start_server};
    /// use corio_runtime::time::{Duration, sleep};
    /// use std::{cell::Cell, rc::Rc};
    /// let saved = Rc::new(Cell::new(false));
    /// let done = saved.clone();
    /// corio_runtime::run(async {
    ///     let server = start_server("127.0.0.1:0", move |mut reader, mut writer| {
    ///         let saved = saved.clone();
    ///         async move {
    ///             let line = reader.readline().await?;
    ///             writer.write_all(line).await?;
    ///             writer.close();
    ///             sleep(Duration::from_millis(20)).await;
    ///             saved.set(true);
    ///             Ok(())
    ///         }
    ///     }).await?;
    ///     let (mut reader, mut writer) = open_connection(server.local_addr()?).await?;
    ///     writer.write_all("order 66\n").await?;
    ///     assert_eq!(reader.readline().await?, b"order 66\n");
    ///     let report = server.shutdown(Duration::from_secs(30)).await;
    ///     assert_eq!(report.cut, 0);
    ///     std::io::Result::Ok(())
    /// }).unwrap();
    /// assert!(done.get());
    /// ```
    pub async fn shutdown(&self, grace: Duration) -> ShutdownReport {
        let Server { listener, task, place, .. } = *self;
        self.at_home(move || shut_down(listener, Handlers { task, place }, grace)).await.unwrap_or_default()
    }

    /// Awaits the future of `f` on the server's loop; `None` if that loop has ended.
    async fn at_home<F, Fut, T>(&self, f: F) -> Option<T>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let home = self.listener.home();
        if home.is_current() { Some(f().await) } else { run_coroutine_threadsafe(&home, f).await.ok() }
    }
}

/// Whether the server is closed and no connection is left.
fn is_quiet(now: Progress) -> bool {
    !now.open && now.accepts == 0 && now.queued == 0 && now.connections == 0
}

async fn shut_down(listener: ListenerKey, handlers: Handlers, grace: Duration) -> ShutdownReport {
    listener.close();
    // If this runs in a handler, do not wait for that one.
    let own = usize::from(current_task().is_some_and(|task| handlers.include(&task)));
    let ended = move |now: Progress| is_quiet(now) && now.handlers <= own;
    if timeout(grace, listener.wait_until(ended)).await.is_ok() {
        return ShutdownReport::default();
    }
    // Connections that accepts in flight may still bring are counted, too.
    listener.wait_until(|now| !now.open && now.accepts == 0).await;
    let (queued, places) = (listener.cut_queue(), listener.places());
    let connections = TABLE.with(|streams| streams.abort_clients(listener));
    let handlers = handlers.cancel();
    let _ = timeout(CUT, listener.wait_until(ended)).await;
    // A connection and its handler share one place.
    let cut = queued + places.min(connections + handlers);
    ShutdownReport { cut, connections: queued + connections, handlers }
}

/// How long to wait for the end of reset connections and cancelled handlers.
const CUT: Duration = Duration::from_secs(1);

/// Identifies the tasks of a server's handlers: by their parent, and by where they were created.
struct Handlers {
    task: TaskId,
    place: &'static Location<'static>,
}

impl Handlers {
    fn include(&self, task: &TaskInfo) -> bool {
        task.parent() == Some(self.task) && std::ptr::eq(task.location(), self.place)
    }

    /// Cancels all of them but the running one; returns how many.
    fn cancel(&self) -> usize {
        let own = current_task().map(|task| task.id());
        let others = all_tasks().into_iter().filter(|task| self.include(task) && Some(task.id()) != own);
        others.filter(TaskInfo::cancel).count()
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

/// What did not end within the grace of a shutdown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Clients cut off, each counted once: the connection was reset, the handler cancelled, or both.
    pub cut: usize,
    /// Connections that were reset.
    pub connections: usize,
    /// Handlers that were cancelled.
    pub handlers: usize,
}
