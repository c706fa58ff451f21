//! The client's loop: every connection keeps messages in flight, and checks each reply.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use corio::{
    Runner,
    streams::{StreamReader, StreamWriter, open_connection},
};
use hdrhistogram::Histogram;

use crate::{Args, server::Meter};

const WARM_UP: Duration = Duration::from_millis(500);

/// State for the progress line.
#[derive(Default)]
pub(crate) struct Progress {
    messages: AtomicU64,
    measuring: AtomicBool,
}

impl Progress {
    pub(crate) fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    pub(crate) fn measuring(&self) -> bool {
        self.measuring.load(Ordering::Relaxed)
    }
}

/// The results.
pub(crate) struct Measured {
    pub(crate) messages: u64,
    pub(crate) elapsed: Duration,
    pub(crate) server_time: Duration,
    /// Nanoseconds.
    pub(crate) latencies: Histogram<u64>,
}

/// A loop, pinned to `core` if possible.
pub(crate) fn runner(core: Option<usize>) -> io::Result<Runner> {
    match core.map(|core| Runner::builder().pin(core).build()) {
        Some(Ok(runner)) => Ok(runner),
        Some(Err(e)) if e.kind() == io::ErrorKind::InvalidInput => {
            eprintln!("note: {e}; it runs unpinned");
            Runner::new()
        }
        Some(Err(e)) => Err(e),
        None => Runner::new(),
    }
}

struct Shared {
    /// Latencies are recorded while this is set.
    recording: bool,
    stopped: bool,
    latencies: Histogram<u64>,
    failed: Option<String>,
}

pub(crate) fn run(
    args: &Args,
    addr: SocketAddr,
    core: Option<usize>,
    progress: &Progress,
    meter: &Meter,
) -> Result<Measured, String> {
    let mut runner = runner(core).map_err(|e| format!("cannot start the client: {e}"))?;
    // Up to a minute, with three significant digits.
    let latencies = Histogram::new_with_max(60_000_000_000, 3).map_err(|e| e.to_string())?;
    let shared = Rc::new(RefCell::new(Shared { recording: false, stopped: false, latencies, failed: None }));
    runner.run(async {
        let mut connections = Vec::new();
        for number in 0..args.connections {
            let (reader, writer) = open_connection(addr).await.map_err(|e| e.to_string())?;
            let work = Connection::new(args, number, reader, writer, Rc::clone(&shared));
            connections.push(corio::create_task(work.run()));
        }
        let count = || shared.borrow().latencies.len();
        wait(WARM_UP, &shared, progress).await?;
        let (before, start) = (meter.read()?, Instant::now());
        shared.borrow_mut().recording = true;
        progress.measuring.store(true, Ordering::Relaxed);
        wait(Duration::from_secs(args.seconds.into()), &shared, progress).await?;
        shared.borrow_mut().recording = false;
        let (messages, elapsed) = (count(), start.elapsed());
        let server_time = meter.read()?.saturating_sub(before);
        shared.borrow_mut().stopped = true;
        if messages == 0 {
            return Err(format!("no reply within {} s: try more --seconds", args.seconds));
        }
        let latencies = shared.borrow().latencies.clone();
        Ok(Measured { messages, elapsed, server_time, latencies })
    })
}

/// Runs the connections, unless one has failed.
async fn wait(time: Duration, shared: &RefCell<Shared>, progress: &Progress) -> Result<(), String> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        corio::sleep(Duration::from_millis(50).min(end - Instant::now())).await;
        let shared = shared.borrow();
        progress.messages.store(shared.latencies.len(), Ordering::Relaxed);
        if let Some(text) = &shared.failed {
            return Err(text.clone());
        }
    }
    Ok(())
}

struct Connection {
    number: u32,
    reader: StreamReader,
    writer: StreamWriter,
    message: Vec<u8>,
    /// When each message in flight was written.
    sent: VecDeque<Instant>,
    pipeline: usize,
    shared: Rc<RefCell<Shared>>,
}

impl Connection {
    fn new(
        args: &Args,
        number: u32,
        reader: StreamReader,
        writer: StreamWriter,
        shared: Rc<RefCell<Shared>>,
    ) -> Connection {
        // Every connection has a pattern of its own.
        let message = (0..args.size).map(|i| (i.wrapping_mul(31) ^ i >> 8 ^ number) as u8).collect();
        let pipeline = args.pipeline as usize;
        Connection { number, reader, writer, message, sent: VecDeque::new(), pipeline, shared }
    }

    async fn run(mut self) {
        if let Err(text) = self.exchange().await {
            let mut shared = self.shared.borrow_mut();
            let failed = format!("connection {}: {text}", self.number);
            shared.failed.get_or_insert(failed);
        }
    }

    async fn exchange(&mut self) -> Result<(), String> {
        loop {
            // No drain: the server may wait until we read before it takes more. The arguments bound the data in flight.
            while self.sent.len() < self.pipeline {
                self.sent.push_back(Instant::now());
                self.writer.write(&self.message).map_err(|e| e.to_string())?;
            }
            let reply = self.reader.readexactly(self.message.len()).await.map_err(|e| e.to_string())?;
            if reply != self.message[..] {
                return Err("the reply differs from what was sent".to_owned());
            }
            if !self.record() {
                return Ok(());
            }
        }
    }

    /// Notes the latency of the oldest message in flight; `false` at the end of the run.
    fn record(&mut self) -> bool {
        let mut shared = self.shared.borrow_mut();
        if let Some(sent) = self.sent.pop_front()
            && shared.recording
        {
            shared.latencies.saturating_record(sent.elapsed().as_nanos() as u64);
        }
        !shared.stopped
    }
}
