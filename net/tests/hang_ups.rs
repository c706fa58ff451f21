//! A FIN or reset that arrives together with data: the reader gets it, even if the kernel fails to report it.

mod common;

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpStream as StdStream},
    os::fd::AsRawFd,
    time::Duration,
};

use common::{Sequence, every_fault, on, real_kernels, reset, std_listener, with_peer};
use corio_net::{StreamReader, StreamWriter, TcpListener, TcpStream, open_connection, start_server};
use corio_runtime::{
    Backend, Faults, Runner, create_task, metrics,
    service::ROUND,
    time::{now, sleep, timeout},
};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt,
};

/// Longer than anything takes; what reaches it hangs.
const HANG: Duration = Duration::from_secs(20);
const BUFFER: usize = 2048;

/// A connection to `addr` that takes all of a small message before anybody reads.
fn roomy(addr: SocketAddr) -> StdStream {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&fd, sockopt::RcvBuf, &(1 << 20)).unwrap();
    connect(fd.as_raw_fd(), &SockaddrStorage::from(addr)).unwrap();
    StdStream::from(fd)
}

/// A socket that has got `len` bytes and a reset behind them.
fn reset_behind(len: usize) -> StdStream {
    let (listener, addr) = std_listener().unwrap();
    let ours = roomy(addr);
    let mut peer = listener.accept().unwrap().0;
    peer.write_all(&Sequence::default().take(len)).unwrap();
    while ours.peek(&mut vec![0; len]).unwrap() < len {
        std::thread::yield_now();
    }
    reset(peer);
    ours
}

/// Reads to the end, which must be an error; how much came before.
async fn read_to_reset(reader: &mut StreamReader) -> usize {
    let mut sequence = Sequence::default();
    loop {
        match timeout(HANG, reader.read(usize::MAX)).await {
            Ok(Ok(data)) if data.is_empty() => panic!("the end after {} bytes", sequence.at),
            Ok(Ok(data)) => sequence.expect(&data),
            Ok(Err(e)) => {
                assert_eq!(e.kind(), io::ErrorKind::ConnectionReset);
                return sequence.at;
            }
            Err(_) => {
                panic!("the reader waits after {} bytes, and nobody tells it of the reset", sequence.at)
            }
        }
    }
}

/// On each kernel but the simulator, also as if it was old.
fn with_small_buffers(test: impl AsyncFn()) {
    for backend in real_kernels() {
        for old in [false, true] {
            let builder = Runner::builder().backend(backend).buffers(128, BUFFER).old_kernel(old);
            builder.build().unwrap().run(test());
        }
    }
}

#[test]
fn a_reset_behind_much_data_is_seen() {
    with_small_buffers(async || {
        for buffers in [1, 31, 32, 33, 34, 35, 48, 60, 64, 65, 66, 90] {
            for more in [0, 1, BUFFER / 2] {
                let len = buffers * BUFFER + more;
                let ours = TcpStream::try_from(reset_behind(len)).unwrap();
                let (mut reader, _writer) = ours.into_streams();
                assert_eq!(read_to_reset(&mut reader).await, len);
            }
        }
    });
}

/// Both arrive between two turns, when the receive has long been armed.
#[test]
fn a_reset_together_with_data_is_seen() {
    with_small_buffers(async || {
        for round in 0..40 {
            let (mut reader, _writer, mut peer) = with_peer().await;
            let early = round % 4 * 9;
            let mut sequence = Sequence::default();
            for _ in 0..early {
                // Full buffers now and then, each told by the armed receive.
                peer.write_all(&sequence.take(BUFFER + 1)).unwrap();
                sleep(Duration::from_millis(1)).await;
            }
            let late = (round + 1) * 700;
            peer.write_all(&sequence.take(late)).unwrap();
            reset(peer);
            assert_eq!(read_to_reset(&mut reader).await, early * (BUFFER + 1) + late);
        }
    });
}

/// Each of the connections sends something and ends, or is aborted, in the same turn.
async fn many_ends(aborted: bool) -> io::Result<()> {
    let server =
        start_server("127.0.0.1:0", move |mut reader: StreamReader, mut writer: StreamWriter| async move {
            let size = usize::from(reader.readexactly(1).await?[0]) * 500;
            writer.write(vec![7; size])?;
            writer.flush().await?;
            match aborted {
                true => writer.abort(),
                false => writer.close(),
            }
            Ok(())
        })
        .await?;
    let addr = server.local_addr()?;
    let clients: Vec<_> = (1..20u8)
        .map(|size| {
            create_task(async move {
                let (mut reader, mut writer) = open_connection(addr).await?;
                writer.write(&[size])?;
                let began = now();
                let mut got = 0;
                let end = loop {
                    match reader.read(usize::MAX).await {
                        Ok(data) if data.is_empty() => break Ok(()),
                        Ok(data) => got += data.len(),
                        Err(e) => break Err(e.kind()),
                    }
                };
                assert_eq!(end, if aborted { Err(io::ErrorKind::ConnectionReset) } else { Ok(()) });
                assert_eq!(got, usize::from(size) * 500);
                assert!(now() - began <= 2 * ROUND, "{:?}", now() - began);
                io::Result::Ok(())
            })
        })
        .collect();
    for client in clients {
        timeout(10 * ROUND, client).await.expect("a client waits for ever")??;
    }
    Ok(())
}

#[test]
fn a_hang_up_that_the_kernel_forgets_to_tell_is_found_within_a_minute() {
    for seed in 0..60 {
        for aborted in [false, true] {
            let lost = if seed % 2 == 0 { 1.0 } else { 0.4 };
            let faults = if seed % 3 == 0 { every_fault() } else { Faults::default() }.lose_hang_ups(lost);
            let builder = Runner::builder().backend(Backend::Sim { seed }).faults(faults);
            let mut runner = builder.old_kernel(seed % 5 == 0).build().unwrap();
            runner.run(many_ends(aborted)).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        }
    }
}

/// More streams than are asked in one turn, the last of which has lost its hang-up.
#[test]
fn every_stream_is_asked() {
    let faults = Faults::default().lose_hang_ups(1.0);
    let mut runner = Runner::builder().backend(Backend::Sim { seed: 1 }).faults(faults).build().unwrap();
    runner.run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut idle = Vec::new();
        for _ in 0..600 {
            idle.push(open_connection(listener.local_addr().unwrap()).await.unwrap());
            idle.push(listener.accept().await.unwrap().0.into_streams());
        }
        let (mut reader, _writer) = open_connection(listener.local_addr().unwrap()).await.unwrap();
        let (_unread, mut writer) = listener.accept().await.unwrap().0.into_streams();
        writer.write(b"last").unwrap();
        writer.close();
        let all = timeout(2 * ROUND, reader.read_to_end()).await.expect("nobody asks it").unwrap();
        assert_eq!(all, b"last");
        for (reader, writer) in &idle {
            assert!(!reader.at_eof() && !writer.is_closing());
        }
    });
}

#[test]
fn a_round_costs_a_quiet_loop_one_operation_and_no_turn() {
    for backend in real_kernels() {
        let mut runner = on(backend);
        runner.run(async {
            let (listener, addr) = std_listener().unwrap();
            let (_reader, _writer) = open_connection(addr).await.unwrap();
            let _peer = listener.accept().unwrap();
            sleep(Duration::from_millis(5)).await;
            // The stream's receive.
            assert_eq!((metrics().operations, metrics().timers), (1, 0));
        });
        // The wait for the round ends with the loop.
        drop(runner);
    }
}

/// A simulated loop that nothing happens on waits for other threads, instead of hurrying through the minutes.
#[test]
fn a_quiet_simulation_waits_for_another_thread() {
    let mut runner = Runner::builder().backend(Backend::Sim { seed: 1 }).build().unwrap();
    runner.run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = open_connection(listener.local_addr().unwrap()).await.unwrap();
        let _served = listener.accept().await.unwrap();
        let began = now();
        corio_runtime::to_thread(|| std::thread::sleep(Duration::from_millis(50))).await;
        assert!(now() - began <= 2 * ROUND, "{:?}", now() - began);
    });
}
