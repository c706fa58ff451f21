//! The server's thread: one loop, pinned, and a meter of its CPU time.

use std::{
    io,
    net::SocketAddr,
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

use corio::{
    BackendInfo, Handle,
    event_loop::set_exception_handler,
    streams::{Server, StreamReader, StreamWriter},
};
use nix::time::{ClockId, clock_gettime};

pub(crate) struct EchoServer {
    pub(crate) addr: SocketAddr,
    /// Which kernel it runs on, and why.
    pub(crate) backend: BackendInfo,
    handle: Handle,
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

/// Reads the CPU time of the server's thread.
#[derive(Clone)]
pub(crate) struct Meter(Handle);

/// Starts the server's loop on its own thread, pinned to `core`.
pub(crate) fn start(core: Option<usize>) -> Result<EchoServer, String> {
    let (ready, started) = mpsc::channel();
    let (stop, stopped) = mpsc::channel();
    let thread = thread::spawn(move || serve(core, &ready, &stopped));
    match started.recv() {
        Ok(Ok((addr, backend, handle))) => Ok(EchoServer { addr, backend, handle, stop, thread }),
        Ok(Err(e)) => Err(format!("cannot start the server: {e}")),
        Err(_) => Err("the server's thread ended".to_owned()),
    }
}

type Ready = mpsc::Sender<io::Result<(SocketAddr, BackendInfo, Handle)>>;

fn serve(core: Option<usize>, ready: &Ready, stopped: &mpsc::Receiver<()>) {
    let mut runner = match crate::load::runner(core) {
        Ok(runner) => runner,
        Err(e) => return drop(ready.send(Err(e))),
    };
    let (backend, handle) = (runner.backend(), runner.handle());
    runner.run(async {
        // Errors of clients that leave at the end are ignored.
        set_exception_handler(|_| {});
        let server = match listen().await {
            Ok(server) => server,
            Err(e) => return drop(ready.send(Err(e))),
        };
        let _ = ready.send(server.local_addr().map(|addr| (addr, backend, handle)));
        while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
            corio::sleep(Duration::from_millis(20)).await;
        }
    });
}

async fn listen() -> io::Result<Server> {
    Server::builder().backlog(16_384).start("127.0.0.1:0", echo).await
}

async fn echo(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    loop {
        let data = reader.read(256 * 1024).await?;
        if data.is_empty() {
            return Ok(());
        }
        writer.write_all(data).await?;
    }
}

impl EchoServer {
    pub(crate) fn meter(&self) -> Meter {
        Meter(self.handle)
    }

    pub(crate) fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

impl Meter {
    /// CPU time of the server's thread so far.
    pub(crate) fn read(&self) -> Result<Duration, String> {
        let (answer, answered) = mpsc::channel();
        let ask = move || {
            // If this fails, the receiver is gone.
            let _ = answer.send(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID));
        };
        self.0.call_soon_threadsafe(ask).map_err(|e| format!("the server: {e}"))?;
        let time = answered.recv().map_err(|_| "the server's loop ended".to_owned())?;
        time.map(Duration::from).map_err(|e| format!("cannot read the server's processor time: {e}"))
    }
}
