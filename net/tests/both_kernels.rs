//! The same programs on every kernel; in the simulator with many seeds and faults.

mod common;

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use common::{echo, every_fault, kernels, on_every_seed, pattern};
use corio_net::{ReadError, Server, StreamWriter, TcpListener, open_connection, start_server};
use corio_runtime::{
    Backend, Faults, Runner, create_task, metrics, set_exception_handler,
    time::{self, sleep, timeout},
    yield_now,
};

fn on_every(program: impl AsyncFn() -> io::Result<()>) {
    on_every_seed(40, every_fault(), program);
}

#[test]
fn messages_of_every_size_come_back_byte_for_byte() {
    on_every(async || {
        let server = start_server("127.0.0.1:0", echo).await?;
        let (mut reader, mut writer) = open_connection(server.local_addr()?).await?;
        for (salt, size) in [1, 64, 4095, 4096, 4097, 20_000, 65_536, 300_000].into_iter().enumerate() {
            let message = pattern(size, salt);
            writer.write(&message)?;
            assert_eq!(reader.readexactly(size).await?, message[..]);
        }
        Ok(())
    });
}

#[test]
fn a3_reads_cancelled_at_random_lose_and_repeat_nothing() {
    on_every(async || {
        let server = start_server("127.0.0.1:0", async |_reader, mut writer: StreamWriter| {
            for n in 0..5_000u32 {
                writer.write(&n.to_le_bytes())?;
                if n % 100 == 0 {
                    writer.drain().await?;
                    yield_now().await;
                }
            }
            Ok(())
        })
        .await?;
        let (mut reader, _writer) = open_connection(server.local_addr()?).await?;
        let mut expected = 0u32;
        let mut micros = 0;
        while expected < 5_000 {
            micros = (micros * 7 + 13) % 50;
            let read = timeout(Duration::from_micros(micros), reader.readexactly(4)).await;
            if let Ok(number) = read {
                assert_eq!(number?, expected.to_le_bytes());
                expected += 1;
            }
        }
        assert!(reader.read(1).await?.is_empty());
        Ok(())
    });
}

#[test]
fn a1_accepts_cancelled_at_random_lose_no_connection() {
    on_every(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let served = Rc::new(Cell::new(0));
        for _ in 0..50 {
            let served = served.clone();
            drop(create_task(async move {
                let (mut reader, _writer) = open_connection(addr).await.unwrap();
                assert_eq!(reader.readexactly(2).await.unwrap(), b"hi");
                served.set(served.get() + 1);
            }));
        }
        let mut accepted = Vec::new();
        while served.get() < 50 {
            if let Ok(next) = timeout(Duration::from_micros(20), listener.accept()).await {
                let (stream, _) = next?;
                let (reader, mut writer) = stream.into_streams();
                writer.write(b"hi")?;
                accepted.push((reader, writer));
            }
        }
        assert_eq!(accepted.len(), 50);
        Ok(())
    });
}

#[test]
fn a4_writes_cancelled_at_random_are_sent_once_and_in_order() {
    on_every(async || {
        let received = Rc::new(RefCell::new(Vec::new()));
        let sink = received.clone();
        let server = start_server("127.0.0.1:0", move |mut reader, writer| {
            let sink = sink.clone();
            async move {
                let _open = writer;
                let data = reader.read_to_end().await?;
                sink.borrow_mut().extend_from_slice(&data);
                Ok(())
            }
        })
        .await?;
        let (_reader, mut writer) = open_connection(server.local_addr()?).await?;
        let mut sent = Vec::new();
        for n in 0..60 {
            let piece = pattern(n * 331 % 30_000, n);
            sent.extend_from_slice(&piece);
            // Dropped or not: once polled, all of it is on its way.
            let _ = timeout(Duration::from_micros(n as u64 % 7), writer.write_all(piece)).await;
        }
        writer.close();
        writer.wait_closed().await?;
        server.close();
        server.wait_closed().await;
        assert!(*received.borrow() == sent, "{} bytes of {}", received.borrow().len(), sent.len());
        Ok(())
    });
}

#[test]
fn half_close_lets_the_answer_through() {
    on_every(async || {
        let server = start_server("127.0.0.1:0", |mut reader, mut writer| async move {
            let all = reader.read_to_end().await?;
            writer.write(all)?;
            writer.write_eof()
        })
        .await?;
        let (mut reader, mut writer) = open_connection(server.local_addr()?).await?;
        let message = pattern(100_000, 9);
        writer.write(&message)?;
        writer.write_eof()?;
        assert!(writer.write(b"late").is_err());
        assert!(reader.read_to_end().await? == message);
        Ok(())
    });
}

#[test]
fn lines_and_separators_keep_the_limit() {
    on_every(async || {
        let server = start_server("127.0.0.1:0", |_reader, mut writer| async move {
            writer.write("short\n")?;
            writer.write(vec![b'x'; 200_000])?;
            writer.write("\nafter\n")?;
            writer.write_eof()?;
            writer.wait_closed().await
        })
        .await?;
        let (mut reader, _writer) = open_connection(server.local_addr()?).await?;
        assert_eq!(reader.readline().await?, b"short\n");
        assert!(matches!(reader.readuntil(b"\n").await, Err(ReadError::LimitOverrun { .. })));
        assert_eq!(reader.readexactly(200_001).await?.len(), 200_001);
        assert_eq!(reader.readline().await?, b"after\n");
        assert_eq!(reader.readline().await?, b"");
        assert!(reader.at_eof());
        Ok(())
    });
}

#[test]
fn c1_a_pool_of_one_buffer_serves_many_connections() {
    for backend in kernels() {
        let mut runner = Runner::builder().backend(backend).buffers(1, 4096).build().unwrap();
        let done: io::Result<()> = runner.run(async {
            let server = start_server("127.0.0.1:0", echo).await?;
            let addr = server.local_addr()?;
            let clients: Vec<_> = (0..100).map(|n| create_task(burst(addr, n))).collect();
            for client in clients {
                client.await??;
            }
            assert_eq!(metrics().buffers_available, 1);
            Ok(())
        });
        done.unwrap();
    }
}

async fn burst(addr: std::net::SocketAddr, salt: usize) -> io::Result<()> {
    let (mut reader, mut writer) = open_connection(addr).await?;
    let message = pattern(20_000, salt);
    writer.write(&message)?;
    assert!(reader.readexactly(message.len()).await? == message[..]);
    Ok(())
}

#[test]
fn d1_tiny_queues_serve_many_connections() {
    let uring = Runner::builder().entries(4).completion_entries(8);
    let sim = Runner::builder().backend(Backend::Sim { seed: 5 }).faults(Faults::default().cq_capacity(2));
    for builder in [uring, sim] {
        let done: io::Result<()> = builder.build().unwrap().run(async {
            let server = start_server("127.0.0.1:0", echo).await?;
            let addr = server.local_addr()?;
            let clients: Vec<_> = (0..200).map(|n| create_task(burst(addr, n))).collect();
            for client in clients {
                client.await??;
            }
            Ok(())
        });
        done.unwrap();
    }
}

#[test]
fn srv_17_a_closed_server_refuses_and_its_connections_go_on() {
    on_every(async || {
        let server = start_server("127.0.0.1:0", echo).await?;
        let addr = server.local_addr()?;
        let (mut reader, mut writer) = open_connection(addr).await?;
        writer.write_all(b"a").await?;
        reader.readexactly(1).await?;
        server.close();
        let refused = open_connection(addr).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        writer.write_all(b"b").await?;
        assert_eq!(reader.readexactly(1).await?, b"b");
        writer.close();
        server.wait_closed().await;
        assert_eq!(server.connections(), 0);
        Ok(())
    });
}

#[test]
fn an_abort_is_a_reset_and_cuts_nothing_that_came_before() {
    on_every(async || {
        let server = start_server("127.0.0.1:0", |mut reader, mut writer| async move {
            reader.readexactly(1).await?;
            writer.abort();
            Ok(())
        })
        .await?;
        let (mut reader, mut writer) = open_connection(server.local_addr()?).await?;
        writer.write_all(b"x").await?;
        assert_eq!(reader.read(10).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert!(writer.write_all(b"y").await.is_err());
        Ok(())
    });
}

#[test]
fn shutdown_cuts_what_outlives_the_grace_and_counts_it() {
    on_every(async || {
        let server = Server::builder()
            .start("127.0.0.1:0", |mut reader, writer| async move {
                let _open = writer;
                reader.read(1).await.map(drop)
            })
            .await?;
        set_exception_handler(|_| {});
        let (_reader, _writer) = open_connection(server.local_addr()?).await?;
        while server.connections() == 0 {
            yield_now().await;
        }
        let report = server.shutdown(Duration::from_millis(5)).await;
        assert_eq!(report.cut, 1);
        server.wait_closed().await;
        Ok(())
    });
}

#[test]
fn the_simulator_runs_an_hour_in_no_time_and_the_same_seed_the_same_way() {
    let trace = |seed| {
        let builder = Runner::builder().backend(Backend::Sim { seed }).faults(every_fault());
        builder.build().unwrap().run(async {
            let start = time::now();
            sleep(Duration::from_secs(3600)).await;
            let server = start_server("127.0.0.1:0", echo).await.unwrap();
            let addr = server.local_addr().unwrap();
            let order = Rc::new(RefCell::new(Vec::new()));
            let clients: Vec<_> = (0..10)
                .map(|n| {
                    let order = order.clone();
                    create_task(async move {
                        burst(addr, n).await.unwrap();
                        order.borrow_mut().push((n, time::now() - start));
                    })
                })
                .collect();
            for client in clients {
                client.await.unwrap();
            }
            order.take()
        })
    };
    let started = Instant::now();
    let (one, again, other) = (trace(1), trace(1), trace(2));
    assert_eq!(one, again);
    assert_ne!(one, other);
    assert!(one.iter().all(|(_, at)| *at >= Duration::from_secs(3600)));
    assert!(started.elapsed() < Duration::from_secs(600));
}

#[test]
fn a_failed_operation_is_an_error_and_not_a_hang() {
    const ECONNRESET: i32 = 104;
    for nth in 1..12 {
        let faults = Faults::default().fail_nth(nth, ECONNRESET);
        let mut runner =
            Runner::builder().backend(Backend::Sim { seed: nth }).faults(faults).build().unwrap();
        runner.run(async {
            set_exception_handler(|_| {});
            let server = start_server("127.0.0.1:0", echo).await.unwrap();
            let addr = server.local_addr().unwrap();
            for salt in 0..3 {
                // An error or an answer, within an hour of the simulation.
                let _ = timeout(Duration::from_secs(3600), burst(addr, salt))
                    .await
                    .unwrap_or_else(|_| panic!("a hang: {nth}"));
            }
        });
    }
}

#[test]
fn a_closed_listener_ends_what_nobody_accepted() {
    on_every(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (mut reader, _writer) = open_connection(listener.local_addr()?).await?;
        drop(listener);
        // A reset from the kernel's backlog, the end from the listener's own queue.
        let end = reader.read(1).await;
        assert!(end.as_ref().map_or_else(|e| e.kind() == io::ErrorKind::ConnectionReset, |d| d.is_empty()));
        Ok(())
    });
}

#[test]
fn a_reset_comes_after_the_bytes_before_it() {
    on_every(async || {
        let server = start_server("127.0.0.1:0", |mut reader, mut writer| async move {
            writer.write("before")?;
            writer.flush().await?;
            reader.readexactly(1).await?;
            writer.abort();
            Ok(())
        })
        .await?;
        let (mut reader, mut writer) = open_connection(server.local_addr()?).await?;
        assert_eq!(reader.readexactly(6).await?, b"before");
        writer.write_all("x").await?;
        assert_eq!(reader.read(1).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        Ok(())
    });
}

#[test]
fn wrong_sizes_are_refused_by_every_kernel() {
    for backend in kernels() {
        let error = Runner::builder().backend(backend).buffers(3, 4096).build().unwrap_err();
        assert!(error.to_string().contains("count 3"), "{error}");
        let error = Runner::builder().backend(backend).entries(0).build().unwrap_err();
        assert!(error.to_string().contains("0 submission entries"), "{error}");
    }
}
