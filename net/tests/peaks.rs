//! Memory of a peak of connections is freed afterwards.

mod common;

use std::{io, time::Duration};

use common::allow_fds;
use corio_net::{StreamReader, StreamWriter, TcpListener, open_connection, start_server};
use corio_runtime::{
    Backend, Memory, Runner, metrics, set_exception_handler,
    time::{now, sleep, timeout},
};

const KIB: usize = 1 << 10;

async fn echo(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    loop {
        let data = reader.read(65536).await?;
        if data.is_empty() {
            return Ok(());
        }
        writer.write_all(data).await?;
    }
}

/// Waits until little is left of the peak. What takes a minute hangs.
async fn until_small() {
    let hangs = now() + Duration::from_secs(60);
    loop {
        let memory = metrics().memory;
        let Memory { tasks_bytes, ready_bytes, operations_bytes, services_bytes, .. } = memory;
        // The tables, the streams' lists, the blocks that are always kept.
        let small = tasks_bytes.max(operations_bytes) <= 128 * KIB
            && ready_bytes <= 192 * KIB
            && services_bytes <= 320 * KIB;
        if small {
            return;
        }
        assert!(now() < hangs, "{memory:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// `count` connections at once, each of which sends something to and fro; all in one process.
async fn peak(count: usize) -> (StreamReader, StreamWriter) {
    let server = start_server("127.0.0.1:0", echo).await.unwrap();
    let addr = server.local_addr().unwrap();
    let mut connections = Vec::new();
    for n in 0..count {
        let (mut reader, mut writer) = open_connection(addr).await.unwrap();
        writer.write_all(vec![n as u8; 300]).await.unwrap();
        assert_eq!(reader.readexactly(300).await.unwrap(), [n as u8; 300]);
        connections.push((reader, writer));
    }
    // All of them have something that waits at once.
    for (_, writer) in &mut connections {
        writer.write_all(vec![7; 3000]).await.unwrap();
    }
    for (reader, _) in &mut connections {
        reader.readexactly(3000).await.unwrap();
    }
    let peak = metrics().memory;
    assert!(peak.services_bytes > 2 * count * 200, "{peak:?}");
    let last = connections.pop().unwrap();
    drop(connections);
    // Its connections go on, until they end.
    drop(server);
    last
}

#[test]
fn connections_that_are_gone_leave_no_memory_and_the_one_that_stays_works() {
    assert!(allow_fds(9_000), "the limit of open files is too low");
    corio_runtime::run(async {
        for _ in 0..2 {
            let (mut reader, mut writer) = peak(4_000).await;
            until_small().await;
            // Some may still be on their way out: little memory is not none.
            while metrics().connections > 2 {
                sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(metrics().connections, 2);
            for n in 0..100u8 {
                writer.write_all([n; 5000].to_vec()).await.unwrap();
                assert_eq!(reader.readexactly(5000).await.unwrap(), [n; 5000]);
            }
            // And new ones beside it.
            let server = start_server("127.0.0.1:0", echo).await.unwrap();
            let (mut other, mut there) = open_connection(server.local_addr().unwrap()).await.unwrap();
            there.write_all(b"other").await.unwrap();
            assert_eq!(other.readexactly(5).await.unwrap(), b"other");
            drop((reader, writer, other, there));
            while metrics().connections > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        }
    });
}

#[test]
fn in_the_simulator_connections_that_are_gone_leave_no_memory_either() {
    let mut runner = Runner::builder().backend(Backend::Sim { seed: 11 }).build().unwrap();
    runner.run(async {
        let last = peak(500).await;
        until_small().await;
        drop(last);
    });
}

#[test]
fn listeners_that_are_gone_leave_no_memory_and_the_one_that_stays_works() {
    const MANY: usize = 6_000;
    let mut runner = Runner::builder().backend(Backend::Sim { seed: 11 }).build().unwrap();
    runner.run(async {
        let mut listeners = Vec::new();
        for _ in 0..MANY {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let peak = metrics().memory;
        assert!(peak.services_bytes > MANY * 200, "{peak:?}");
        let last = listeners.pop().unwrap();
        drop(listeners);
        until_small().await;
        let _client = open_connection(last.local_addr().unwrap()).await.unwrap();
        last.accept().await.unwrap();
    });
}

#[test]
fn a_handle_of_a_connection_that_is_gone_never_means_a_later_one() {
    corio_runtime::run(async {
        // Of the handlers whose peers reset.
        set_exception_handler(|_| ());
        let server = start_server("127.0.0.1:0", echo).await.unwrap();
        let addr = server.local_addr().unwrap();
        let open = async || {
            let mut all = Vec::new();
            for _ in 0..400 {
                all.push(open_connection(addr).await.unwrap());
            }
            all
        };
        // Their readers are kept, the connections are not.
        let mut stale = Vec::new();
        for (reader, mut writer) in open().await {
            writer.abort();
            stale.push((reader, writer));
        }
        // What reads of them sees the end, also once the table has shrunk and grown again.
        for _ in 0..2 {
            let kept = stale.split_off(stale.len() / 2);
            drop(stale);
            stale = kept;
            sleep(Duration::from_millis(250)).await;
            let again = open().await;
            for (reader, writer) in &mut stale {
                assert!(writer.write("x").is_err() && writer.is_closing());
                let read = timeout(Duration::from_secs(60), reader.read(1)).await.unwrap();
                assert!(read.is_err() || read.unwrap().is_empty());
            }
            let (mut reader, mut writer) = again.into_iter().next_back().unwrap();
            writer.write_all(b"here").await.unwrap();
            assert_eq!(reader.readexactly(4).await.unwrap(), b"here");
        }
    });
}
