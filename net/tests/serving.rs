//! A server's start, its options, and its handlers, on every kernel.

mod common;

use std::{
    cell::{Cell, RefCell},
    io::{self, ErrorKind, Read, Write},
    net::TcpStream as StdStream,
    rc::Rc,
    time::Duration,
};

use common::{echo, kernels, on, on_real, reports, reset, until};
use corio_net::{Balance, Server, StreamReader, StreamWriter, open_connection, start_server};
use corio_runtime::{
    Backend, Faults, TaskInfo, all_tasks, create_task, current_task, metrics,
    time::{sleep, timeout},
    yield_now,
};

const HOST: &str = "127.0.0.1:0";
const BLINK: Duration = Duration::from_millis(20);

fn on_every(program: impl AsyncFn() -> io::Result<()>) {
    common::on_every_seed(2, Faults::default(), program);
}

/// A line goes to the server and back.
async fn echoes(addr: impl corio_net::ToSocketAddrs) -> io::Result<()> {
    let (mut reader, mut writer) = open_connection(addr).await?;
    writer.write("hello world!\n")?;
    assert_eq!(
        timeout(Duration::from_secs(10), reader.readline()).await.expect("no answer")?,
        b"hello world!\n"
    );
    Ok(())
}

#[test]
fn srv_01_srv_25_a_server_may_bind_first_and_serve_later() {
    on_every(async || {
        let server = Server::builder().start_serving(false).start(HOST, echo).await?;
        let addr = server.local_addr()?;
        assert!(!server.is_serving());
        assert_eq!(server.sockets(), [addr], "the address is taken");
        for _ in 0..3 {
            assert_eq!(open_connection(addr).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
            sleep(BLINK).await;
        }
        server.start_serving().await?;
        server.start_serving().await?;
        assert!(server.is_serving());
        echoes(addr).await?;
        server.close();
        assert!(!server.is_serving() && server.sockets().is_empty());
        assert_eq!(server.start_serving().await.unwrap_err().kind(), ErrorKind::NotConnected);
        server.wait_closed().await;

        assert!(start_server(HOST, echo).await?.is_serving(), "the default");
        Ok(())
    });
}

#[test]
fn srv_01_serve_forever_serves_and_its_drop_closes_the_server() {
    on_every(async || {
        let server = Rc::new(Server::builder().start_serving(false).start(HOST, echo).await?);
        let addr = server.local_addr()?;
        let its = server.clone();
        let serving = create_task(async move { its.serve_forever().await });
        assert!(!server.is_serving());
        until(|| server.is_serving()).await;
        echoes(addr).await?;
        serving.cancel();
        assert!(matches!(serving.await, Err(corio_runtime::TaskError::Cancelled)));
        assert!(!server.is_serving() && server.sockets().is_empty() && server.local_addr().is_err());
        assert_eq!(open_connection(addr).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let again = server.serve_forever().await.unwrap_err();
        assert!(again.to_string().contains("is closed"), "{again}");
        server.wait_closed().await;
        Ok(())
    });
}

#[test]
fn srv_01_a_server_that_never_served_closes_like_any_other() {
    on_every(async || {
        let server = Server::builder().start_serving(false).start(HOST, echo).await?;
        let addr = server.local_addr()?;
        server.close();
        timeout(Duration::from_secs(10), server.wait_closed()).await.expect("nothing is open");
        let dropped = Server::builder().start_serving(false).start(addr, echo).await?;
        assert_eq!(dropped.shutdown(Duration::from_secs(10)).await.cut, 0);
        drop(Server::builder().start_serving(false).start(addr, echo).await?);
        yield_now().await;
        let server = start_server(addr, echo).await?;
        echoes(addr).await?;
        let error = Server::builder().start_serving(false).balance(Balance::Hash).start(HOST, echo).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
        drop(server);
        Ok(())
    });
}

#[test]
fn srv_01_a_server_starts_to_serve_from_another_loop() {
    on_real(async || {
        let server = Server::builder().start_serving(false).start(HOST, echo).await.unwrap();
        let addr = server.local_addr().unwrap();
        let elsewhere = std::thread::spawn(move || {
            corio_runtime::run(async {
                assert!(server.serve_forever().await.unwrap_err().to_string().contains("different loop"));
                assert!(!server.is_serving(), "a refused call changes nothing");
                server.start_serving().await.map(|()| server)
            })
        });
        let server = common::join(elsewhere).await.unwrap();
        assert!(server.is_serving());
        echoes(addr).await.unwrap();
    });
}

#[test]
fn srv_16_both_families_reach_a_server_on_all_addresses() {
    let mut backends = kernels();
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        // The simulator has it always.
        backends.retain(|backend| matches!(backend, Backend::Sim { .. }));
    }
    for backend in backends {
        on(backend).run(async {
            let server = start_server("[::]:0", echo).await.unwrap();
            let port = server.local_addr().unwrap().port();
            for host in ["127.0.0.1", "::1"] {
                echoes((host, port)).await.unwrap_or_else(|e| panic!("{backend:?}, {host}: {e}"));
            }
        });
    }
}

#[test]
fn srv_24_a_burst_of_clients_with_broken_ones_among_them_is_accepted_in_few_turns() {
    const CLIENTS: usize = 200;
    on_real(async || {
        let heard = reports();
        let served = Rc::new(Cell::new(0));
        let count = served.clone();
        let server = start_server(HOST, move |reader, writer| {
            count.set(count.get() + 1);
            // What its client has broken is an error to it alone.
            async { echo(reader, writer).await.or(Ok(())) }
        });
        let server = server.await.unwrap();
        let addr = server.local_addr().unwrap();
        // All are in the kernel's queue before the loop has its next turn.
        let clients: Vec<StdStream> = (0..CLIENTS).map(|_| StdStream::connect(addr).unwrap()).collect();
        let (broken, whole): (Vec<_>, Vec<_>) =
            clients.into_iter().enumerate().partition(|(n, _)| n % 10 == 0);
        broken.into_iter().for_each(|(_, client)| reset(client));
        let before = metrics().turns;
        until(|| served.get() == CLIENTS).await;
        let turns = metrics().turns - before;
        assert!(turns < CLIENTS as u64 / 2, "one after the other: {turns} turns");
        for (_, mut client) in whole {
            let answer = std::thread::spawn(move || {
                client.write_all(b"x")?;
                client.read_exact(&mut [0])
            });
            common::join(answer).await.unwrap();
        }
        echoes(addr).await.unwrap();
        assert!(heard.borrow().is_empty(), "{heard:?}");
    });
}

#[test]
fn srv_24_a_burst_of_clients_with_broken_ones_among_them_is_served_in_the_simulator() {
    common::on_every_seed(8, common::every_fault(), async || {
        let server = start_server(HOST, async |reader, writer| echo(reader, writer).await.or(Ok(()))).await?;
        let addr = server.local_addr()?;
        let clients = (0..100).map(|n| {
            create_task(async move {
                if n % 10 > 0 {
                    return echoes(addr).await;
                }
                let (_reader, mut writer) = open_connection(addr).await?;
                writer.abort();
                Ok(())
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await??;
        }
        echoes(addr).await
    });
}

/// An address on which a connection is still ending: its server has closed first.
async fn address_with_an_ending_connection() -> std::net::SocketAddr {
    let server =
        start_server(HOST, async |_, mut writer: StreamWriter| writer.write_all("bye").await).await.unwrap();
    let addr = server.local_addr().unwrap();
    let (mut reader, writer) = open_connection(addr).await.unwrap();
    assert_eq!(reader.read_to_end().await.unwrap(), b"bye");
    drop(writer);
    server.close();
    server.wait_closed().await;
    addr
}

#[test]
fn srv_25_reuse_addr_is_on_by_default() {
    on_real(async || {
        let addr = address_with_an_ending_connection().await;
        let strict = Server::builder().reuse_addr(false).start(addr, echo).await.unwrap_err();
        assert_eq!(strict.kind(), ErrorKind::AddrInUse);
        start_server(addr, echo).await.unwrap().close();
    });
}

#[test]
fn str_35_lines_come_back_from_a_handler_that_awaits_and_from_a_plain_callback() {
    on_every(async || {
        let heard = reports();
        async fn handle(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
            let line = reader.readline().await?;
            writer.write_all(line).await
        }
        // A callback begins what is to be done, and is done itself.
        let callback = |reader, writer| {
            drop(create_task(handle(reader, writer)));
            std::future::ready(Ok(()))
        };
        for server in [start_server(HOST, handle).await?, start_server(("127.0.0.1", 0), callback).await?] {
            let port = server.local_addr()?.port();
            for _ in 0..2 {
                echoes(("127.0.0.1", port)).await?;
            }
            server.close();
            server.wait_closed().await;
        }
        assert!(heard.borrow().is_empty(), "{heard:?}");
        Ok(())
    });
}

#[test]
fn str_49_a_cancelled_handlers_connection_is_closed_and_nothing_is_reported() {
    on_every(async || {
        let heard = reports();
        let handlers = Rc::new(RefCell::new(Vec::<TaskInfo>::new()));
        let its = handlers.clone();
        let server = start_server(HOST, move |mut reader: StreamReader, mut writer: StreamWriter| {
            let its = its.clone();
            async move {
                its.borrow_mut().extend(current_task());
                writer.write_all("hello").await?;
                reader.read(1).await?;
                writer.write_all("bye").await
            }
        });
        let server = server.await?;
        let mut clients = Vec::new();
        for _ in 0..2 {
            let (mut reader, writer) = open_connection(server.local_addr()?).await?;
            assert_eq!(reader.readexactly(5).await?, b"hello");
            clients.push((reader, writer));
        }
        let (mut other, mut others_writer) = clients.pop().unwrap();
        let (mut reader, _writer) = clients.pop().unwrap();
        assert!(handlers.borrow()[0].cancel());
        let rest = timeout(Duration::from_secs(10), reader.read_to_end()).await.expect("it stays open");
        assert_eq!(rest?, b"", "the end, and no reset");
        let cancelled = handlers.borrow()[0].id();
        assert!(all_tasks().iter().all(|task| task.id() != cancelled), "its task has ended");
        // The server and its other handlers go on.
        others_writer.write("x")?;
        assert_eq!(other.read_to_end().await?, b"bye");
        let (mut reader, _writer) = open_connection(server.local_addr()?).await?;
        assert_eq!(reader.readexactly(5).await?, b"hello");
        assert!(heard.borrow().is_empty(), "{heard:?}");
        Ok(())
    });
}
