//! Dropped futures of listeners and streams lose no connection and no byte.

mod common;

use std::{
    future::Future,
    io::{Read, Write},
    net::{SocketAddr, TcpStream as StdStream},
    pin::pin,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use common::{
    Rng, Sequence, in_own_process, join, join_all, number, open_fds, std_listener, until,
    write_sequence_until_closed,
};
use corio_net::{StreamReader, StreamWriter, TcpListener, TcpStream, open_connection};
use corio_runtime::{
    create_task, metrics,
    time::{sleep, timeout},
};
use nix::sys::socket::{setsockopt, sockopt};

const CLIENTS: u16 = 300;

/// Sends its own number and wants it back.
fn client(addr: SocketAddr, number: u16) {
    let mut stream = StdStream::connect(addr).unwrap();
    stream.write_all(&number.to_le_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, number.to_le_bytes());
}

async fn serve_clients() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    for _ in 0..3 {
        assert!(timeout(Duration::from_millis(1), listener.accept()).await.is_err());
    }
    let spawn = |number| {
        let builder = thread::Builder::new().stack_size(128 << 10);
        builder.spawn(move || client(addr, number)).unwrap()
    };
    let threads: Vec<_> = (0..CLIENTS).map(spawn).collect();
    let mut tasks = Vec::new();
    while tasks.len() < usize::from(CLIENTS) {
        if let Ok(accepted) = timeout(Duration::from_millis(1), listener.accept()).await {
            let (mut stream, _) = accepted.unwrap();
            tasks.push(create_task(async move {
                let (n, buf) = stream.read(vec![0; 2]).await;
                assert_eq!(n.unwrap(), 2);
                stream.write_all(buf).await.0.unwrap();
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    join_all(threads).await;
    assert!(timeout(Duration::from_millis(1), listener.accept()).await.is_err(), "one too many");
}

#[test]
fn a1_accepts_that_time_out_lose_no_connection() {
    if !in_own_process("a1_accepts_that_time_out_lose_no_connection") {
        return;
    }
    let before = open_fds();
    corio_runtime::run(serve_clients());
    assert_eq!(open_fds(), before);
}

#[test]
fn a1_a_dropped_accept_leaves_the_connection_to_the_next() {
    corio_runtime::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        for _ in 0..20 {
            {
                let accept = pin!(listener.accept());
                assert!(accept.poll(&mut Context::from_waker(Waker::noop())).is_pending());
            }
            let client = thread::spawn(move || {
                let stream = StdStream::connect(addr).unwrap();
                thread::sleep(Duration::from_millis(20));
                stream
            });
            // The loop stands still meanwhile.
            let client = client.join().unwrap();
            {
                // This one may find the connection, or not; if so it is ready and counts.
                let accept = pin!(listener.accept());
                match accept.poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(found) => {
                        assert_eq!(found.unwrap().1, client.local_addr().unwrap());
                        continue;
                    }
                    Poll::Pending => {}
                }
            }
            let (_stream, peer) = listener.accept().await.unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
        }
    });
}

/// Attempts, and those of them that found something.
#[derive(Default)]
struct Found(usize, usize);

impl Found {
    /// Many are wanted, and enough of either kind, however fast the machine is.
    fn wants_more(&self) -> bool {
        self.0 < 50_000 || self.1 < 100 || self.0 - self.1 < 100
    }

    fn count(&mut self, found: bool) {
        self.0 += 1;
        self.1 += usize::from(found);
    }
}

/// One attempt with a deadline: whether it brought something.
async fn attempt(reader: &mut StreamReader, rng: &mut Rng, sequence: &mut Sequence) -> bool {
    let deadline = rng.micros();
    let size = if rng.below(20) == 0 { 1 + rng.below(150_000) } else { 1 + rng.below(3000) };
    let chunk = match rng.below(4) {
        0 => timeout(deadline, reader.readexactly(size)).await.map(|data| {
            let data = data.unwrap();
            assert_eq!(data.len(), size);
            data
        }),
        1 => timeout(deadline, reader.readuntil(b"\x07")).await.map(|data| {
            let data = data.unwrap();
            assert!(data.ends_with(b"\x07"));
            data
        }),
        2 => {
            let mut buf = vec![0; size];
            let read = timeout(deadline, reader.read_into(&mut buf)).await;
            return read.is_ok_and(|n| {
                let n = n.unwrap();
                assert!(n > 0);
                sequence.expect(&buf[..n]);
                true
            });
        }
        _ => timeout(deadline, reader.read(size)).await.map(|data| data.unwrap()),
    };
    chunk.is_ok_and(|data| {
        assert!(!data.is_empty());
        sequence.expect(&data);
        true
    })
}

#[test]
fn a3_reads_that_time_out_lose_no_byte() {
    let (listener, addr) = std_listener().unwrap();
    let peer = thread::spawn(move || write_sequence_until_closed(listener.accept().unwrap().0, 7));
    corio_runtime::run(async {
        let (mut reader, _writer) = open_connection(addr).await.unwrap();
        let (mut rng, mut sequence, mut found) = (Rng::new(1), Sequence::default(), Found::default());
        while found.wants_more() {
            found.count(attempt(&mut reader, &mut rng, &mut sequence).await);
        }
        sequence.expect(&reader.readexactly(100_000).await.unwrap());
    });
    peer.join().unwrap();
}

#[test]
fn a3_sock_03_04_reads_into_owned_buffers_that_time_out_lose_no_byte() {
    let (listener, addr) = std_listener().unwrap();
    let peer = thread::spawn(move || write_sequence_until_closed(listener.accept().unwrap().0, 8));
    corio_runtime::run(async {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let (mut rng, mut sequence, mut found) = (Rng::new(2), Sequence::default(), Found::default());
        while found.wants_more() {
            let buf = vec![0xAA; 1 + rng.below(3000)];
            let read = timeout(rng.micros(), stream.read(buf)).await;
            found.count(read.is_ok());
            if let Ok((n, buf)) = read {
                sequence.expect(&buf[..n.unwrap()]);
            }
        }
        // What was under way when it became a stream is there as well.
        if let Ok((n, buf)) = timeout(Duration::ZERO, stream.read(vec![0; 10])).await {
            sequence.expect(&buf[..n.unwrap()]);
        }
        let (mut reader, _writer) = stream.into_streams();
        sequence.expect(&reader.readexactly(100_000).await.unwrap());
    });
    peer.join().unwrap();
}

/// Reads slowly to the end of the stream, and gives how much there was.
fn read_slowly(mut peer: StdStream) -> usize {
    let (mut rng, mut sequence, mut buf) = (Rng::new(3), Sequence::default(), vec![0; 8192]);
    loop {
        let size = 1 + rng.below(buf.len());
        let n = peer.read(&mut buf[..size]).unwrap();
        if n == 0 {
            return sequence.at;
        }
        sequence.expect(&buf[..n]);
        if rng.below(4) == 0 {
            thread::sleep(rng.micros());
        }
    }
}

async fn write_with_deadlines(writer: &mut StreamWriter) -> usize {
    let (mut rng, mut sequence, mut late) = (Rng::new(4), Sequence::default(), 0);
    for i in 0..3000 {
        let size = if rng.below(10) == 0 { 1 + rng.below(40_000) } else { 1 + rng.below(2000) };
        let (data, deadline) = (sequence.take(size), rng.micros());
        let done = match rng.below(4) {
            0 => timeout(deadline, writer.write_all(data)).await,
            1 => timeout(deadline, writer.write_all(&data)).await,
            2 => {
                writer.write(data).unwrap();
                timeout(deadline, writer.drain()).await
            }
            _ => {
                writer.write(&data).unwrap();
                timeout(deadline, writer.flush()).await
            }
        };
        match done {
            Ok(written) => written.unwrap(),
            Err(_) => late += 1,
        }
        if i % 100 == 0 {
            writer.flush().await.unwrap();
        }
    }
    assert!(late > 0, "no write was cancelled");
    sequence.at
}

#[test]
fn a4_writes_that_time_out_are_sent_once_and_in_order() {
    let (listener, addr) = std_listener().unwrap();
    setsockopt(&listener, sockopt::RcvBuf, &4096).unwrap();
    let peer = thread::spawn(move || read_slowly(listener.accept().unwrap().0));
    let written = corio_runtime::run(async {
        let (_reader, mut writer) = open_connection(addr).await.unwrap();
        let written = write_with_deadlines(&mut writer).await;
        writer.close();
        writer.wait_closed().await.unwrap();
        written
    });
    assert_eq!(peer.join().unwrap(), written);
}

#[test]
fn a4_sock_05_writes_of_a_low_level_stream_that_time_out_are_sent_once_and_in_order() {
    let (listener, addr) = std_listener().unwrap();
    setsockopt(&listener, sockopt::RcvBuf, &4096).unwrap();
    let peer = thread::spawn(move || read_slowly(listener.accept().unwrap().0));
    let written = corio_runtime::run(async {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let (mut rng, mut sequence) = (Rng::new(5), Sequence::default());
        for i in 0..1000 {
            let data = sequence.take(1 + rng.below(6000));
            if i % 100 == 0 {
                stream.write_all(data).await.0.unwrap();
            } else if let Ok((done, _)) = timeout(rng.micros(), stream.write_all(data)).await {
                done.unwrap();
            }
        }
        sequence.at
    });
    assert_eq!(peer.join().unwrap(), written);
}

#[test]
fn a5_the_timer_of_a_dropped_timeout_does_not_hit_the_next_read() {
    let (listener, addr) = std_listener().unwrap();
    corio_runtime::run(async {
        let (mut reader, _writer) = open_connection(addr).await.unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        for round in 0..10u8 {
            {
                let stale = pin!(timeout(Duration::from_millis(5), reader.read(1)));
                assert!(stale.poll(&mut Context::from_waker(Waker::noop())).is_pending());
            }
            // The timer went with its future.
            let timers = metrics().timers;
            assert_eq!(timers, 0, "round {round}");
            // A wake of the stale one is no answer to the next read either.
            assert!(timeout(Duration::from_millis(1), reader.read(1)).await.is_err());
            let mut writing = peer.try_clone().unwrap();
            let sender = thread::spawn(move || {
                thread::sleep(Duration::from_millis(15));
                writing.write_all(&[round]).unwrap();
            });
            let data = timeout(Duration::from_secs(60), reader.read(1)).await.unwrap().unwrap();
            assert_eq!(data, [round]);
            sender.join().unwrap();
        }
        peer.write_all(b"end").unwrap();
        assert_eq!(reader.readexactly(3).await.unwrap(), b"end");
    });
}

#[test]
fn a3_after_a_dropped_read_the_limit_holds_again() {
    const LIMIT: usize = 64 << 10;
    const SENT: usize = 8 << 20;
    for wanted in [1, 100_000, 64 << 20] {
        let (listener, addr) = std_listener().unwrap();
        corio_runtime::run(async {
            let (mut reader, _writer) = open_connection(addr).await.unwrap();
            let (mut peer, _) = listener.accept().unwrap();
            assert!(timeout(Duration::from_millis(1), reader.readexactly(wanted)).await.is_err());
            let sender = thread::spawn(move || peer.write_all(&Sequence::default().take(SENT)).unwrap());
            until(|| number(&reader, "buffered") > 0).await;
            // Until nothing comes any more.
            let (mut waiting, mut before) = (1, 0);
            while waiting != before {
                sleep(Duration::from_millis(100)).await;
                (waiting, before) = (number(&reader, "buffered"), waiting);
            }
            assert!(waiting <= 3 * LIMIT, "{waiting} bytes wait for a reader that went away ({wanted})");
            Sequence::default().expect(&reader.readexactly(SENT).await.unwrap());
            join(sender).await;
        });
    }
}
