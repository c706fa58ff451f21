//! The addresses of a connection and of a server: known from the start, on any thread, whatever happens later.

mod common;

use std::{
    cell::RefCell,
    collections::HashSet,
    io::{self, ErrorKind},
    net::TcpStream,
    rc::Rc,
    thread,
    time::Duration,
};

use common::{echo, kernels, on, reset, run, until};
use corio_net::{StreamReader, StreamWriter, TcpListener, connect_write_pipe, open_connection, start_server};
use corio_runtime::{set_exception_handler, time::sleep, yield_now};

const HOST: &str = "127.0.0.1:0";

#[test]
fn a_handler_knows_its_peer_also_if_that_has_reset_before_it_was_accepted() {
    const CLIENTS: usize = 300;
    run(async {
        set_exception_handler(|_| {});
        let known = Rc::new(RefCell::new(Vec::new()));
        let told = known.clone();
        let server = start_server(HOST, move |_reader, writer| {
            told.borrow_mut().push((writer.peer_addr(), writer.local_addr()));
            async { Ok(()) }
        });
        let server = server.await.unwrap();
        let addr = server.local_addr().unwrap();
        let mut clients = HashSet::new();
        for n in 0..CLIENTS {
            // The loop stands still meanwhile.
            let client = TcpStream::connect(addr).unwrap();
            clients.insert(client.local_addr().unwrap());
            reset(client);
            if n % 10 == 0 {
                yield_now().await;
            }
        }
        until(|| known.borrow().len() == CLIENTS).await;
        for (peer, local) in known.take() {
            assert!(clients.contains(&peer.unwrap()));
            assert_eq!(local.unwrap(), addr);
        }
    });
}

#[test]
fn accept_gives_the_address_of_a_peer_that_has_reset_already() {
    run(async {
        let listener = TcpListener::bind(HOST).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let addr = client.local_addr().unwrap();
        reset(client);
        let (mut stream, peer) = listener.accept().await.unwrap();
        assert_eq!((peer, stream.peer_addr().unwrap()), (addr, addr));
        let (read, _) = stream.read(vec![0; 8]).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(stream.peer_addr().unwrap(), addr);
    });
}

#[test]
fn addresses_are_known_between_two_runs_on_other_threads_and_after_the_loops_end() {
    for mut runner in kernels().into_iter().map(on) {
        let (server, reader, writer) = runner.run(async {
            let server = start_server(HOST, echo).await.unwrap();
            let (reader, writer) = open_connection(server.local_addr().unwrap()).await.unwrap();
            while server.connections() == 0 {
                yield_now().await;
            }
            (server, reader, writer)
        });
        let addr = server.local_addr().unwrap();
        let local = writer.local_addr().unwrap();
        assert!(server.is_serving() && server.sockets() == [addr] && server.connections() == 1);
        assert_eq!(writer.peer_addr().unwrap(), addr);
        let (server, writer) = thread::spawn(move || {
            assert_eq!(server.local_addr().unwrap(), addr);
            assert_eq!((writer.peer_addr().unwrap(), writer.local_addr().unwrap()), (addr, local));
            (server, writer)
        })
        .join()
        .unwrap();
        runner.run(async {
            assert_eq!((server.local_addr().unwrap(), writer.peer_addr().unwrap()), (addr, addr));
        });
        drop(reader);
        drop(runner);
        assert!(!server.is_serving() && server.local_addr().is_err() && server.sockets().is_empty());
        assert_eq!((writer.peer_addr().unwrap(), writer.local_addr().unwrap()), (addr, local));
    }
}

#[test]
fn addresses_are_known_after_the_end_of_the_connection_however_it_ended() {
    for mut runner in kernels().into_iter().map(on) {
        let done: io::Result<()> = runner.run(async {
            let handler = |mut reader: StreamReader, writer| async move {
                let _open: StreamWriter = writer;
                reader.read(1).await.map(drop)
            };
            let server = start_server(HOST, handler).await?;
            set_exception_handler(|_| {});
            for aborts in [false, true] {
                let (_reader, mut writer) = open_connection(server.local_addr()?).await?;
                let both = (writer.peer_addr()?, writer.local_addr()?);
                if aborts {
                    writer.abort();
                } else {
                    writer.close();
                    writer.wait_closed().await?;
                }
                assert_eq!((writer.peer_addr()?, writer.local_addr()?), both);
            }
            let server = start_server(HOST, handler).await?;
            let (mut reader, writer) = open_connection(server.local_addr()?).await?;
            let both = (writer.peer_addr()?, writer.local_addr()?);
            while server.connections() == 0 {
                sleep(Duration::from_millis(1)).await;
            }
            server.abort_clients();
            assert!(reader.read(1).await.is_err());
            assert_eq!((writer.peer_addr()?, writer.local_addr()?), both);
            Ok(())
        });
        done.unwrap();
    }
}

#[test]
fn a_server_of_any_address_tells_each_connection_the_one_that_it_came_by() {
    run(async {
        for (any, host) in [("0.0.0.0:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.2"), ("[::]:0", "::1")] {
            let told = Rc::new(RefCell::new(None));
            let tell = told.clone();
            let started = start_server(any, move |_reader, writer| {
                tell.replace(Some((writer.peer_addr().unwrap(), writer.local_addr().unwrap())));
                async { Ok(()) }
            });
            let Ok(server) = started.await else {
                eprintln!("no {any} on this machine");
                continue;
            };
            let port = server.local_addr().unwrap().port();
            let (mut reader, writer) = open_connection((host, port)).await.unwrap();
            assert!(reader.read(1).await.unwrap().is_empty());
            let (peer, local) = told.take().unwrap();
            assert_eq!((peer, local), (writer.local_addr().unwrap(), writer.peer_addr().unwrap()));
            assert_eq!(local.ip().to_string(), host);
        }
    });
}

#[test]
fn a_connection_to_any_address_knows_the_one_that_it_got() {
    run(async {
        let server = start_server("0.0.0.0:0", echo).await.unwrap();
        let (_reader, writer) = open_connection(server.local_addr().unwrap()).await.unwrap();
        let peer = writer.peer_addr().unwrap();
        assert!(peer.ip().is_loopback() && peer.port() == server.local_addr().unwrap().port(), "{peer}");
    });
}

#[test]
fn what_is_no_internet_socket_has_no_address() {
    run(async {
        let (_read, write) = io::pipe().unwrap();
        let writer = connect_write_pipe(write.into()).unwrap();
        assert_eq!(writer.peer_addr().unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(writer.local_addr().unwrap_err().kind(), ErrorKind::Unsupported);
    });
}

#[test]
fn a_socket_of_the_standard_library_brings_its_addresses() {
    run(async {
        let listener = TcpListener::bind(HOST).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, local) = (client.peer_addr().unwrap(), client.local_addr().unwrap());
        let stream = corio_net::TcpStream::try_from(client).unwrap();
        let (_stream, accepted) = listener.accept().await.unwrap();
        assert_eq!(accepted, local);
        let (_reader, mut writer) = stream.into_streams();
        writer.abort();
        assert_eq!((writer.peer_addr().unwrap(), writer.local_addr().unwrap()), (peer, local));
        let elsewhere = thread::spawn(move || listener.local_addr().unwrap());
        assert_eq!(common::join(elsewhere).await, peer);
    });
}

#[test]
fn many_connections_in_one_turn_keep_their_addresses_apart() {
    for mut runner in kernels().into_iter().map(on) {
        let done: io::Result<()> = runner.run(async {
            let server = start_server(HOST, |_reader, mut writer| async move {
                let peer = writer.peer_addr()?;
                writer.write_all(peer.to_string()).await
            });
            let server = server.await?;
            let addr = server.local_addr()?;
            let clients = (0..60).map(|_| async move {
                let (mut reader, writer) = open_connection(addr).await?;
                let told = reader.read_to_end().await?;
                assert_eq!(told, writer.local_addr()?.to_string().as_bytes());
                io::Result::Ok(())
            });
            corio_runtime::try_gather(clients).await.map_err(io::Error::other)?;
            Ok(())
        });
        done.unwrap();
    }
}
