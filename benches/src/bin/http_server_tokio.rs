//! The HTTP server of the comparison with other runtimes, hyper on tokio's current-thread runtime:
//! `http_server_tokio PORT`.

use std::io;

use corio_benches::hello;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, runtime, task};

fn main() -> io::Result<()> {
    let Some(port) = std::env::args().nth(1).and_then(|port| port.parse::<u16>().ok()) else {
        eprintln!("usage: http_server_tokio PORT");
        std::process::exit(2);
    };
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            task::spawn(async move {
                let mut builder = http1::Builder::new();
                builder.timer(TokioTimer::new()).pipeline_flush(true);
                // The load generator ends connections as it likes.
                let _ = builder.serve_connection(TokioIo::new(stream), service_fn(hello)).await;
            });
        }
    })
}
