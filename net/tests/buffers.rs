//! Receive buffers, queues and sends under pressure: everything arrives, once and in order, and comes back.

mod common;

use std::{
    any::Any,
    cell::{Cell, RefCell},
    io::{Read, Write},
    net::{SocketAddr, TcpStream as StdStream},
    os::fd::{AsRawFd, OwnedFd},
    rc::Rc,
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use bytes::Bytes;
use common::{
    Rng, Sequence, allow_fds, echo, in_own_process, join_all, open_fds, pattern, reset_on_close, std_listener,
};
use corio_net::{
    Chunk, ReadError, StreamReader, StreamWriter, TcpListener, TcpStream, open_connection, start_server,
};
use corio_runtime::{
    Backend, Runner, backend, create_task, metrics,
    time::{sleep, timeout},
    yield_now,
};
use nix::sys::socket::{self, Backlog, SockaddrIn, setsockopt, sockopt};

/// Longer than anything takes; what reaches it hangs.
const HANG: Duration = Duration::from_secs(60);
const BURST: usize = 200;

/// Sends everything between the two barriers, and wants it back.
fn burst_client(addr: SocketAddr, client: usize, barrier: &Barrier) {
    let mut stream = StdStream::connect(addr).unwrap();
    let data = pattern(20_000, client);
    barrier.wait();
    stream.write_all(&data).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    barrier.wait();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    assert!(back == data, "client {client} got {} bytes back", back.len());
}

async fn serve_burst() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, barrier) = (listener.local_addr().unwrap(), Arc::new(Barrier::new(BURST + 1)));
    let spawn = |client| {
        let barrier = barrier.clone();
        let builder = thread::Builder::new().stack_size(128 << 10);
        builder.spawn(move || burst_client(addr, client, &barrier)).unwrap()
    };
    let threads: Vec<_> = (0..BURST).map(spawn).collect();
    let mut tasks = Vec::new();
    for _ in 0..BURST {
        let (mut reader, mut writer) = listener.accept().await.unwrap().0.into_streams();
        tasks.push(create_task(async move {
            loop {
                let data = reader.read(65536).await.unwrap();
                if data.is_empty() {
                    break;
                }
                writer.write_all(data).await.unwrap();
            }
        }));
    }
    // All receives are armed by now; the data comes while the loop stands still.
    sleep(Duration::from_millis(1)).await;
    barrier.wait();
    barrier.wait();
    for task in tasks {
        timeout(HANG, task).await.unwrap().unwrap();
    }
    join_all(threads).await;
}

#[test]
fn c1_a_burst_that_finds_no_buffer_is_byte_exact() {
    let mut runner = Runner::builder().buffers(1, 4096).build().unwrap();
    runner.run(async {
        serve_burst().await;
        // Epoll fills one buffer at a time: it does not run dry.
        assert!(metrics().ring.enobufs > 0 || backend().backend() == Backend::Epoll, "{:?}", metrics().ring);
        assert_eq!(metrics().buffers_available, 1);
    });
}

async fn echo_client(addr: SocketAddr, number: usize, connected: Rc<Cell<usize>>, all: usize) {
    let (mut reader, mut writer) = open_connection(addr).await.unwrap();
    connected.set(connected.get() + 1);
    while connected.get() < all {
        sleep(Duration::from_millis(2)).await;
    }
    for round in 0..5usize {
        let data = vec![(number + round) as u8; 1 + (number * 13 + round * 501) % 3000];
        writer.write_all(&data).await.unwrap();
        let back = timeout(HANG, reader.readexactly(data.len())).await.unwrap().unwrap();
        assert_eq!(back, &data[..]);
    }
}

#[test]
fn d1_a_thousand_connections_share_a_tiny_ring() {
    const CLIENTS: usize = 1000;
    assert!(allow_fds(4000), "this test needs 4000 descriptors");
    let mut runner = Runner::builder().entries(4).completion_entries(8).build().unwrap();
    runner.run(async {
        let server = start_server("127.0.0.1:0", echo).await.unwrap();
        let (addr, connected) = (server.local_addr().unwrap(), Rc::new(Cell::new(0)));
        let client = |number| create_task(echo_client(addr, number, connected.clone(), CLIENTS));
        let tasks: Vec<_> = (0..CLIENTS).map(client).collect();
        for task in tasks {
            timeout(HANG, task).await.unwrap().unwrap();
        }
        assert_eq!(metrics().ring.strays, 0);
        server.close();
        timeout(HANG, server.wait_closed()).await.unwrap();
    });
}

/// Connects again and again, sends something, and dies in the middle of it.
fn dying_clients(addr: SocketAddr, seed: u64) {
    let mut rng = Rng::new(seed);
    for _ in 0..100 {
        let mut stream = StdStream::connect(addr).unwrap();
        if rng.below(4) > 0 {
            reset_on_close(&stream);
        }
        for _ in 0..rng.below(6) {
            let size = 1 + rng.below(20_000);
            if stream.write_all(&vec![7; size]).is_err() {
                break;
            }
            if rng.below(2) == 0 {
                thread::sleep(rng.micros());
            }
        }
    }
}

#[test]
fn b4_all_buffers_come_back_from_peers_that_die() {
    let mut runner = Runner::builder().buffers(8, 4096).build().unwrap();
    runner.run(async {
        assert_eq!(metrics().buffers_available, 8);
        let served = Rc::new(Cell::new(0));
        let count = served.clone();
        let handler = move |reader: StreamReader, writer: StreamWriter| {
            count.set(count.get() + 1);
            async {
                // Its peer may be gone, that is the point.
                let _ = echo(reader, writer).await;
                Ok(())
            }
        };
        let server = start_server("127.0.0.1:0", handler).await.unwrap();
        let addr = server.local_addr().unwrap();
        let threads: Vec<_> = (0..3).map(|seed| thread::spawn(move || dying_clients(addr, seed))).collect();
        join_all(threads).await;
        let gone = async {
            while server.connections() > 0 || served.get() < 300 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(HANG, gone).await.unwrap();
        assert_eq!(metrics().buffers_available, 8);
    });
}

/// A connection whose sending side has room for little.
fn small_connection(addr: SocketAddr) -> TcpStream {
    let stream = StdStream::connect(addr).unwrap();
    setsockopt(&stream, sockopt::SndBuf, &4096).unwrap();
    stream.set_nodelay(true).unwrap();
    TcpStream::try_from(stream).unwrap()
}

const BODY: usize = 8 << 20;

#[test]
fn d4_a_large_body_through_a_small_socket_is_exact() {
    let (listener, addr) = std_listener().unwrap();
    setsockopt(&listener, sockopt::RcvBuf, &16384).unwrap();
    let peer = thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut sequence, mut buf) = (Sequence::default(), vec![0; 50_000]);
            loop {
                let n = stream.read(&mut buf).unwrap();
                if n == 0 {
                    break;
                }
                sequence.expect(&buf[..n]);
            }
            assert_eq!(sequence.at, BODY);
        }
    });
    corio_runtime::run(async {
        let mut stream = small_connection(addr);
        stream.write_all(Sequence::default().take(BODY)).await.0.unwrap();
        drop(stream);
        let (_reader, mut writer) = small_connection(addr).into_streams();
        writer.write_all(Sequence::default().take(BODY)).await.unwrap();
        writer.close();
        writer.wait_closed().await.unwrap();
    });
    peer.join().unwrap();
}

#[test]
fn d4_a_reset_in_the_middle_of_a_body_is_an_error() {
    let (listener, addr) = std_listener().unwrap();
    let peer = thread::spawn(move || {
        for round in 0..40usize {
            let (mut stream, _) = listener.accept().unwrap();
            reset_on_close(&stream);
            if round.is_multiple_of(2) {
                stream.read_exact(&mut vec![0; 100_000]).unwrap();
            } else {
                stream.write_all(&[1; 1000]).unwrap();
            }
        }
    });
    corio_runtime::run(async {
        for _ in 0..20 {
            let mut stream = small_connection(addr);
            let written = timeout(HANG, stream.write_all(vec![1; BODY])).await.expect("it hangs").0;
            assert!(written.is_err());
            // The reset may be there before the connect has been seen to succeed.
            let Ok((mut reader, _writer)) = open_connection(addr).await else { continue };
            let read = timeout(HANG, reader.readexactly(10_000)).await.expect("it hangs");
            assert!(matches!(read, Err(ReadError::Io(_))), "{read:?}");
        }
    });
    peer.join().unwrap();
}

const FRAMES: u32 = 5000;

/// A frame: who wrote it, which one it is, its size, and bytes that depend on these.
fn frame(task: u8, number: u32, size: usize) -> Vec<u8> {
    let mut frame = vec![task];
    frame.extend(number.to_le_bytes());
    frame.extend((size as u32).to_le_bytes());
    frame.extend((0..size).map(|i| (i as u8) ^ (number as u8) ^ task));
    frame
}

/// Writes `frame` in one of the four kinds.
fn write_as(writer: &mut StreamWriter, frame: Vec<u8>, kind: usize) -> std::io::Result<()> {
    match kind {
        0 => writer.write(&frame),
        1 => writer.write(frame),
        2 => writer.write(Bytes::from(frame)),
        _ => writer.write(Chunk::from(&frame[..])),
    }
}

async fn write_frames(task: u8, writer: Rc<RefCell<StreamWriter>>) {
    let mut rng = Rng::new(u64::from(task));
    for number in 0..FRAMES {
        let size = [rng.below(30), rng.below(3000), 8000 + rng.below(1000), rng.below(60_000)]
            [[0, 0, 0, 0, 1, 1, 1, 1, 2, 3][rng.below(10)]];
        let frame = frame(task, number, size);
        write_as(&mut writer.borrow_mut(), frame, rng.below(4)).unwrap();
        match rng.below(40) {
            0 => sleep(rng.micros()).await,
            1..20 => yield_now().await,
            _ => {}
        }
    }
}

#[test]
fn d5_writes_of_two_tasks_keep_their_order_and_stay_whole() {
    let (listener, addr) = std_listener().unwrap();
    setsockopt(&listener, sockopt::RcvBuf, &16384).unwrap();
    let peer = thread::spawn(move || {
        let mut stream = std::io::BufReader::new(listener.accept().unwrap().0);
        let mut next = [0u32; 2];
        for _ in 0..2 * FRAMES {
            let mut head = [0; 9];
            stream.read_exact(&mut head).unwrap();
            let number = u32::from_le_bytes(head[1..5].try_into().unwrap());
            assert_eq!(number, next[usize::from(head[0])], "task {}", head[0]);
            next[usize::from(head[0])] += 1;
            let size = u32::from_le_bytes(head[5..9].try_into().unwrap()) as usize;
            let mut body = vec![0; size];
            stream.read_exact(&mut body).unwrap();
            assert!(body == frame(head[0], number, size)[9..], "frame {number} of task {}", head[0]);
        }
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    });
    corio_runtime::run(async {
        let (_reader, writer) = open_connection(addr).await.unwrap();
        let writer = Rc::new(RefCell::new(writer));
        let tasks = [0, 1].map(|task| create_task(write_frames(task, writer.clone())));
        for task in tasks {
            task.await.unwrap();
        }
        let mut writer = Rc::into_inner(writer).unwrap().into_inner();
        writer.close();
        writer.wait_closed().await.unwrap();
    });
    peer.join().unwrap();
}

/// A listener whose queue is full: connecting to it takes forever.
fn full_listener() -> (OwnedFd, SocketAddr, Vec<StdStream>) {
    let (family, kind) = (socket::AddressFamily::Inet, socket::SockType::Stream);
    let fd = socket::socket(family, kind, socket::SockFlag::SOCK_CLOEXEC, None).unwrap();
    socket::bind(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    socket::listen(&fd, Backlog::new(1).unwrap()).unwrap();
    let bound: SockaddrIn = socket::getsockname(fd.as_raw_fd()).unwrap();
    let addr = SocketAddr::from(([127, 0, 0, 1], bound.port()));
    let short = Duration::from_millis(100);
    let mut full = Vec::new();
    while let Ok(stream) = StdStream::connect_timeout(&addr, short) {
        full.push(stream);
    }
    (fd, addr, full)
}

async fn pair() -> (StreamReader, StreamWriter, StreamReader, StreamWriter) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (r1, w1) = open_connection(listener.local_addr().unwrap()).await.unwrap();
    let (r2, w2) = listener.accept().await.unwrap().0.into_streams();
    (r1, w1, r2, w2)
}

/// Leaves something of the loop in the middle of something. What it gives outlives the loop.
async fn leave_in_state(state: usize, black_hole: SocketAddr) -> Box<dyn Any> {
    match state {
        0 => drop(create_task(async { TcpListener::bind("127.0.0.1:0").await.unwrap().accept().await })),
        1 => drop(create_task(async move { open_connection(black_hole).await.map(|_| ()) })),
        2 => {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            let clients: Vec<_> = (0..5).map(|_| StdStream::connect(addr).unwrap()).collect();
            return Box::new((listener, clients));
        }
        3 => {
            let (mut r1, mut w1, mut r2, w2) = pair().await;
            w1.write(b"under way").unwrap();
            drop(create_task(async move { r1.read(1).await }));
            drop(create_task(async move { r2.readexactly(1 << 20).await }));
            return Box::new((w1, w2));
        }
        4 => {
            // The sender fills both sockets; its peer goes with its task.
            let (r1, mut w1, r2, w2) = pair().await;
            drop(create_task(async move {
                let _r1 = r1;
                w1.write_all(vec![1; 32 << 20]).await
            }));
            drop(create_task(async move {
                let _peer = (r2, w2);
                std::future::pending::<()>().await;
            }));
        }
        5 => {
            let (listener, addr) = std_listener().unwrap();
            let mut stream = TcpStream::connect(addr).await.unwrap();
            drop(create_task(async move { stream.read(vec![0; 100]).await.0 }));
            let mut abandoned = TcpStream::connect(addr).await.unwrap();
            assert!(timeout(Duration::ZERO, abandoned.read(vec![0; 100])).await.is_err());
            return Box::new((listener, abandoned));
        }
        6 => {
            let server = start_server("127.0.0.1:0", echo).await.unwrap();
            let (reader, mut writer) = open_connection(server.local_addr().unwrap()).await.unwrap();
            writer.write(b"echo").unwrap();
            return Box::new((server, reader, writer));
        }
        _ => {
            let (r1, mut w1, mut r2, mut w2) = pair().await;
            w1.write(vec![1; 100_000]).unwrap();
            w1.close();
            let _ = timeout(Duration::ZERO, r2.read(10)).await;
            w2.abort();
            return Box::new((r1, r2));
        }
    }
    Box::new(())
}

#[test]
fn b1_b2_a_loop_that_ends_in_any_state_leaves_nothing_open() {
    if !in_own_process("b1_b2_a_loop_that_ends_in_any_state_leaves_nothing_open") {
        return;
    }
    let (_hole, black_hole, _full) = full_listener();
    let (before, mut rng) = (open_fds(), Rng::new(11));
    for round in 0..200 {
        let mut runner = Runner::builder().entries(32).buffers(8, 2048).build().unwrap();
        let kept = runner.run(async {
            let mut kept = vec![leave_in_state(round % 8, black_hole).await];
            kept.push(leave_in_state(rng.below(8), black_hole).await);
            for _ in 0..rng.below(4) {
                yield_now().await;
            }
            if rng.below(3) == 0 {
                sleep(Duration::from_micros(200)).await;
            }
            kept
        });
        drop(runner);
        drop(kept);
        assert_eq!(open_fds(), before, "round {round}");
    }
}
