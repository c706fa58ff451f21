//! Many connections at once, and many bytes through one.

mod common;

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use common::{child, echo, is_child, pattern};
use corio_net::{open_connection, start_server};
use corio_runtime::{create_task, metrics, run};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const TEN_THOUSAND: &str = "ten_thousand_connections_are_open_and_echo_at_once";

fn raise_file_limit() -> u64 {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    hard
}

#[test]
fn ten_thousand_connections_are_open_and_echo_at_once() {
    let limit = raise_file_limit();
    if limit < 10_100 {
        eprintln!("SKIPPED: {TEN_THOUSAND} needs 10,100 open files, the limit is {limit}");
        return;
    }
    if is_child(TEN_THOUSAND) {
        return run(async {
            let server = start_server("127.0.0.1:0", echo).await.unwrap();
            println!("{}", server.local_addr().unwrap());
            server.serve_forever().await.unwrap();
        });
    }
    let mut server = child(TEN_THOUSAND).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map(Result::unwrap);
    let addr: std::net::SocketAddr = lines.find_map(|line| line.rsplit(' ').next()?.parse().ok()).unwrap();
    run(async {
        let mut open = Vec::new();
        for _ in 0..10_000 {
            open.push(open_connection(addr).await.unwrap());
        }
        for round in 0..3u32 {
            for (n, (_, writer)) in open.iter_mut().enumerate() {
                writer.write(&(n as u32 ^ round).to_le_bytes()).unwrap();
            }
            for (n, (reader, _)) in open.iter_mut().enumerate() {
                assert_eq!(reader.readexactly(4).await.unwrap(), (n as u32 ^ round).to_le_bytes());
            }
        }
    });
    server.kill().unwrap();
    server.wait().unwrap();
}

/// FNV-1a over 8 bytes at a time.
fn hash(state: u64, data: &[u8]) -> u64 {
    data.chunks(8).fold(state, |state, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (state ^ u64::from_le_bytes(word)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn a_gibibyte_goes_through_one_connection_byte_for_byte() {
    const BLOCK: usize = 1 << 20;
    const BLOCKS: usize = 1024;
    run(async {
        let server = start_server("127.0.0.1:0", echo).await.unwrap();
        let (mut reader, mut writer) = open_connection(server.local_addr().unwrap()).await.unwrap();
        let block = pattern(BLOCK, 5);
        let expected = block.clone();
        let sender = create_task(async move {
            for n in 0..BLOCKS {
                let mut block = block.clone();
                block[..8].copy_from_slice(&(n as u64).to_le_bytes());
                writer.write_all(block).await.unwrap();
            }
            writer.write_eof().unwrap();
            writer
        });
        let (mut sent, mut received) = (0, 0);
        for n in 0..BLOCKS {
            let mut block = expected.clone();
            block[..8].copy_from_slice(&(n as u64).to_le_bytes());
            sent = hash(sent, &block);
            received = hash(received, &reader.readexactly(BLOCK).await.unwrap());
        }
        assert_eq!(sent, received);
        assert!(reader.read(1).await.unwrap().is_empty());
        drop(sender.await.unwrap());
    });
}

#[test]
fn small_messages_cost_one_submission_each_however_much_is_asked_for() {
    const MESSAGES: usize = 5000;
    run(async {
        let server = start_server("127.0.0.1:0", |mut reader, mut writer| async move {
            loop {
                let data = reader.read(1 << 20).await?;
                if data.is_empty() {
                    return Ok(());
                }
                writer.write(data)?;
                writer.drain().await?;
            }
        });
        let server = server.await.unwrap();
        let (mut reader, mut writer) = open_connection(server.local_addr().unwrap()).await.unwrap();
        let before = metrics().ring.sqes;
        for _ in 0..MESSAGES {
            writer.write_all(&[7; 64]).await.unwrap();
            assert_eq!(reader.readexactly(64).await.unwrap(), [7; 64]);
        }
        // Both ends send once per message; their receives stay armed.
        let submitted = metrics().ring.sqes - before;
        let sends = 2 * MESSAGES as u64;
        assert!((sends..sends + sends / 50).contains(&submitted), "{submitted} for {MESSAGES} messages");
    });
}
