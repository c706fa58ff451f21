//! The HTTP server of the comparison with other runtimes, hyper on corio: `http_server PORT`.

use std::io;

use corio::{hyper::CorioTimer, streams::Stream};
use corio_benches::hello;
use hyper::{server::conn::http1, service::service_fn};

fn main() -> io::Result<()> {
    let Some(port) = std::env::args().nth(1).and_then(|port| port.parse::<u16>().ok()) else {
        eprintln!("usage: http_server PORT");
        std::process::exit(2);
    };
    corio::run(async move {
        let server = corio::start_server(("127.0.0.1", port), |reader, writer| async move {
            let mut builder = http1::Builder::new();
            builder.timer(CorioTimer).pipeline_flush(true);
            // The load generator ends connections as it likes.
            let _ = builder.serve_connection(Stream::from((reader, writer)), service_fn(hello)).await;
            Ok(())
        })
        .await?;
        server.serve_forever().await
    })
}
