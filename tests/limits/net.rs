//! Streams, servers, names.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use corio::{
    net::resolve,
    streams::{
        Chunk, Connection, ConnectionBuilder, ReadError, Server, ServerBuilder, StreamReader, StreamWriter,
        connect_read_pipe_with_limit, open_connection, start_server,
    },
    timeout,
};

use super::table::{Row, row, row2};

const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
/// More than two times the default limit, and than what a socket holds.
const LARGE: usize = 1 << 20;

async fn echo(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    loop {
        let data = reader.read(65536).await?;
        if data.is_empty() {
            return Ok(());
        }
        writer.write_all(data).await?;
    }
}

/// A line goes to a server and back.
pub(crate) async fn echo_once() -> io::Result<()> {
    let server = start_server(ANY, echo).await?;
    let (mut reader, mut writer) = open_connection(server.local_addr()?).await?;
    writer.write_all(b"line\n").await?;
    assert_eq!(reader.readline().await?, b"line\n");
    Ok(())
}

/// A server with these options serves one client after the other, of several at once.
fn serves(builder: ServerBuilder) -> io::Result<()> {
    corio::run(async {
        let server = builder.start(ANY, echo).await?;
        let addr = server.local_addr()?;
        let mut connections = Vec::new();
        for _ in 0..3 {
            // One after the other: a short backlog makes the kernel drop one of several.
            connections.push(open_connection(addr).await?);
        }
        let clients = connections.into_iter().map(async |(mut reader, mut writer)| {
            let sent = async {
                writer.write_all(vec![7; LARGE]).await?;
                writer.write_eof()
            };
            let (sent, got) = both(sent, reader.read_to_end()).await;
            sent?;
            assert_eq!(got?, vec![7; LARGE]);
            io::Result::Ok(())
        });
        corio::try_gather(clients).await?;
        Ok(())
    })
}

/// Of several addresses, of which only the last one listens, that one is connected to.
fn connects(builder: ConnectionBuilder) -> io::Result<()> {
    corio::run(async {
        let server = start_server(ANY, echo).await?;
        let nobody = ["[::1]:1", "127.0.0.1:1", "[::1]:2"].map(|addr| addr.parse().unwrap());
        let addrs: Vec<SocketAddr> = nobody.into_iter().chain([server.local_addr()?]).collect();
        let (mut reader, mut writer) = builder.connect(addrs).await?;
        writer.write("x")?;
        assert_eq!(reader.readexactly(1).await?, b"x");
        Ok(())
    })
}

/// Both sides of a connection close with data that nobody has read: it arrives, or is given up.
fn closes(
    server: ServerBuilder,
    client: ConnectionBuilder,
    set: impl Fn(&mut StreamWriter),
) -> io::Result<()> {
    corio::run(async move {
        let server = server.start(ANY, |_reader, mut writer| async move { writer.write(vec![7; LARGE]) });
        let server = server.await?;
        let (mut reader, mut writer) = client.connect(server.local_addr()?).await?;
        set(&mut writer);
        let _ = writer.write(vec![7; LARGE]);
        writer.close();
        let _ = reader.read_to_end().await;
        let _ = writer.wait_closed().await;
        server.close();
        server.wait_closed().await;
        Ok(())
    })
}

async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    tokio::join!(a, b)
}

/// A reader of `sent`, and then the end.
async fn receiving(limit: usize, sent: Vec<u8>) -> io::Result<StreamReader> {
    let server = start_server(ANY, move |_, mut writer| {
        let sent = sent.clone();
        async move {
            writer.write_all(sent).await?;
            writer.write_eof()?;
            corio::sleep(Duration::from_secs(60)).await;
            Ok(())
        }
    })
    .await?;
    let (reader, writer) = Connection::builder().limit(limit).connect(server.local_addr()?).await?;
    // The connection stays for as long as the loop does.
    drop(corio::create_task(async move {
        let _open = (server, writer);
        std::future::pending::<()>().await;
    }));
    Ok(reader)
}

fn expect(expected: usize, read: Result<Chunk, ReadError>) {
    match read {
        Ok(data) => assert_eq!(data.len(), expected),
        Err(ReadError::IncompleteRead { partial, .. }) => assert_eq!(partial.len(), expected),
        Err(e) => panic!("{e:?}"),
    }
}

pub(crate) fn rows() -> Vec<Row> {
    [builders(), streams()].into_iter().flatten().collect()
}

fn builders() -> Vec<Row> {
    vec![
        row("ServerBuilder::limit", |n: usize| serves(Server::builder().limit(n))),
        row("ServerBuilder::backlog", |n: u32| serves(Server::builder().backlog(n))),
        row("ServerBuilder::keepalive", |idle: Duration| serves(Server::builder().keepalive(idle))),
        row("ServerBuilder::max_connections", |n: usize| serves(Server::builder().max_connections(n))),
        row("ConnectionBuilder::limit", |limit: usize| {
            corio::run(async move {
                let mut reader = receiving(limit, vec![b'x'; LARGE]).await?;
                // All of it arrives before it is looked at.
                corio::sleep(Duration::from_millis(5)).await;
                match reader.readline().await {
                    Ok(line) => assert!(line.len() == LARGE && limit >= LARGE),
                    Err(ReadError::LimitOverrun { consumed }) => assert!(consumed > limit),
                    Err(e) => return Err(e.into()),
                }
                Ok(())
            })
        }),
        row("ConnectionBuilder::happy_eyeballs", |delay: Option<Duration>| {
            connects(Connection::builder().happy_eyeballs(delay))
        }),
        row("ConnectionBuilder::interleave", |first: usize| {
            connects(Connection::builder().interleave(first))
        }),
        row2("ServerBuilder::linger", |total: Duration, idle: Duration| {
            closes(Server::builder().linger(total, idle), Connection::builder(), |_| ())
        }),
        row2("ConnectionBuilder::linger", |total: Duration, idle: Duration| {
            closes(Server::builder(), Connection::builder().linger(total, idle), |_| ())
        }),
        row2("StreamWriter::linger", |total: Duration, idle: Duration| {
            closes(Server::builder(), Connection::builder(), |writer| writer.linger(total, idle))
        }),
        row("Server::shutdown", |grace: Duration| {
            corio::run(async move {
                let server = start_server(ANY, echo).await?;
                let (_reader, writer) = open_connection(server.local_addr()?).await?;
                while server.connections() == 0 {
                    corio::sleep(Duration::from_millis(1)).await;
                }
                if grace < Duration::from_secs(1) {
                    server.shutdown(grace).await;
                } else {
                    assert!(timeout(Duration::from_millis(5), server.shutdown(grace)).await.is_err());
                    drop(writer);
                    server.wait_closed().await;
                }
                Ok(())
            })
        }),
        row("resolve", |port: u16| {
            corio::run(async move {
                let addrs = resolve("localhost", port).await?;
                assert!(!addrs.is_empty() && addrs.iter().all(|addr| addr.port() == port));
                Ok(())
            })
        }),
    ]
}

fn streams() -> Vec<Row> {
    vec![
        row("StreamReader::read", |n: usize| {
            corio::run(async move {
                let mut reader = receiving(65536, vec![7; 100]).await?;
                let data = reader.read(n).await?;
                assert!(data.len() <= n && data.is_empty() == (n == 0));
                Ok(())
            })
        }),
        row("StreamReader::readexactly", |n: usize| {
            corio::run(async move {
                let mut reader = receiving(65536, vec![7; LARGE]).await?;
                expect(n.min(LARGE), reader.readexactly(n).await);
                Ok(())
            })
        }),
        row2("StreamWriter::set_write_buffer_limits", |high: usize, low: usize| {
            corio::run(async move {
                let server = start_server(ANY, echo).await?;
                let (mut reader, mut writer) = open_connection(server.local_addr()?).await?;
                writer.set_write_buffer_limits(high, low)?;
                let sent = async {
                    for _ in 0..4 {
                        writer.write_all(vec![7; LARGE / 4]).await?;
                    }
                    writer.write_eof()
                };
                let (sent, got) = both(sent, reader.read_to_end()).await;
                sent?;
                assert_eq!(got?.len(), LARGE);
                Ok(())
            })
        }),
        row("connect_read_pipe_with_limit", |limit: usize| {
            corio::run(async move {
                let (read, mut write) = io::pipe()?;
                let mut reader = connect_read_pipe_with_limit(read.into(), limit)?;
                io::Write::write_all(&mut write, b"ab\n")?;
                match reader.readline().await {
                    Ok(line) => assert!(line == b"ab\n" && limit > 1),
                    Err(ReadError::LimitOverrun { .. }) => assert_eq!(limit, 1),
                    Err(e) => return Err(e.into()),
                }
                Ok(())
            })
        }),
        row("Chunk::split_to", |n: usize| {
            let mut chunk = Chunk::from(&b"abc"[..]);
            assert_eq!(chunk.split_to(n).len() + chunk.len(), 3);
            Ok(())
        }),
    ]
}
