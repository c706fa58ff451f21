//! A client of the echo server: `echo_client [--addr HOST:PORT] [MESSAGE…]`. Without messages it sends the lines of
//! its standard input.

use std::io::{self, BufRead};

use clap::Parser;

/// Sends lines and prints what comes back.
#[derive(Parser)]
struct Args {
    /// The server's address.
    #[arg(long, default_value = "127.0.0.1:8080", value_parser = address)]
    addr: String,
    /// Lines to send.
    messages: Vec<String>,
}

#[corio::main]
async fn main() -> io::Result<()> {
    let args = Args::parse();
    let lines: Box<dyn Iterator<Item = io::Result<String>>> = if args.messages.is_empty() {
        Box::new(io::stdin().lock().lines())
    } else {
        Box::new(args.messages.into_iter().map(Ok))
    };
    let (mut reader, mut writer) = corio::open_connection(args.addr).await?;
    for line in lines {
        writer.write_all(line? + "\n").await?;
        let reply = reader.readline().await?;
        print!("{}", String::from_utf8_lossy(&reply));
    }
    writer.close();
    writer.wait_closed().await
}

/// HOST:PORT, as far as its form goes.
fn address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(text.to_owned()),
        _ => Err("expected HOST:PORT".to_owned()),
    }
}
