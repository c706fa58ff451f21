//! An echo server on several cores: `multi_core_echo [--addr HOST:PORT] [--cores N] [--balance hash|least]`.
//!
//! Each core has its own loop and server, all on one address. SIGTERM or Ctrl-C stops them: they accept nothing new,
//! give clients a second to leave, and print what each core served.

use std::{
    cell::Cell,
    io, process,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use clap::{Parser, ValueEnum, value_parser};
use corio::{
    Core, Cores, Event,
    event_loop::metrics,
    run_per_core,
    signal::{SignalKind, add_signal_handler},
    streams::{Balance, Server, StreamReader, StreamWriter},
};

/// How long clients may stay after the signal.
const GRACE: Duration = Duration::from_secs(1);

/// Sends back whatever it receives, on many cores.
#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    addr: String,
    /// How many cores serve; all that the process may use, if it is not given.
    #[arg(long, value_parser = value_parser!(u16).range(1..=1024))]
    cores: Option<u16>,
    /// Who gets a connection: the core that the kernel's hash names, or the one with the least connections.
    #[arg(long, value_enum, default_value = "hash")]
    balance: Share,
}

#[derive(Clone, Copy, ValueEnum)]
enum Share {
    Hash,
    Least,
}

fn main() {
    let Args { addr, cores, balance } = Args::parse();
    let balance = match balance {
        Share::Hash => Balance::Hash,
        Share::Least => Balance::LeastConnections,
    };
    let cores = cores.map_or(Cores::All, |count| Cores::Count(count.into()));
    let started = Arc::new(AtomicUsize::new(0));
    let reports = run_per_core(cores, move |core| {
        let (addr, started) = (addr.clone(), started.clone());
        async move {
            let index = core.index();
            serve(core, addr, balance, &started).await.unwrap_or_else(|e| {
                eprintln!("error: core {index}: {e}");
                process::exit(1)
            })
        }
    });
    for (index, report) in reports.iter().enumerate() {
        println!("core {index}: {report}");
    }
}

/// One core's server, until a signal. Returns what it served.
async fn serve(core: Core, addr: String, balance: Balance, started: &AtomicUsize) -> io::Result<String> {
    let stop = Rc::new(Event::new());
    for kind in [SignalKind::TERMINATE, SignalKind::INTERRUPT] {
        let stop = stop.clone();
        add_signal_handler(kind, move || stop.set())?;
    }
    let served = Rc::new(Cell::new(0));
    let count = served.clone();
    let server = Server::builder().balance(balance).start(addr, move |reader, writer| {
        count.set(count.get() + 1);
        echo(reader, writer)
    });
    let server = server.await?;
    // The last server to start prints the address.
    if started.fetch_add(1, Ordering::SeqCst) + 1 == core.count() {
        println!("listening on {} with {} cores", server.local_addr()?, core.count());
    }
    stop.wait().await;
    let cut = server.shutdown(GRACE).await.cut;
    Ok(format!("{} connections, {cut} cut, {} turns", served.get(), metrics().turns))
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
