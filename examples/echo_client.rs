//! A client of the echo server: `echo_client [--addr HOST:PORT] [MESSAGE…]`.
//! Without messages it sends the lines of its standard input.

use std::{
    io::{self, BufRead},
    process::ExitCode,
};

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
async fn main() -> ExitCode {
    match talk(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn talk(args: Args) -> io::Result<()> {
    let lines: Box<dyn Iterator<Item = io::Result<String>>> = if args.messages.is_empty() {
        Box::new(io::stdin().lock().lines())
    } else {
        Box::new(args.messages.into_iter().map(Ok))
    };
    let (mut reader, mut writer) = corio::open_connection(args.addr).await?;
    for line in lines {
        let line = line? + "\n";
        let expected = line.len();
        // Not `write_all`: with a long line the server waits until we read before it takes the rest.
        writer.write(line)?;
        let reply = reader.readexactly(expected).await?;
        print!("{}", String::from_utf8_lossy(&reply));
    }
    writer.close();
    writer.wait_closed().await
}

/// Checks the form HOST:PORT.
fn address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(text.to_owned()),
        _ => Err("expected HOST:PORT".to_owned()),
    }
}
