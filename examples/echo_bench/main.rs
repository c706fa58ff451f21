//! The echo benchmark: a server's loop on one core, a client's loop on another, and a report.
//!
//! `echo_bench [--connections N] [--size BYTES] [--pipeline D] [--seconds S]`

mod load;
mod report;
mod server;

use std::{process::ExitCode, sync::Arc, thread, time::Duration};

use clap::{Parser, value_parser};
use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The most bytes in flight on all connections together: both ends hold them in memory.
const MAX_IN_FLIGHT: u64 = 1 << 30;

/// Measures an echo server of this library over loopback. Every reply is checked byte for byte.
#[derive(Clone, Parser)]
struct Args {
    /// Connections that are open at once.
    #[arg(long, default_value_t = 50, value_parser = value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Bytes of a message.
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u32).range(1..=16 << 20))]
    size: u32,
    /// Messages in flight on each connection.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=1024))]
    pipeline: u32,
    /// How long to measure, after half a second of warm-up.
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..=3600))]
    seconds: u32,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(text) = check(&args) {
        eprintln!("error: {text}");
        return ExitCode::from(2);
    }
    match bench(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}

/// Checks memory and open files, which depend on several arguments.
fn check(args: &Args) -> Result<(), String> {
    let in_flight = u64::from(args.connections) * u64::from(args.size) * u64::from(args.pipeline);
    if in_flight > MAX_IN_FLIGHT {
        let Args { connections, size, pipeline, .. } = args;
        return Err(format!(
            "--connections {connections} × --size {size} × --pipeline {pipeline} = {in_flight} bytes \
             in flight: more than {MAX_IN_FLIGHT}"
        ));
    }
    raise_file_limit(u64::from(args.connections) * 2 + 100)
        .map_err(|text| format!("--connections {}: {text}", args.connections))
}

fn bench(args: &Args) -> Result<(), String> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if cores.len() < 2 {
        eprintln!("note: fewer than two cores are allowed here: server and client share one");
    }
    let server = server::start(cores.first().map(|core| core.id))?;
    let progress = Arc::new(load::Progress::default());
    let client = thread::spawn({
        let (args, addr, core) = (args.clone(), server.addr, cores.get(1).map(|core| core.id));
        let (progress, meter) = (Arc::clone(&progress), server.meter());
        move || load::run(&args, addr, core, &progress, &meter)
    });
    show_progress(args, &progress, &client);
    let measured = client.join().map_err(|_| "the client panicked".to_owned())??;
    print!("{}", report::table(args, &measured, &server.backend.to_string()));
    server.stop();
    print!("{}", report::picture(&measured.latencies));
    Ok(())
}

/// The progress line while the client runs; hidden without a terminal.
fn show_progress<T>(args: &Args, progress: &load::Progress, client: &thread::JoinHandle<T>) {
    let bar = ProgressBar::new(u64::from(args.seconds) * 10);
    let style = ProgressStyle::with_template("{bar:30} {elapsed} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let mut before = 0;
    while !client.is_finished() {
        thread::sleep(Duration::from_millis(100));
        let now = progress.messages();
        if progress.measuring() {
            bar.inc(1);
        }
        bar.set_message(format!("{} msg/s", now.saturating_sub(before) * 10));
        before = now;
    }
    bar.finish_and_clear();
}

/// Raises the limit of open files: both ends of every connection belong to this process.
fn raise_file_limit(needed: u64) -> Result<(), String> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|e| e.to_string())?;
    if soft >= needed {
        return Ok(());
    }
    if hard < needed {
        return Err(format!("needs {needed} open files, but the limit is {hard} (ulimit -Hn)"));
    }
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard).map_err(|e| format!("cannot raise RLIMIT_NOFILE: {e}"))
}
