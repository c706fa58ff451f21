//! Servers and listeners: running out of descriptors, refusing, limits, and handlers that fail.

mod common;

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream as StdStream},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use common::{
    blocking_echo, child, echo, in_own_process, is_child, on_every, on_real, open_fds, reports, until,
};
use corio_net::{Server, TcpListener, open_connection, start_server};
use corio_runtime::{
    Runner, run, set_exception_handler,
    time::{sleep, timeout},
};
use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
};

const STARVED: &str = "i1_a_server_without_descriptors_waits_quietly_and_serves_all_in_the_end";

/// The child: a server whose descriptors run out. It reports on its output what the parent checks.
fn starved_server() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    run(async {
        let reports = reports();
        let server = start_server("127.0.0.1:0", echo).await.unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, open_fds() as u64 + 20, hard).unwrap();
        println!("{}", server.local_addr().unwrap());
        until(|| !reports.borrow().is_empty()).await;
        let cpu = || Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap());
        let (cpu_before, before, logged) = (cpu(), Instant::now(), reports.borrow().len());
        sleep(Duration::from_secs(3)).await;
        let share = (cpu() - cpu_before).as_secs_f64() / before.elapsed().as_secs_f64();
        let logged = reports.borrow().len() - logged;
        assert!(share < 0.05, "{share} of a core while it waits for descriptors");
        assert!(logged as f64 <= before.elapsed().as_secs_f64() + 1.0, "{:?}", reports.borrow());
        assert!(reports.borrow()[0].contains("out of resources"), "{:?}", reports.borrow());
        println!("starved");
        // Served until the parent has had enough.
        server.serve_forever().await.unwrap();
    });
}

#[test]
fn i1_a_server_without_descriptors_waits_quietly_and_serves_all_in_the_end() {
    if is_child(STARVED) {
        return starved_server();
    }
    let mut server = child(STARVED).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map(Result::unwrap);
    let addr: SocketAddr = lines.find_map(|line| line.rsplit(' ').next()?.parse().ok()).unwrap();
    let mut clients: Vec<StdStream> = (0..120).map(|_| StdStream::connect(addr).unwrap()).collect();
    let starved = lines.any(|line| line == "starved");
    assert!(starved, "the server did not come through: {:?}", server.wait());
    // Each is served once others have closed.
    for (n, mut client) in clients.drain(..).enumerate() {
        client.write_all(&[n as u8]).unwrap();
        let mut reply = [0];
        client.read_exact(&mut reply).unwrap();
        assert_eq!(reply[0], n as u8);
    }
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn a1_cancelled_accepts_lose_no_client() {
    if !in_own_process("a1_cancelled_accepts_lose_no_client") {
        return;
    }
    on_real(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let before = open_fds();
        let clients = thread::spawn(move || {
            for n in 0..400u32 {
                assert_eq!(blocking_echo(addr, &n.to_le_bytes()).unwrap(), n.to_le_bytes());
            }
        });
        let mut served = 0;
        while served < 400 {
            let Ok(accepted) = timeout(Duration::from_millis(1), listener.accept()).await else { continue };
            let (reader, writer) = accepted.unwrap().0.into_streams();
            echo(reader, writer).await.unwrap();
            served += 1;
        }
        clients.join().unwrap();
        until(|| open_fds() == before).await;
    });
}

#[test]
fn a1_a_client_that_comes_after_the_cancel_and_before_the_ring_is_entered_is_kept() {
    on_real(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        for n in 0..20 {
            assert!(timeout(Duration::ZERO, listener.accept()).await.is_err());
            // The thread is blocked while the client connects.
            let client = StdStream::connect(addr).unwrap();
            if n % 2 == 0 {
                thread::sleep(Duration::from_millis(2));
            }
            let (_stream, peer) = listener.accept().await.unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
        }
    });
}

#[test]
fn srv_15_an_address_in_use_is_named() {
    on_every(async || {
        let server = start_server("127.0.0.1:0", echo).await.unwrap();
        let addr = server.local_addr().unwrap();
        let error = start_server(addr, echo).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&addr.to_string()), "{error}");
        assert_eq!(server.sockets(), [addr]);
        server.close();
        assert!(server.sockets().is_empty() && server.local_addr().is_err());
        assert!(server.serve_forever().await.unwrap_err().to_string().contains("is closed"));
    });
}

#[test]
fn srv_13_reuse_port_lets_two_servers_share() {
    on_real(async || {
        let one = Server::builder().reuse_port(true).start("127.0.0.1:0", echo).await.unwrap();
        let addr = one.local_addr().unwrap();
        let _two = Server::builder().reuse_port(true).start(addr, echo).await.unwrap();
        assert!(Server::builder().start(addr, echo).await.is_err());
    });
}

#[test]
fn str_48_a_handler_that_fails_or_panics_is_reported_and_the_server_goes_on() {
    on_every(async || {
        let reports = reports();
        let server = start_server("127.0.0.1:0", |mut reader, mut writer| async move {
            match &reader.readexactly(1).await?[..] {
                b"e" => Err(io::Error::other("the handler's own error")),
                b"p" => panic!("the handler panics"),
                other => writer.write_all(other).await,
            }
        })
        .await
        .unwrap();
        let addr = server.local_addr().unwrap();
        for (sent, replies) in [(b"e", 0), (b"p", 0), (b"x", 1)] {
            let (mut reader, mut writer) = open_connection(addr).await.unwrap();
            writer.write_all(sent).await.unwrap();
            assert_eq!(reader.read_to_end().await.unwrap().len(), replies);
        }
        let reports = reports.borrow();
        assert_eq!(reports.len(), 2, "{reports:?}");
        assert!(reports[0].contains("Unhandled exception in client_connected_cb"), "{reports:?}");
        assert!(reports[0].contains("the handler's own error"), "{reports:?}");
        assert!(reports[1].contains("the handler panics"), "{reports:?}");
    });
}

#[test]
fn srv_03_wait_closed_waits_for_the_last_connection() {
    on_every(async || {
        let server = start_server("127.0.0.1:0", echo).await.unwrap();
        let (mut reader, mut writer) = open_connection(server.local_addr().unwrap()).await.unwrap();
        writer.write_all(b"x").await.unwrap();
        reader.readexactly(1).await.unwrap();
        server.close();
        assert!(timeout(Duration::from_millis(10), server.wait_closed()).await.is_err());
        writer.close();
        server.wait_closed().await;
        server.wait_closed().await;
        assert_eq!(server.connections(), 0);
    });
}

#[test]
fn srv_05_06_clients_are_closed_gently_or_at_once() {
    on_every(async || {
        for gently in [true, false] {
            let server = start_server("127.0.0.1:0", |mut reader, mut writer| async move {
                writer.write(vec![1; 100_000])?;
                reader.read(1).await.map(drop)
            })
            .await
            .unwrap();
            set_exception_handler(|_| {});
            let (mut reader, _writer) = open_connection(server.local_addr().unwrap()).await.unwrap();
            reader.readexactly(1).await.unwrap();
            server.close();
            if gently {
                server.close_clients();
                assert_eq!(reader.read_to_end().await.unwrap().len(), 99_999);
            } else {
                server.abort_clients();
                assert_eq!(reader.read_to_end().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
            }
            server.wait_closed().await;
        }
    });
}

#[test]
fn srv_01_a_dropped_serve_forever_closes_the_server() {
    on_every(async || {
        let server = start_server("127.0.0.1:0", echo).await.unwrap();
        assert!(server.is_serving());
        assert!(timeout(Duration::from_millis(2), server.serve_forever()).await.is_err());
        assert!(!server.is_serving());
        server.wait_closed().await;
    });
}

#[test]
fn a_dropped_server_stops_accepting_and_its_connections_go_on() {
    on_every(async || {
        let server = start_server("127.0.0.1:0", echo).await.unwrap();
        let addr = server.local_addr().unwrap();
        let (mut reader, mut writer) = open_connection(addr).await.unwrap();
        writer.write_all(b"1").await.unwrap();
        reader.readexactly(1).await.unwrap();
        drop(server);
        assert_eq!(open_connection(addr).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        writer.write_all(b"2").await.unwrap();
        assert_eq!(reader.readexactly(1).await.unwrap(), b"2");
    });
}

#[test]
fn a_server_is_closed_from_another_thread() {
    on_real(async || {
        let server = start_server("127.0.0.1:0", echo).await.unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                assert!(server.is_serving() && server.local_addr().is_ok());
                server.close();
            });
        });
        server.wait_closed().await;
        assert!(!server.is_serving());
    });
}

#[test]
fn max_connections_makes_the_next_one_wait() {
    on_every(async || {
        let server = Server::builder().max_connections(2).start("127.0.0.1:0", echo).await.unwrap();
        let addr = server.local_addr().unwrap();
        let mut open = Vec::new();
        for n in 0..3 {
            let (reader, mut writer) = open_connection(addr).await.unwrap();
            writer.write_all(&[n]).await.unwrap();
            open.push((reader, writer));
        }
        let (mut third, _writer) = open.pop().unwrap();
        until(|| server.connections() == 2).await;
        assert!(timeout(Duration::from_millis(20), third.readexactly(1)).await.is_err());
        assert_eq!(server.connections(), 2);
        open.pop();
        assert_eq!(third.readexactly(1).await.unwrap(), [2]);
    });
}

#[test]
fn con_05_06_addresses_are_tried_in_turn() {
    on_real(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let bad = |port| SocketAddr::from(([127, 0, 0, 1], port));
        drop(open_connection([bad(1), good]).await.unwrap());
        let text = open_connection([bad(1), bad(2)]).await.unwrap_err().to_string();
        assert!(
            text.contains("Multiple exceptions") && text.contains(":1:") && text.contains(":2:"),
            "{text}"
        );
        let text = open_connection(bad(1)).await.unwrap_err().to_string();
        assert!(text.contains("127.0.0.1:1") && !text.contains("Multiple"), "{text}");
        let text = open_connection("no port here").await.unwrap_err().to_string();
        assert!(text.contains("no port here"), "{text}");
        let local = open_connection(("localhost", good.port())).await;
        assert!(local.is_ok(), "{local:?}");
    });
}

#[test]
fn str_48_a_report_of_a_handler_names_peer_server_place_and_error() {
    on_real(async || {
        let reports = reports();
        let line = line!() + 1;
        let server = start_server("127.0.0.1:0", |mut reader, writer| {
            // Before there is a future.
            if SYNC.get() {
                panic!("at once")
            }
            async move {
                let _open = writer;
                match &reader.readexactly(1).await?[..] {
                    b"p" => panic!("the handler panics"),
                    _ => Err(io::Error::other("the handler's own error")),
                }
            }
        });
        let server = server.await.unwrap();
        let addr = server.local_addr().unwrap();
        for (sent, error) in [("e", "the handler's own error"), ("p", "the handler panics"), ("s", "at once")]
        {
            SYNC.set(sent == "s");
            let (mut reader, mut writer) = open_connection(addr).await.unwrap();
            writer.write_all(sent).await.unwrap();
            let _ = reader.read_to_end().await;
            until(|| !reports.borrow().is_empty()).await;
            let report = reports.borrow_mut().remove(0);
            let peer = writer.local_addr().unwrap();
            let place = format!("accepting.rs:{line}:");
            for part in [&format!("from {peer} to {addr}"), &place, error] {
                assert!(report.contains(part), "{part} is not in: {report}");
            }
            assert!(reports.borrow().is_empty(), "one report each: {reports:?}");
        }
    });
}

thread_local!(static SYNC: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });

#[test]
fn a_builders_start_is_the_place_of_its_handlers_and_of_the_task_that_accepts() {
    on_real(async || {
        let line = line!() + 1;
        let server = Server::builder().start("127.0.0.1:0", echo).await.unwrap();
        let _client = open_connection(server.local_addr().unwrap()).await.unwrap();
        until(|| server.connections() == 1).await;
        let lines = corio_runtime::all_tasks().iter().filter(|task| task.location().line() == line).count();
        assert_eq!(lines, 2, "{:?}", corio_runtime::all_tasks());
    });
}

#[test]
fn a_listener_that_outlives_its_loop_resets_whom_nobody_has_taken() {
    let mut runner = Runner::new().unwrap();
    let (listener, mut clients) = runner.run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        // Some are in its queue, the last ones still with the kernel.
        let queued = (0..3).map(|_| StdStream::connect(addr).unwrap()).collect::<Vec<_>>();
        sleep(Duration::from_millis(5)).await;
        (
            listener,
            queued.into_iter().chain((0..3).map(|_| StdStream::connect(addr).unwrap())).collect::<Vec<_>>(),
        )
    });
    runner.close();
    for (n, client) in clients.iter_mut().enumerate() {
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let told = client.read(&mut [0]).expect_err("no clean end");
        assert_eq!(told.kind(), ErrorKind::ConnectionReset, "{n}");
    }
    listener.local_addr().unwrap_err();
    drop(listener);
}
