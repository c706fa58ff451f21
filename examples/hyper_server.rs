//! An HTTP server with axum and hyper, on corio alone: `hyper_server [--addr HOST:PORT]`.
//!
//! HTTP/1, and HTTP/2 with prior knowledge, on one port. SIGTERM or Ctrl-C ends it: it accepts nothing new, answers the
//! requests in progress, and closes idle connections.

use std::{io, pin::pin, rc::Rc, time::Duration};

use axum::{Router, extract::Path, http::StatusCode, routing::get};
use clap::Parser;
use corio::{
    Event,
    hyper::{CorioExecutor, CorioTimer},
    signal::{SignalKind, add_signal_handler},
    streams::Stream,
};
use futures_util::future::{Either, select};
use hyper_util::{server::conn::auto, service::TowerToHyperService};

/// How long requests may take after the signal.
const GRACE: Duration = Duration::from_secs(10);

/// Says hello over HTTP.
#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    addr: String,
}

#[corio::main]
async fn main() -> io::Result<()> {
    let stop = Rc::new(Event::new());
    for kind in [SignalKind::TERMINATE, SignalKind::INTERRUPT] {
        let stop = stop.clone();
        add_signal_handler(kind, move || stop.set())?;
    }
    let (app, stopped) = (app(), stop.clone());
    let server = corio::start_server(Args::parse().addr, move |reader, writer| {
        serve(Stream::from((reader, writer)), app.clone(), stopped.clone())
    });
    let server = server.await?;
    println!("listening on {}", server.local_addr()?);
    stop.wait().await;
    let report = server.shutdown(GRACE).await;
    println!("{} connections cut", report.cut);
    Ok(())
}

fn app() -> Router {
    Router::new()
        .route("/", get(async || "Hello, World!\n"))
        .route("/sleep/{millis}", get(sleep))
        .route("/time/{host}/{port}", get(line_of))
}

/// Handlers must be `Send`. The futures of corio's handles are, as they are numbers, not pointers. A future that is not
/// `Send` goes into a task: `create_task(future).cancel_on_drop().await`.
async fn sleep(Path(millis): Path<u64>) -> String {
    corio::sleep(Duration::from_millis(millis)).await;
    format!("slept {millis} ms\n")
}

/// The first line of a server's answer.
async fn line_of(Path((host, port)): Path<(String, u16)>) -> Result<Vec<u8>, (StatusCode, String)> {
    let line = async {
        let (mut reader, _writer) = corio::open_connection((host.as_str(), port)).await?;
        Ok(reader.readline().await?.into())
    };
    line.await.map_err(|e: io::Error| (StatusCode::BAD_GATEWAY, e.to_string()))
}

/// Serves a connection until the client leaves, or, after `stop`, until its requests are answered.
async fn serve(stream: Stream, app: Router, stop: Rc<Event>) -> io::Result<()> {
    let mut builder = auto::Builder::new(CorioExecutor);
    builder.http1().timer(CorioTimer).pipeline_flush(true);
    builder.http2().timer(CorioTimer);
    let connection = pin!(builder.serve_connection(stream, TowerToHyperService::new(app)));
    let served = match select(pin!(stop.wait()), connection).await {
        Either::Left(((), mut connection)) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        Either::Right((served, _)) => served,
    };
    // A client may disconnect at any time.
    if let Err(e) = served {
        eprintln!("a connection ended early: {e}");
    }
    Ok(())
}
