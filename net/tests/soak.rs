//! Random load for `CORIO_SOAK_SECONDS` (default: 3): connections that end in every way, a server that is shut down and
//! started again, a process that runs out of descriptors. Nothing leaks, and no connection exceeds its limits.

mod common;

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream as StdStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use common::{FewDescriptors, Rng, in_own_process, open_fds, reset_on_close, resident_kib, until};
use corio_net::{Server, StreamReader, StreamWriter, open_connection};
use corio_runtime::{
    create_task, metrics, set_exception_handler,
    time::{sleep, timeout},
};

const TOTAL: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_millis(400);
/// What a handler panics with.
const ASKED: &str = "as the client asked";
/// Connections of one client that stay open until the server has given them up.
const DEAD: usize = 8;
/// How long a round of the storm lasts.
const STORM: Duration = Duration::from_secs(2);

/// Echoes, and now and then misbehaves.
async fn handler(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    loop {
        let Ok(data) = timeout(IDLE, reader.read(100_000)).await else { return Ok(()) };
        let data = data?;
        match data.first() {
            None => return Ok(()),
            Some(b'p') => std::panic::panic_any(ASKED),
            Some(b'a') => writer.abort(),
            Some(b'e') => writer.write_eof()?,
            Some(b'b') => drop(timeout(IDLE / 8, writer.write_all(vec![0; 3_000_000])).await),
            Some(b'c') => {
                writer.write(&data)?;
                writer.close();
                return writer.wait_closed().await;
            }
            Some(_) => {
                let _ = timeout(Duration::from_micros(200), writer.write_all(data)).await;
            }
        }
    }
}

async fn serve(addr: SocketAddr) -> Server {
    loop {
        let server = Server::builder().linger(TOTAL, IDLE).max_connections(200).start(addr, handler).await;
        match server {
            Ok(server) => return server,
            // Out of descriptors for now.
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    }
}

/// A client with a thread of its own, that ends its connections in every way there is; those that it never ends it
/// gives back.
fn client(
    addr: SocketAddr,
    seed: u64,
    stop: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
) -> JoinHandle<Vec<StdStream>> {
    thread::spawn(move || {
        let (mut rng, mut dead) = (Rng::new(seed), Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let Ok(peer) = StdStream::connect(addr) else {
                thread::sleep(Duration::from_millis(1));
                continue;
            };
            made.fetch_add(1, Ordering::Relaxed);
            // Whatever fails is as it should be: the other side is just as rude.
            if dead.len() < DEAD && rng.below(10) == 0 {
                dead.extend(dead_connection(peer, &mut rng));
            } else {
                let _ = one_connection(peer, &mut rng);
            }
        }
        dead
    })
}

/// Asks for more than the sockets hold, or for nothing, and never reads.
fn dead_connection(mut peer: StdStream, rng: &mut Rng) -> io::Result<StdStream> {
    let asks = [&b""[..], b"x", b"b"][rng.below(3)];
    peer.write_all(asks)?;
    Ok(peer)
}

fn one_connection(mut peer: StdStream, rng: &mut Rng) -> io::Result<()> {
    peer.set_read_timeout(Some(Duration::from_millis(50)))?;
    peer.set_write_timeout(Some(Duration::from_millis(50)))?;
    for _ in 0..rng.below(4) {
        let first = b"xxxxxxpaebc"[rng.below(11)];
        let mut message = vec![first; 1 + rng.below(40_000)];
        message[0] = first;
        peer.write_all(&message)?;
        if rng.below(3) > 0 {
            let _ = peer.read(&mut vec![0; message.len()])?;
        }
    }
    match rng.below(5) {
        0 => reset_on_close(&peer),
        1 => {
            peer.shutdown(Shutdown::Write)?;
            let _ = peer.read(&mut vec![0; 100_000])?;
        }
        2 => thread::sleep(rng.micros()),
        // Never reads, until the server has had enough.
        3 if rng.below(20) == 0 => thread::sleep(2 * IDLE),
        _ => {}
    }
    Ok(())
}

/// Clients on the server's own loop, cancelled wherever they are.
async fn cancelled_clients(addr: SocketAddr, seed: u64, stop: Arc<AtomicBool>) {
    let mut rng = Rng::new(seed);
    while !stop.load(Ordering::Relaxed) {
        let task = create_task(async move {
            let (mut reader, mut writer) = open_connection(addr).await?;
            writer.linger(TOTAL, IDLE);
            for size in [10, 1000, 70_000] {
                writer.write_all(vec![b'x'; size]).await?;
                reader.readexactly(size).await?;
            }
            io::Result::Ok(())
        });
        sleep(Duration::from_micros(rng.next() % 3000)).await;
        task.cancel();
        drop(task.await);
    }
}

/// Takes the process's descriptors away for a moment.
async fn without_descriptors() {
    let _few = FewDescriptors::at_most(1);
    sleep(Duration::from_millis(30)).await;
}

/// A round: the storm, then silence until nothing is left. How many connections there were.
async fn round(seed: u64) -> usize {
    let server = serve("127.0.0.1:0".parse().unwrap()).await;
    let addr = server.local_addr().unwrap();
    let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let threads: Vec<_> =
        (0..4).map(|n| client(addr, seed * 10 + n, Arc::clone(&stop), Arc::clone(&made))).collect();
    let cancelled = create_task(cancelled_clients(addr, seed, Arc::clone(&stop)));
    let mut server = Some(server);
    let end = Instant::now() + STORM;
    let mut rng = Rng::new(seed);
    while Instant::now() < end {
        sleep(Duration::from_millis(rng.next() % 300)).await;
        match rng.below(3) {
            0 => {
                // Its connections may outlive it.
                if let Some(old) = server.take() {
                    old.shutdown(Duration::from_millis(rng.next() % 100)).await;
                }
                server = Some(serve(addr).await);
            }
            1 => without_descriptors().await,
            _ => {}
        }
    }
    stop.store(true, Ordering::Relaxed);
    cancelled.await.unwrap();
    until(|| threads.iter().all(JoinHandle::is_finished)).await;
    let dead: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    drop(server);
    // No connection is older than its limits; the machine may be slow.
    let silence = Instant::now();
    until(|| metrics().connections == 0).await;
    drop(dead);
    assert!(silence.elapsed() < 10 * TOTAL, "{:?}", silence.elapsed());
    made.load(Ordering::Relaxed)
}

#[test]
fn nothing_is_left_of_a_storm() {
    if !in_own_process("nothing_is_left_of_a_storm") {
        return;
    }
    let seconds = std::env::var("CORIO_SOAK_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(3);
    let end = Instant::now() + Duration::from_secs(seconds);
    corio_runtime::run(async {
        set_exception_handler(|_| {});
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref() != Some(&ASKED) {
                print(info);
            }
        }));
        let first = round(1).await;
        // The loop's own read of its wake-ups, and this task.
        until(|| (metrics().operations, metrics().tasks) == (0, 1)).await;
        let before = (open_fds(), 0, 1);
        let (mut total, mut most_kib, begun) = (first, 0, resident_kib());
        for seed in 2.. {
            total += round(seed).await;
            let left = || (open_fds(), metrics().operations, metrics().tasks);
            if timeout(10 * TOTAL, until(|| left() == before)).await.is_err() {
                panic!("round {seed} leaves {:?} descriptors, operations and tasks for {before:?}", left());
            }
            most_kib = resident_kib().max(most_kib);
            if Instant::now() >= end {
                println!("{seed} rounds, {total} connections, {begun} KiB at first, {most_kib} KiB at most");
                break;
            }
        }
        // Twice what the first round left, and what an allocator may keep.
        assert!(most_kib < 2 * begun + (32 << 10), "{begun} KiB at first, {most_kib} KiB now");
    });
}
