//! A server that stops gracefully: `signals_graceful [--addr HOST:PORT] [--grace MILLISECONDS]`.
//!
//! A request is a line with a number of milliseconds, and is answered after that time. SIGTERM or Ctrl-C stops the
//! server: it accepts nothing new, closes idle connections, and gives requests in progress the grace time. Then it
//! prints how many were cut off. SIGHUP prints statistics.

use std::{cell::Cell, io, pin::pin, rc::Rc, time::Duration};

use clap::Parser;
use corio::{
    Event,
    signal::{SignalKind, add_signal_handler},
    sleep, start_server,
    streams::{StreamReader, StreamWriter},
};
use futures_util::future::{Either, select};

/// Answers slowly, and ends in order.
#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    addr: String,
    /// How many milliseconds the requests in progress have after the signal.
    #[arg(long, default_value_t = 10_000)]
    grace: u64,
}

/// State shared by the handlers.
#[derive(Default)]
struct Shared {
    stop: Event,
    in_progress: Cell<usize>,
    answered: Cell<usize>,
}

#[corio::main]
async fn main() -> io::Result<()> {
    let args = Args::parse();
    let shared = Rc::new(Shared::default());
    for kind in [SignalKind::TERMINATE, SignalKind::INTERRUPT] {
        let shared = shared.clone();
        add_signal_handler(kind, move || shared.stop.set())?;
    }
    let told = shared.clone();
    add_signal_handler(SignalKind::HANGUP, move || {
        println!("{} in progress, {} answered", told.in_progress.get(), told.answered.get());
    })?;
    let of_handlers = shared.clone();
    let server =
        start_server(args.addr, move |reader, writer| serve(reader, writer, of_handlers.clone())).await?;
    println!("listening on {}", server.local_addr()?);
    shared.stop.wait().await;
    println!("stopping: {} in progress", shared.in_progress.get());
    let report = server.shutdown(Duration::from_millis(args.grace)).await;
    println!("{} cut, {} answered", report.cut, shared.answered.get());
    Ok(())
}

/// Serves a connection until the client leaves, or, after the signal, until its request is answered.
async fn serve(mut reader: StreamReader, mut writer: StreamWriter, shared: Rc<Shared>) -> io::Result<()> {
    loop {
        // A request that has arrived goes first. Dropping `readline` loses nothing: the bytes stay in the reader.
        let line = match select(pin!(reader.readline()), pin!(shared.stop.wait())).await {
            Either::Left((line, _)) => line?,
            Either::Right(_) => return Ok(()),
        };
        if line.is_empty() {
            return Ok(());
        }
        shared.in_progress.set(shared.in_progress.get() + 1);
        let sent = answer(&line, &mut writer).await;
        shared.in_progress.set(shared.in_progress.get() - 1);
        sent?;
        shared.answered.set(shared.answered.get() + 1);
    }
}

async fn answer(line: &[u8], writer: &mut StreamWriter) -> io::Result<()> {
    match String::from_utf8_lossy(line).trim().parse() {
        Ok(millis) => {
            sleep(Duration::from_millis(millis)).await;
            writer.write_all(format!("done after {millis} ms\n")).await
        }
        Err(e) => writer.write_all(format!("error: not a number of milliseconds: {e}\n")).await,
    }
}
