//! An echo server: `echo_server [--addr HOST:PORT]`. It tells where it listens, and which kernel it runs on and why.

use std::io;

use clap::Parser;
use corio::{
    event_loop::backend,
    streams::{StreamReader, StreamWriter},
};

/// Sends back whatever it receives.
#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8080", value_parser = address)]
    addr: String,
}

async fn echo(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    loop {
        match reader.read(256 * 1024).await {
            Ok(data) if data.is_empty() => return Ok(()),
            Ok(data) => writer.write_all(data).await?,
            // A client may disconnect at any time.
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}

#[corio::main]
async fn main() -> io::Result<()> {
    let args = Args::parse();
    let server = corio::start_server(args.addr, echo).await?;
    println!("listening on {} by {}", server.local_addr()?, backend());
    server.serve_forever().await
}

/// Checks the form HOST:PORT.
fn address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(text.to_owned()),
        _ => Err("expected HOST:PORT".to_owned()),
    }
}
