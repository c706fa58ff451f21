//! Streams and servers on the epoll kernel: its edges, counts and cancels.

mod common;

use std::{
    cell::Cell,
    future::Future,
    io::{self, IoSlice, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream as StdStream},
    os::fd::AsRawFd,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use common::{
    Rng, Sequence, join, number, on, pattern, reset, std_listener, until, with_peer,
    write_sequence_until_closed,
};
use corio_net::{StreamReader, StreamWriter, TcpListener, connect_read_pipe, open_connection, start_server};
use corio_runtime::{
    Backend, Resolver, RingCounters, create_future, metrics,
    time::{sleep, timeout},
};
use nix::sys::socket::{MsgFlags, sendmsg};

const KIB: usize = 1024;
/// A test that takes longer is considered to hang.
const HANGS: Duration = Duration::from_secs(120);

/// Runs a test on epoll, and checks that no operation is left.
fn on_epoll<T>(test: impl Future<Output = T>) -> T {
    on(Backend::Epoll).run(async {
        let value = timeout(HANGS, test).await.expect("the test hangs");
        until(|| metrics().operations == 0).await;
        value
    })
}

/// The number of attempts: few in a debug build, unless `CORIO_SOAK_SECONDS` is set.
fn many(debug: usize, much: usize) -> usize {
    let soaks = std::env::var_os("CORIO_SOAK_SECONDS").is_some();
    if soaks || !cfg!(debug_assertions) { much } else { debug }
}

// ---------------------------------------------------------------- edges

/// Waits until an unread stream takes no more.
async fn is_paused(reader: &StreamReader) -> usize {
    let mut before = 0;
    loop {
        sleep(Duration::from_millis(20)).await;
        let now = number(reader, "buffered");
        if now > 0 && now == before {
            return now;
        }
        before = now;
    }
}

async fn pauses_and_reads_on(mut reader: StreamReader, mut peer: impl Write + Send + 'static) {
    let (data, end) = (pattern(4 << 20, 3), Arc::new(AtomicBool::new(false)));
    let (sent, ends) = (data.clone(), end.clone());
    let writing = thread::spawn(move || {
        peer.write_all(&sent).unwrap();
        while !ends.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
    });
    let mut got = Vec::new();
    // Each time the stream exceeds its limit again, and edges arrive while no receive is armed.
    for _ in 0..5 {
        let buffered = is_paused(&reader).await;
        assert!(buffered < 1 << 20, "{buffered} bytes that nobody reads");
        let enters = metrics().ring.enters;
        sleep(Duration::from_millis(30)).await;
        assert!(metrics().ring.enters - enters < 20, "it spins");
        got.extend_from_slice(&reader.readexactly(200 * KIB).await.unwrap());
    }
    let rest = data.len() - got.len();
    got.extend_from_slice(&reader.readexactly(rest).await.unwrap());
    assert!(got == data, "other bytes");
    end.store(true, Ordering::SeqCst);
    assert_eq!(reader.read(1).await.unwrap(), b"");
    join(writing).await;
}

#[test]
fn a_stream_that_paused_over_its_limit_reads_on() {
    on_epoll(async {
        let (reader, _writer, peer) = with_peer().await;
        pauses_and_reads_on(reader, peer).await;
    });
}

#[test]
fn a_pipe_that_paused_reads_on() {
    on_epoll(async {
        let (theirs, ours) = io::pipe().unwrap();
        let mut reader = connect_read_pipe(theirs.into()).unwrap();
        let data = pattern(300 * KIB, 5);
        let (mut ours, sent) = (ours, data.clone());
        let writing = thread::spawn(move || ours.write_all(&sent).unwrap());
        let mut got = Vec::new();
        while got.len() < data.len() {
            sleep(Duration::from_millis(2)).await;
            got.extend_from_slice(&reader.readexactly(30 * KIB).await.unwrap());
        }
        assert!(got == data, "other bytes");
        assert_eq!(reader.read(1).await.unwrap(), b"");
        join(writing).await;
    });
}

/// Every way to end a connection, at any moment around its last data.
#[test]
fn the_end_is_seen_wherever_it_comes() {
    on_epoll(async {
        let mut rng = Rng::new(5);
        for round in 0..300 {
            let (mut reader, _writer, mut peer) = with_peer().await;
            let len = [1, 100, 4 * KIB, 16 * KIB][rng.below(4)];
            let (pause, resets) = (rng.micros(), round % 3 == 0);
            let ending = thread::spawn(move || {
                peer.write_all(&vec![1; len]).unwrap();
                thread::sleep(pause);
                if resets { reset(peer) } else { peer.shutdown(Shutdown::Write).unwrap() }
            });
            let end = reader.read_to_end().await;
            match end {
                Ok(data) => assert!(data.len() == len && !resets),
                Err(e) => assert!(resets, "{e}"),
            }
            join(ending).await;
        }
    });
}

#[test]
fn an_urgent_byte_hides_nothing_that_comes_behind() {
    on_epoll(async {
        let (mut reader, _writer, mut peer) = with_peer().await;
        for round in 0..10 {
            peer.write_all(b"abc").unwrap();
            let urgent = [IoSlice::new(b"!")];
            sendmsg::<()>(peer.as_raw_fd(), &urgent, &[], MsgFlags::MSG_OOB, None).unwrap();
            peer.write_all(b"def").unwrap();
            assert_eq!(reader.readexactly(6).await.unwrap(), b"abcdef", "round {round}");
        }
    });
}

/// Both directions full: neither starves the other, and nothing is lost.
#[test]
fn megabytes_both_ways_at_once() {
    on_epoll(async {
        let server = start_server("127.0.0.1:0", common::echo).await.unwrap();
        let data = pattern(16 << 20, 9);
        let mut peer = StdStream::connect(server.local_addr().unwrap()).unwrap();
        let (mut sink, sent) = (peer.try_clone().unwrap(), data.clone());
        let writing = thread::spawn(move || {
            peer.write_all(&sent).unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
        });
        let reading = thread::spawn(move || {
            let mut all = Vec::new();
            sink.read_to_end(&mut all).map(|_| all)
        });
        join(writing).await;
        assert!(join(reading).await.unwrap() == data, "other bytes");
        server.shutdown(Duration::from_secs(1)).await;
    });
}

// ---------------------------------------------------------------- counts

/// The number of answered messages, and the resolver of the task that waits for a whole round.
#[derive(Default)]
struct Answered {
    count: Cell<usize>,
    all: Cell<Option<Resolver<()>>>,
}

/// Echoes, and counts each message.
async fn counted_echo(
    mut reader: StreamReader,
    mut writer: StreamWriter,
    answered: Rc<Answered>,
) -> io::Result<()> {
    loop {
        let message = reader.read(100).await?;
        if message.is_empty() {
            return Ok(());
        }
        writer.write(message)?;
        answered.count.set(answered.count.get() + 1);
        if answered.count.get().is_multiple_of(CONNECTIONS)
            && let Some(all) = answered.all.take()
        {
            all.set_result(()).unwrap();
        }
    }
}

const CONNECTIONS: usize = 50;

/// Each client sends a message and receives it back. The clients run outside the loop: their calls do not count.
async fn round(clients: &mut [StdStream], answered: &Answered) {
    let (all, is_all) = create_future();
    answered.all.set(Some(all));
    for client in &mut *clients {
        client.write_all(b"0123456789").unwrap();
    }
    is_all.await.unwrap();
    // The last connections close at the end of the turn.
    corio_runtime::yield_now().await;
    for client in clients {
        let mut answer = [0; 10];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"0123456789");
    }
}

fn since(before: RingCounters) -> (u64, u64) {
    let now = metrics().ring;
    (now.calls - before.calls, now.enters - before.enters)
}

#[test]
fn a_message_costs_a_receive_and_a_send_and_a_connection_one_registration() {
    on_epoll(async {
        let answered = Rc::new(Answered::default());
        let shared = answered.clone();
        let handler = move |reader, writer| counted_echo(reader, writer, shared.clone());
        let server = start_server("127.0.0.1:0", handler).await.unwrap();
        let addr = server.local_addr().unwrap();
        sleep(Duration::from_millis(1)).await;

        let before = metrics().ring;
        let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| StdStream::connect(addr).unwrap()).collect();
        round(&mut clients, &answered).await;
        let (calls, enters) = since(before);
        // Per connection: an accept, a registration, a receive and a send, none of which blocks. Per enter: at most two
        // waits, and an accept that finds no connection.
        let most = 4 * CONNECTIONS as u64 + 3 * enters;
        assert!(calls <= most, "{calls} calls and {enters} enters for {CONNECTIONS} connections");

        let rounds = 100;
        let before = metrics().ring;
        for _ in 0..rounds {
            round(&mut clients, &answered).await;
        }
        let (calls, enters) = since(before);
        let messages = (rounds * CONNECTIONS) as u64;
        assert!(
            calls <= 2 * messages + 2 * enters,
            "{calls} calls in {enters} enters for {messages} messages"
        );
        assert!(10 * calls <= 23 * messages, "{calls} calls for {messages} messages");

        drop(clients);
        until(|| server.connections() == 0).await;
        server.shutdown(Duration::ZERO).await;
    });
}

// ---------------------------------------------------------------- cancels

/// The attempts, and those that found something.
#[derive(Default)]
struct Found(usize, usize);

impl Found {
    /// Both kinds must be frequent enough, however fast the machine is.
    fn wants_more(&self, many: usize) -> bool {
        self.0 < many || self.1 < 100 || self.0 - self.1 < 100
    }

    fn count(&mut self, found: bool) {
        self.0 += 1;
        self.1 += usize::from(found);
    }
}

#[test]
fn reads_under_random_timeouts_lose_no_byte() {
    let (listener, addr) = std_listener().unwrap();
    let peer = thread::spawn(move || write_sequence_until_closed(listener.accept().unwrap().0, 11));
    on(Backend::Epoll).run(async {
        let (mut reader, _writer) = open_connection(addr).await.unwrap();
        let (mut rng, mut sequence, mut found) = (Rng::new(2), Sequence::default(), Found::default());
        while found.wants_more(many(50_000, 1_000_000)) {
            let size = if rng.below(20) == 0 { 1 + rng.below(150_000) } else { 1 + rng.below(3000) };
            let read = match rng.below(2) {
                0 => timeout(rng.micros(), reader.readexactly(size)).await.map(Result::unwrap),
                _ => timeout(rng.micros(), reader.read(size)).await.map(Result::unwrap),
            };
            found.count(read.is_ok());
            if let Ok(data) = read {
                assert!(!data.is_empty());
                sequence.expect(&data);
            }
        }
        sequence.expect(&reader.readexactly(100_000).await.unwrap());
    });
    peer.join().unwrap();
}

/// Connects repeatedly, and expects its number back each time.
fn connect_until(addr: SocketAddr, stop: &AtomicBool) -> u32 {
    let mut made = 0u32;
    while !stop.load(Ordering::SeqCst) {
        let mut stream = StdStream::connect(addr).unwrap();
        stream.write_all(&made.to_le_bytes()).unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, made.to_le_bytes());
        // A reset leaves no port in TIME_WAIT.
        reset(stream);
        made += 1;
    }
    made
}

#[test]
fn accepts_under_random_timeouts_lose_no_connection() {
    on(Backend::Epoll).run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let clients = thread::spawn(move || connect_until(addr, &stopped));
        let (mut rng, mut found) = (Rng::new(3), Found::default());
        while !clients.is_finished() {
            let accepted = timeout(rng.micros(), listener.accept()).await;
            found.count(accepted.is_ok());
            if let Ok(accepted) = accepted {
                let (mut stream, _) = accepted.unwrap();
                let (count, number) = timeout(HANGS, stream.read(vec![0; 4])).await.expect("lost");
                assert_eq!(count.unwrap(), 4);
                stream.write_all(number).await.0.unwrap();
            }
            if !found.wants_more(many(5_000, 100_000)) {
                stop.store(true, Ordering::SeqCst);
            }
        }
        assert_eq!(join(clients).await as usize, found.1);
    });
}
