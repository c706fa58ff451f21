//! Servers: the SRV rows of the asyncio conformance list, and running out of descriptors.

mod common;

use std::{
    cell::Cell,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
    process::Stdio,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use common::{
    assert_passed, child, echo, in_own_process, is_child, join, on_every, on_real, open_fds, read_all,
    real_kernels, reports, run, until,
};
use corio_net::{Server, StreamReader, StreamWriter, TcpListener, open_connection, start_server};
use corio_runtime::{
    Backend, create_task,
    time::{sleep, timeout},
    yield_now,
};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};

const HOST: &str = "127.0.0.1:0";

async fn assert_echo(reader: &mut StreamReader, writer: &mut StreamWriter) {
    writer.write(b"xxx").unwrap();
    assert_eq!(reader.readexactly(3).await.unwrap(), b"xxx");
}

#[test]
fn srv_01_a_dropped_serve_forever_closes_the_server() {
    on_every(async || {
        let server = start_server(HOST, echo).await.unwrap();
        assert!(server.is_serving());
        assert_eq!(server.sockets(), [server.local_addr().unwrap()]);
        assert!(timeout(Duration::from_millis(10), server.serve_forever()).await.is_err());
        assert!(!server.is_serving() && server.sockets().is_empty() && server.local_addr().is_err());
        let again = server.serve_forever().await.unwrap_err();
        assert!(again.to_string().contains("is closed"), "{again}");
        server.wait_closed().await;
    });
}

#[test]
fn srv_01_close_ends_serve_forever() {
    on_every(async || {
        let server = Rc::new(start_server(HOST, echo).await.unwrap());
        let serving = create_task({
            let server = server.clone();
            async move { server.serve_forever().await }
        });
        yield_now().await;
        server.close();
        serving.await.unwrap().unwrap();
    });
}

#[test]
fn srv_03_wait_closed_waits_for_the_connections() {
    on_every(async || {
        let server = start_server(HOST, echo).await.unwrap();
        let (mut reader, mut writer) = open_connection(server.local_addr().unwrap()).await.unwrap();
        assert_echo(&mut reader, &mut writer).await;
        assert_eq!(server.connections(), 1);
        let short = Duration::from_millis(20);
        assert!(timeout(short, server.wait_closed()).await.is_err(), "open, and one connection");
        server.close();
        assert!(timeout(short, server.wait_closed()).await.is_err(), "one connection");
        assert_echo(&mut reader, &mut writer).await;
        writer.close();
        server.wait_closed().await;
        assert_eq!(server.connections(), 0);
        assert!(timeout(Duration::ZERO, server.wait_closed()).await.is_ok());
    });
}

#[test]
fn srv_05_close_clients_sends_what_was_written() {
    on_real(async || {
        let server = start_server(HOST, |_reader, mut writer| async move {
            writer.write(vec![9; 4 << 20])?;
            std::future::pending().await
        });
        let server = server.await.unwrap();
        let peer = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        until(|| server.connections() == 1).await;
        yield_now().await;
        server.close();
        server.close_clients();
        assert_eq!(join(read_all(peer)).await.unwrap(), vec![9; 4 << 20]);
        server.wait_closed().await;
    });
}

#[test]
fn srv_06_abort_clients_drops_what_was_not_sent() {
    on_real(async || {
        // A close would wait for ten minutes.
        let patient = Server::builder().linger(Duration::from_secs(600), Duration::from_secs(600));
        let server = patient.start(HOST, |_reader, mut writer| async move {
            writer.write(vec![9; 64 << 20])?;
            std::future::pending().await
        });
        let server = server.await.unwrap();
        let peer = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        until(|| server.connections() == 1).await;
        sleep(Duration::from_millis(20)).await;
        server.close();
        server.abort_clients();
        server.wait_closed().await;
        let error = join(read_all(peer)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn srv_12_all_interfaces() {
    on_every(async || {
        let server = start_server("0.0.0.0:0", |reader, writer| async move {
            assert!(writer.peer_addr()?.ip().is_loopback());
            echo(reader, writer).await
        });
        let server = server.await.unwrap();
        assert_eq!(server.sockets().len(), 1);
        let addr = ("127.0.0.1", server.local_addr().unwrap().port());
        let (mut reader, mut writer) = open_connection(addr).await.unwrap();
        assert_echo(&mut reader, &mut writer).await;
    });
}

#[test]
fn srv_13_15_an_address_is_used_twice_only_with_reuse_port() {
    on_real(async || {
        let first = start_server(HOST, echo).await.unwrap();
        let addr = first.local_addr().unwrap();
        let refused = start_server(addr, echo).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AddrInUse);
        assert!(refused.to_string().contains(&addr.to_string()), "{refused}");
        assert!(Server::builder().reuse_port(true).start(addr, echo).await.is_err());
        assert!(TcpListener::bind(addr).await.is_err());
        let first = Server::builder().reuse_port(true).start(HOST, echo).await.unwrap();
        let addr = first.local_addr().unwrap();
        let _second = Server::builder().reuse_port(true).start(addr, echo).await.unwrap();
    });
}

#[test]
fn srv_15_a_closed_servers_address_is_free() {
    on_every(async || {
        let server = start_server(HOST, echo).await.unwrap();
        let addr = server.local_addr().unwrap();
        let (mut reader, mut writer) = open_connection(addr).await.unwrap();
        assert_echo(&mut reader, &mut writer).await;
        server.close_clients();
        server.shutdown(Duration::from_secs(10)).await;
        yield_now().await;
        yield_now().await;
        drop(start_server(addr, echo).await.unwrap());
    });
}

#[test]
fn srv_17_close_refuses_at_once() {
    on_real(async || {
        let server = start_server(HOST, echo).await.unwrap();
        let addr = server.local_addr().unwrap();
        yield_now().await;
        server.close();
        let refused = TcpStream::connect(addr).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        server.close();
        server.wait_closed().await;
    });
}

#[test]
fn srv_20_21_addresses_that_cannot_be_listened_on() {
    if !in_own_process("srv_20_21_addresses_that_cannot_be_listened_on") {
        return;
    }
    on_real(async || {
        let before = open_fds();
        // An address of nobody (RFC 5737).
        let error = start_server("192.0.2.1:0", echo).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
        assert!(error.to_string().contains("192.0.2.1:0"), "{error}");
        assert_eq!(open_fds(), before);
        for text in ["", ":0", "localhost", "localhost:x", "127.0.0.1:65536"] {
            let error = start_server(text, echo).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}: {error}");
            assert!(error.to_string().contains("expected HOST:PORT"), "{error}");
        }
        let none: [std::net::SocketAddr; 0] = [];
        assert_eq!(start_server(none, echo).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(Server::builder().limit(0).start(HOST, echo).await.is_err());
    });
}

#[test]
fn str_48_a_panic_of_a_handler_leaves_the_server_alive() {
    on_every(async || {
        let heard = reports();
        let first = Rc::new(Cell::new(true));
        let server = start_server(HOST, move |reader, writer| {
            let panics = first.replace(false);
            async move {
                assert!(!panics, "the handler fails");
                echo(reader, writer).await
            }
        });
        let server = server.await.unwrap();
        let (mut reader, _writer) = open_connection(server.local_addr().unwrap()).await.unwrap();
        assert!(reader.read(1).await.unwrap().is_empty());
        let (mut reader, mut writer) = open_connection(server.local_addr().unwrap()).await.unwrap();
        assert_echo(&mut reader, &mut writer).await;
        assert_eq!(heard.borrow().len(), 1, "{heard:?}");
    });
}

/// What panics again when it is dropped.
struct Again;

impl Drop for Again {
    fn drop(&mut self) {
        panic!("and again");
    }
}

#[test]
fn str_48_a_panic_before_the_handlers_future_leaves_the_server_alive() {
    on_every(async || {
        let heard = reports();
        let panics = Cell::new(2);
        let server = start_server(HOST, move |reader, writer| {
            match panics.replace(panics.get() - 1) {
                2 => panic!("the handler fails"),
                1 => std::panic::panic_any(Again),
                _ => panics.set(0),
            }
            echo(reader, writer)
        });
        let server = server.await.unwrap();
        for _ in 0..2 {
            let (mut reader, _writer) = open_connection(server.local_addr().unwrap()).await.unwrap();
            assert!(reader.read(1).await.unwrap().is_empty());
        }
        let (mut reader, mut writer) = open_connection(server.local_addr().unwrap()).await.unwrap();
        assert_echo(&mut reader, &mut writer).await;
        assert!(heard.borrow()[0].starts_with("Unhandled exception in client_connected_cb"), "{heard:?}");
    });
}

#[test]
fn max_connections_are_handled_at_once() {
    on_every(async || {
        let (alive, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let counts = (alive.clone(), most.clone());
        let server = Server::builder().max_connections(3).start(HOST, move |reader, writer| {
            let (alive, most) = counts.clone();
            alive.set(alive.get() + 1);
            most.set(most.get().max(alive.get()));
            async move {
                let ended = echo(reader, writer).await;
                alive.set(alive.get() - 1);
                ended
            }
        });
        let server = server.await.unwrap();
        let addr = server.local_addr().unwrap();
        let clients: Vec<_> = (0..12)
            .map(|_| {
                create_task(async move {
                    let (mut reader, mut writer) = open_connection(addr).await.unwrap();
                    assert_echo(&mut reader, &mut writer).await;
                    sleep(Duration::from_millis(5)).await;
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        assert_eq!(most.get(), 3);
    });
}

#[test]
fn shutdown_resets_what_does_not_end() {
    on_every(async || {
        let server = start_server(HOST, echo).await.unwrap();
        let addr = server.local_addr().unwrap();
        let (mut r1, mut w1) = open_connection(addr).await.unwrap();
        let (mut r2, mut w2) = open_connection(addr).await.unwrap();
        assert_echo(&mut r1, &mut w1).await;
        assert_echo(&mut r2, &mut w2).await;
        w1.close();
        until(|| server.connections() == 1).await;
        assert_eq!(server.shutdown(Duration::from_millis(100)).await.cut, 1);
        assert_eq!(r2.read(1).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        server.wait_closed().await;
        let server = start_server(HOST, echo).await.unwrap();
        assert_eq!(server.shutdown(Duration::from_secs(60)).await.cut, 0);
    });
}

#[test]
fn dropping_the_server_keeps_its_connections() {
    on_real(async || {
        let server = start_server(HOST, echo).await.unwrap();
        let addr = server.local_addr().unwrap();
        let (mut reader, mut writer) = open_connection(addr).await.unwrap();
        assert_echo(&mut reader, &mut writer).await;
        drop(server);
        assert_eq!(TcpStream::connect(addr).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_echo(&mut reader, &mut writer).await;
    });
}

#[test]
fn close_from_another_thread() {
    on_real(async || {
        let server = start_server(HOST, echo).await.unwrap();
        let addr = server.local_addr().unwrap();
        let elsewhere = thread::spawn(move || {
            server.close();
            server
        });
        let server = elsewhere.join().unwrap();
        server.wait_closed().await;
        assert!(TcpStream::connect(addr).is_err());
    });
}

const STARVED: &str = "i1_srv_23_out_of_descriptors_the_server_waits";
const CLIENTS: usize = 120;

#[test]
fn i1_srv_23_out_of_descriptors_the_server_waits() {
    if is_child(STARVED) {
        return starved_server();
    }
    for backend in real_kernels() {
        all_are_served_in_the_end(if backend == Backend::Epoll { "epoll" } else { "uring" });
    }
}

/// The parent: more clients than a server on this kernel has descriptors for.
fn all_are_served_in_the_end(kernel: &str) {
    let mut starved = child(STARVED);
    let mut server = starved.env("CORIO_BACKEND", kernel).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(server.stdout.take().unwrap());
    let (mut line, mut all) = (String::new(), String::new());
    let mut after = |mark: &str| loop {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "the server ended before {mark:?}");
        all.push_str(&line);
        if let Some((_, rest)) = line.split_once(mark) {
            return rest.trim().to_owned();
        }
    };
    let port: u16 = after("PORT ").parse().unwrap();
    let connect = |_| {
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client.write_all(b"ping").unwrap();
        client
    };
    let clients: Vec<_> = (0..CLIENTS).map(connect).collect();
    after("STARVED");
    for (i, mut client) in clients.into_iter().enumerate() {
        let mut answer = [0; 4];
        client.read_exact(&mut answer).unwrap_or_else(|e| panic!("client {i}: {e}"));
        assert_eq!(&answer, b"ping");
    }
    let mut output = server.wait_with_output().unwrap();
    let _ = said.read_to_end(&mut output.stdout);
    assert_passed(STARVED, &output);
}

fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let micros = [usage.user_time(), usage.system_time()].map(|t| t.tv_sec() * 1_000_000 + t.tv_usec());
    Duration::from_micros(micros.iter().sum::<i64>() as u64)
}

/// In the child, with about 20 descriptors to spare.
fn starved_server() {
    run(async {
        let heard = reports();
        let served = Rc::new(Cell::new(0));
        let count = served.clone();
        let server = start_server(HOST, move |reader, writer| {
            count.set(count.get() + 1);
            echo(reader, writer)
        });
        let server = server.await.unwrap();
        let used = open_fds() as u64;
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, used + 20, hard).unwrap();
        println!("PORT {}", server.local_addr().unwrap().port());
        until(|| !heard.borrow().is_empty()).await;
        assert!(heard.borrow()[0].contains("out of resources"), "{heard:?}");
        let (began, cpu) = (Instant::now(), cpu_time());
        sleep(Duration::from_millis(1500)).await;
        let (wall, cpu) = (began.elapsed(), cpu_time() - cpu);
        assert!(cpu < wall / 20, "{cpu:?} of {wall:?} while there is nothing to do");
        let reports = heard.borrow().len() as u64;
        assert!(reports <= wall.as_secs() + 2, "{reports} reports in {wall:?}");
        assert!(served.get() < CLIENTS);
        println!("STARVED");
        until(|| served.get() == CLIENTS && server.connections() == 0).await;
    });
}
