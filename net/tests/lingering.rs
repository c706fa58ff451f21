//! Data written before `close` arrives whatever the peer still sends; no peer keeps a connection for ever; tasks that
//! wait see a reset.

mod common;

use std::{
    cell::RefCell,
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream as StdStream},
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use common::{join, kernels, on, pattern, reset, run, std_listener, until, with_peer};
use corio_net::{
    Connection, Server, StreamReader, StreamWriter, TcpListener, TcpStream, open_connection, start_server,
};
use corio_runtime::{
    Backend, Faults, Runner, create_task, metrics,
    time::{self, sleep, timeout},
    yield_now,
};
use nix::sys::socket::{setsockopt, sockopt};

const MB: usize = 1 << 20;
const MOMENT: Duration = Duration::from_millis(50);

/// Reads to the end, slowly, and sends all the while.
fn read_slowly_and_send(mut peer: StdStream) -> io::Result<Vec<u8>> {
    let mut sender = peer.try_clone()?;
    let (mut all, mut block) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        // What it sends may be refused once the other side is gone: what it reads may not.
        let _ = sender.write_all(b"eleven more");
        thread::sleep(Duration::from_millis(1));
        match peer.read(&mut block)? {
            0 => return Ok(all),
            n => all.extend_from_slice(&block[..n]),
        }
    }
}

#[test]
fn what_was_written_before_close_arrives_although_the_peer_sends() {
    for reader_lives in [false, true] {
        run(async move {
            let (reader, mut writer, peer) = with_peer().await;
            let reader = Some(reader).filter(|_| reader_lives);
            let reading = thread::spawn(move || {
                thread::sleep(Duration::from_millis(20));
                read_slowly_and_send(peer)
            });
            let sent = pattern(8 * MB, 1);
            writer.write_all(sent.clone()).await.unwrap();
            writer.close();
            writer.wait_closed().await.unwrap();
            assert!(join(reading).await.expect("a clean end") == sent);
            drop(reader);
        });
    }
}

#[test]
fn an_answer_to_a_request_that_nobody_read_ends_cleanly() {
    async fn answer(mut writer: StreamWriter) -> io::Result<()> {
        writer.write_all("an answer").await
    }
    run(async {
        let unused = start_server("127.0.0.1:0", |_, writer| answer(writer)).await.unwrap();
        let unread = start_server("127.0.0.1:0", |reader, writer| async move {
            answer(writer).await?;
            drop(reader);
            Ok(())
        });
        for server in [unused, unread.await.unwrap()] {
            let addr = server.local_addr().unwrap();
            for _ in 0..50 {
                let client = thread::spawn(move || {
                    let mut peer = StdStream::connect(addr)?;
                    peer.write_all(&[7; 20_000])?;
                    let mut all = String::new();
                    peer.read_to_string(&mut all).map(|_| all)
                });
                assert_eq!(join(client).await.expect("no reset"), "an answer");
            }
        }
    });
}

#[test]
fn a_client_that_keeps_sending_while_it_reads_gets_the_whole_answer() {
    run(async {
        let server = start_server("127.0.0.1:0", |_, mut writer| async move {
            writer.write_all(pattern(300_000, 2)).await
        });
        let server = server.await.unwrap();
        let addr = server.local_addr().unwrap();
        let client = thread::spawn(move || {
            let mut peer = StdStream::connect(addr)?;
            // More than the sockets' buffers hold: it goes on only if somebody takes it in.
            let mut sender = peer.try_clone()?;
            let sending = thread::spawn(move || sender.write_all(&vec![1; 20 * MB]));
            thread::sleep(MOMENT);
            let mut all = Vec::new();
            peer.read_to_end(&mut all)?;
            sending.join().unwrap()?;
            io::Result::Ok(all)
        });
        assert!(join(client).await.unwrap() == pattern(300_000, 2));
        // It has ended, so nothing is waited for.
        server.close();
        server.wait_closed().await;
    });
}

#[test]
fn a_connection_with_nothing_outstanding_closes_at_once() {
    run(async {
        let (mut reader, mut writer, mut peer) = with_peer().await;
        writer.write("ping").unwrap();
        sleep(Duration::from_millis(1)).await;
        peer.read_exact(&mut [0; 4]).unwrap();
        peer.write_all(b"pong").unwrap();
        assert_eq!(reader.readexactly(4).await.unwrap(), b"pong");
        let timers = metrics().timers;
        writer.close();
        yield_now().await;
        assert_eq!(metrics().timers, timers);
        writer.wait_closed().await.unwrap();
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
        // One that waits for its peer has a timer.
        let (_reader, mut writer, _peer) = with_peer().await;
        writer.write(vec![0; 32 * MB]).unwrap();
        writer.close();
        until(|| metrics().timers > timers).await;
        writer.abort();
    });
}

#[test]
fn a_peer_that_never_ends_keeps_nothing_once_it_has_everything() {
    run(async {
        let (_reader, mut writer, mut peer) = with_peer().await;
        // Not acknowledged yet, as a rule.
        writer.write(vec![1; 100_000]).unwrap();
        writer.close();
        writer.wait_closed().await.expect("far below the limits");
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), 100_000);
    });
}

/// A client that sends a line and never reads.
fn dead_client(addr: std::net::SocketAddr) -> StdStream {
    let mut client = StdStream::connect(addr).unwrap();
    client.write_all(b"hello\n").unwrap();
    client
}

#[test]
fn peers_that_take_nothing_are_given_up_and_their_places_are_free() {
    run(async {
        let server = Server::builder().max_connections(5).linger(Duration::from_secs(10), 4 * MOMENT).start(
            "127.0.0.1:0",
            |mut reader, mut writer| async move {
                let line = reader.readline().await?;
                if line == b"quick\n" {
                    return writer.write_all("served").await;
                }
                let _ = timeout(2 * MOMENT, writer.write_all(vec![1; 8_000_000])).await;
                Ok(())
            },
        );
        let server = server.await.unwrap();
        let addr = server.local_addr().unwrap();
        let mut dead: Vec<_> = (0..5).map(|_| dead_client(addr)).collect();
        until(|| server.connections() == 5).await;
        let (mut reader, mut writer) = open_connection(addr).await.unwrap();
        writer.write("quick\n").unwrap();
        assert_eq!(reader.read_to_end().await.unwrap(), b"served");
        writer.close();
        until(|| server.connections() == 0).await;
        let told = dead[0].read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(told.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn whoever_waits_for_the_end_of_one_given_up_is_told() {
    run(async {
        for abort_after in [Duration::MAX, Duration::ZERO] {
            let (_reader, mut writer, _peer) = with_peer().await;
            writer.write(vec![0; 32 * MB]).unwrap();
            writer.close();
            // Also once it closes already.
            sleep(Duration::from_millis(5)).await;
            writer.linger(abort_after, 2 * MOMENT);
            let error = writer.wait_closed().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
            assert!(error.to_string().contains("linger"), "{error}");
        }
    });
}

/// An end whose peer's kernel takes a few KiB, and its own all of what these tests write.
fn narrow_peer() -> (TcpStream, StdStream) {
    let (listener, addr) = std_listener().unwrap();
    setsockopt(&listener, sockopt::RcvBuf, &4096).unwrap();
    let ours = StdStream::connect(addr).unwrap();
    setsockopt(&ours, sockopt::SndBuf, &(128 << 10)).unwrap();
    (TcpStream::try_from(ours).unwrap(), listener.accept().unwrap().0)
}

#[test]
fn one_given_up_whose_last_bytes_the_kernel_had_says_so_too() {
    run(async {
        let (ours, _peer) = narrow_peer();
        let (_reader, mut writer) = ours.into_streams();
        writer.linger(Duration::MAX, 2 * MOMENT);
        writer.write(vec![0; 100_000]).unwrap();
        writer.flush().await.expect("the kernel has all of it");
        writer.close();
        let error = writer.wait_closed().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains("linger"), "{error}");
    });
}

#[test]
fn a_peer_that_sends_a_little_all_the_time_is_waited_for() {
    run(async {
        let (ours, mut peer) = narrow_peer();
        let (_reader, mut writer) = ours.into_streams();
        writer.linger(Duration::MAX, 10 * MOMENT);
        // It takes nothing meanwhile: what it sends is all that moves.
        let sending = thread::spawn(move || {
            for _ in 0..20 {
                peer.write_all(b"x")?;
                thread::sleep(MOMENT);
            }
            let mut all = Vec::new();
            peer.read_to_end(&mut all).map(|_| all.len())
        });
        writer.write(vec![1; 100_000]).unwrap();
        writer.close();
        writer.wait_closed().await.unwrap();
        assert_eq!(join(sending).await.unwrap(), 100_000);
    });
}

#[test]
fn a_peer_that_takes_a_little_all_the_time_is_waited_for() {
    run(async {
        let (_reader, mut writer, peer) = with_peer().await;
        writer.linger(Duration::MAX, 10 * MOMENT);
        let reading = thread::spawn(move || {
            let (mut count, mut block) = (0, vec![0; MB]);
            loop {
                match (&peer).read(&mut block) {
                    Ok(0) => return Ok(count),
                    Ok(n) => count += n,
                    Err(e) => return Err(e),
                }
                // In all longer than the idle time.
                thread::sleep(MOMENT);
            }
        });
        writer.write(vec![1; 24 * MB]).unwrap();
        writer.close();
        writer.wait_closed().await.unwrap();
        assert_eq!(join(reading).await.unwrap(), 24 * MB);
    });
}

#[test]
fn the_end_of_a_loop_does_not_wait_long_for_a_peer_that_takes_nothing() {
    let (listener, addr) = std_listener().unwrap();
    let started = Instant::now();
    let _peer = corio_runtime::run(async {
        let (_reader, mut writer) = open_connection(addr).await.unwrap();
        writer.write(vec![1; 32 * MB]).unwrap();
        listener.accept().unwrap().0
    });
    // Half a second; the whole limit is five.
    assert!(started.elapsed() < Duration::from_millis(4500), "{:?}", started.elapsed());

    let mut runner = Runner::builder().linger(Duration::ZERO, Duration::ZERO).build().unwrap();
    let _peer = runner.run(async {
        let (_reader, mut writer) = open_connection(addr).await.unwrap();
        writer.write(vec![1; 32 * MB]).unwrap();
        listener.accept().unwrap().0
    });
    runner.close();
}

#[test]
fn two_loops_that_both_end_with_unsent_data_end() {
    let (listener, addr) = std_listener().unwrap();
    let other = thread::spawn(move || {
        corio_runtime::run(async {
            let accepted = listener.accept().unwrap().0;
            let (_reader, mut writer) = corio_net::TcpStream::try_from(accepted).unwrap().into_streams();
            writer.write(vec![2; 32 * MB]).unwrap();
        });
    });
    corio_runtime::run(async {
        let (_reader, mut writer) = open_connection(addr).await.unwrap();
        writer.write(vec![1; 32 * MB]).unwrap();
    });
    other.join().unwrap();
}

/// How the reader stands as the reset comes.
#[derive(Clone, Copy, Debug)]
enum ReaderIs {
    Waiting,
    Dropped,
    OverItsLimit,
    AtTheEnd,
}

#[test]
fn a_reset_is_told_to_who_waits_though_nothing_is_written() {
    for reader_is in [ReaderIs::Waiting, ReaderIs::Dropped, ReaderIs::OverItsLimit, ReaderIs::AtTheEnd] {
        run(async move {
            let (listener, addr) = std_listener().unwrap();
            let connecting = Connection::builder().limit(1).connect(addr);
            let (reader, mut writer) = connecting.await.unwrap();
            let mut peer = listener.accept().unwrap().0;
            let mut reader = Some(reader);
            match reader_is {
                ReaderIs::Waiting => {}
                ReaderIs::Dropped => drop(reader.take()),
                ReaderIs::OverItsLimit => peer.write_all(&[1; 40_000]).unwrap(),
                ReaderIs::AtTheEnd => {
                    peer.shutdown(Shutdown::Write).unwrap();
                    assert!(reader.as_mut().unwrap().read(1).await.unwrap().is_empty());
                }
            }
            sleep(MOMENT / 5).await;
            assert!(!writer.is_closing(), "{reader_is:?}");
            let waiting = create_task(async move {
                let error = writer.wait_closed().await.unwrap_err();
                (writer, error)
            });
            sleep(MOMENT / 5).await;
            reset(peer);
            let (mut writer, error) = waiting.await.unwrap();
            // Behind the peer's end the kernel calls a reset a broken pipe.
            let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
            assert!(kinds.contains(&error.kind()), "{reader_is:?}: {error}");
            assert!(writer.is_closing() && writer.drain().await.is_err() && writer.write("more").is_err());
            assert!(writer.wait_closed().await.is_err());
            if let (ReaderIs::OverItsLimit, Some(mut reader)) = (reader_is, reader) {
                // The bytes before it are there all the same, then the error.
                assert!(reader.readexactly(40_000).await.is_ok());
                assert_eq!(reader.read(1).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
            }
        });
    }
}

#[test]
fn a_reset_is_told_to_who_waited_before_the_reader_stopped() {
    for reader_is in [ReaderIs::Dropped, ReaderIs::OverItsLimit, ReaderIs::AtTheEnd] {
        run(async move {
            let (listener, addr) = std_listener().unwrap();
            let (reader, mut writer) = Connection::builder().limit(1).connect(addr).await.unwrap();
            let mut peer = listener.accept().unwrap().0;
            let waiting = create_task(async move { writer.wait_closed().await });
            sleep(MOMENT / 5).await;
            let mut reader = Some(reader);
            match reader_is {
                ReaderIs::Dropped => drop(reader.take()),
                ReaderIs::OverItsLimit => peer.write_all(&[1; 40_000]).unwrap(),
                _ => peer.shutdown(Shutdown::Write).unwrap(),
            }
            sleep(MOMENT / 5).await;
            reset(peer);
            let told = timeout(Duration::from_secs(10), waiting).await;
            told.unwrap_or_else(|_| panic!("{reader_is:?}: hangs")).unwrap().unwrap_err();
        });
    }
}

#[test]
fn a_writer_whose_reader_is_gone_hears_of_a_reset() {
    run(async {
        let (reader, mut writer, peer) = with_peer().await;
        drop(reader);
        sleep(MOMENT / 5).await;
        reset(peer);
        until(|| writer.is_closing()).await;
        assert!(writer.drain().await.is_err() && writer.write("more").is_err());
    });
}

/// A writer whose reader has read the end, so that nothing is received any more, and its peer.
async fn at_the_end() -> (StreamReader, StreamWriter, StdStream) {
    let (mut reader, writer, peer) = with_peer().await;
    peer.shutdown(Shutdown::Write).unwrap();
    assert!(reader.read(1).await.unwrap().is_empty());
    (reader, writer, peer)
}

#[test]
fn who_asks_whether_a_writer_closes_hears_of_a_reset_though_nothing_is_read() {
    run(async {
        let (_reader, writer, peer) = at_the_end().await;
        assert!(!writer.is_closing());
        reset(peer);
        until(|| writer.is_closing()).await;
    });
}

#[test]
fn to_print_a_writer_starts_no_operation() {
    run(async {
        let (_reader, writer, _peer) = at_the_end().await;
        let before = metrics().operations;
        assert_eq!(format!("{writer:?}"), "StreamWriter { queued: Some(0), closing: false }");
        yield_now().await;
        assert_eq!(metrics().operations, before);
        assert!(!writer.is_closing());
        assert_eq!(metrics().operations, before + 1);
    });
}

#[test]
fn a_reset_that_only_the_close_comes_upon_is_told() {
    for backend in kernels() {
        on(backend).run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            let (_reader, mut writer) = Connection::builder().limit(1).connect(addr).await.unwrap();
            let (_of_peer, mut peer) = listener.accept().await.unwrap().0.into_streams();
            // As much as a receive takes in: now nothing is received, and nothing is unread.
            peer.write_all(&[1; 4096]).await.unwrap();
            sleep(MOMENT / 5).await;
            peer.abort();
            sleep(MOMENT / 5).await;
            writer.close();
            let told = timeout(Duration::from_secs(20), writer.wait_closed()).await.unwrap();
            assert_eq!(told.unwrap_err().kind(), ErrorKind::ConnectionReset, "{backend:?}");
        });
    }
    run(async {
        let (_reader, mut writer, peer) = with_peer().await;
        sleep(MOMENT / 5).await;
        // The receive has no turn to tell of it.
        reset(peer);
        writer.close();
        assert_eq!(writer.wait_closed().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_reset_is_told_also_if_the_kernel_gives_the_poll_for_it_up() {
    for seed in 0..100 {
        let faults = Faults::default().lose_more(0.7).delay(Duration::from_millis(2)).reorder(true);
        let builder = Runner::builder().backend(Backend::Sim { seed }).faults(faults);
        let told = builder.build().unwrap().run(async {
            let server = start_server("127.0.0.1:0", |_, mut writer| async move {
                sleep(MOMENT).await;
                writer.abort();
                Ok(())
            });
            let server = server.await.unwrap();
            let (reader, mut writer) = open_connection(server.local_addr().unwrap()).await.unwrap();
            drop(reader);
            timeout(Duration::from_secs(60), writer.wait_closed()).await
        });
        assert!(told.unwrap_or_else(|_| panic!("seed {seed}: hangs")).is_err(), "seed {seed}");
    }
}

#[test]
fn a_reset_ends_a_drain_and_a_flush() {
    run(async {
        for flushes in [false, true] {
            let (_reader, mut writer, peer) = with_peer().await;
            writer.write(vec![1; 32 * MB]).unwrap();
            let waiting =
                create_task(async move { if flushes { writer.flush().await } else { writer.drain().await } });
            sleep(MOMENT).await;
            reset(peer);
            waiting.await.unwrap().unwrap_err();
        }
    });
}

/// A conversation in which any operation may fail: whatever happens, everybody ends.
async fn conversation(seed: u64) -> io::Result<()> {
    let server =
        start_server("127.0.0.1:0", move |mut reader: StreamReader, mut writer: StreamWriter| async move {
            writer.write(vec![1; 150_000])?;
            loop {
                let data = reader.read(4096).await?;
                if data.is_empty() {
                    return writer.flush().await;
                }
                writer.write_all(data).await?;
            }
        })
        .await?;
    let mut ends = Vec::new();
    for n in 0..3 {
        let addr = server.local_addr()?;
        ends.push(create_task(async move {
            let (mut reader, mut writer) = open_connection(addr).await?;
            writer.write(vec![2; 100_000])?;
            if (seed + n).is_multiple_of(3) {
                writer.drain().await?;
            }
            let mut got = 0;
            while got < 200_000 {
                match reader.read(8192).await?.len() {
                    0 => break,
                    n => got += n,
                }
            }
            writer.close();
            writer.wait_closed().await
        }));
    }
    for end in ends {
        let _ = end.await;
    }
    server.close();
    server.wait_closed().await;
    Ok(())
}

const ERRNOS: [i32; 8] = [
    nix::libc::ECONNRESET,
    nix::libc::EPIPE,
    nix::libc::ENOMEM,
    nix::libc::EIO,
    nix::libc::ENOBUFS,
    nix::libc::ETIMEDOUT,
    nix::libc::EINTR,
    nix::libc::ECANCELED,
];

#[test]
fn no_failure_of_any_one_operation_hangs_a_conversation() {
    let seeds: u64 = std::env::var("CORIO_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    for seed in 0..seeds {
        let errno = ERRNOS[(seed % 8) as usize];
        let faults = Faults::default().fail_nth(1 + seed / 8 % 60, errno).short_transfers(0.2);
        let builder = Runner::builder().backend(Backend::Sim { seed }).faults(faults);
        let mut runner = builder.build().unwrap();
        let ended = runner.run(async {
            corio_runtime::set_exception_handler(|_| {});
            timeout(Duration::from_secs(300), conversation(seed)).await
        });
        assert!(ended.is_ok(), "seed {seed}, errno {errno}: hangs");
    }
}

#[test]
fn the_limits_hold_by_the_loops_own_clock() {
    for seed in 0..20 {
        let mut runner = Runner::builder().backend(Backend::Sim { seed }).build().unwrap();
        runner.run(async {
            let taken = Rc::new(RefCell::new(Vec::new()));
            let keep = taken.clone();
            let server = start_server("127.0.0.1:0", move |reader, writer| {
                keep.borrow_mut().push((reader, writer));
                async { Ok(()) }
            });
            let server = server.await.unwrap();
            let (_reader, mut writer) = open_connection(server.local_addr().unwrap()).await.unwrap();
            let started = time::now();
            writer.write(vec![1; MB]).unwrap();
            writer.close();
            let error = writer.wait_closed().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            let took = time::now() - started;
            assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(6), "{took:?}");
            taken.borrow_mut().clear();
        });
    }
}

#[test]
fn a_peer_that_takes_a_little_all_the_time_is_given_up_in_the_end() {
    for seed in 0..20 {
        let mut runner = Runner::builder().backend(Backend::Sim { seed }).build().unwrap();
        runner.run(async {
            let server = start_server("127.0.0.1:0", |mut reader: StreamReader, writer| async move {
                let _open = writer;
                while !reader.read(64 << 10).await?.is_empty() {
                    sleep(Duration::from_secs(1)).await;
                }
                Ok(())
            });
            let server = server.await.unwrap();
            let (_reader, mut writer) = open_connection(server.local_addr().unwrap()).await.unwrap();
            let started = time::now();
            writer.write(vec![1; 8 * MB]).unwrap();
            writer.close();
            let error = writer.wait_closed().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            let took = time::now() - started;
            assert!(took >= Duration::from_secs(30) && took < Duration::from_secs(31), "{took:?}");
        });
    }
}
