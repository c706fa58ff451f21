//! Many connections, and much data on one.

mod common;

use std::{
    cell::Cell,
    io::{self, BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Stdio},
    rc::Rc,
    time::Duration,
};

use common::{Rng, allow_fds, child_command, in_own_process, is_child};
use corio_net::{StreamReader, StreamWriter, open_connection, start_server};
use corio_runtime::{
    create_task,
    time::{sleep, timeout},
};

/// Longer than anything takes; what reaches it hangs.
const HANG: Duration = Duration::from_secs(120);
const CONNECTIONS: usize = 10_000;
const DESCRIPTORS: u64 = 10_100;
/// Connections that are opened side by side: fewer than the backlog.
const OPENERS: usize = 200;
const ROUNDS: usize = 3;

async fn echo(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    loop {
        let data = reader.read(65536).await?;
        if data.is_empty() {
            return Ok(());
        }
        writer.write_all(data).await?;
    }
}

/// Not a test of its own: the server of the test below, which ends with its standard input.
#[test]
fn server_process() {
    if !is_child("server_process") {
        return;
    }
    assert!(allow_fds(DESCRIPTORS));
    std::thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    corio_runtime::run(async {
        let server = start_server("127.0.0.1:0", echo).await.unwrap();
        println!("\nlistening on {}", server.local_addr().unwrap());
        server.serve_forever().await.unwrap();
    });
}

fn start_server_process() -> (Child, SocketAddr) {
    let mut command = child_command("server_process");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let addr = lines.find_map(|line| line.unwrap().strip_prefix("listening on ").map(str::to_owned));
    (child, addr.expect("the server did not start").parse().unwrap())
}

/// The bytes of one round of one connection.
fn message(number: usize, round: usize) -> Vec<u8> {
    (number * ROUNDS + round).to_le_bytes().repeat(1 + number % 40)
}

async fn echo_rounds(number: usize, mut reader: StreamReader, mut writer: StreamWriter) {
    for round in 0..ROUNDS {
        let data = message(number, round);
        writer.write_all(&data).await.unwrap();
        let back = timeout(HANG, reader.readexactly(data.len())).await.expect("it hangs").unwrap();
        assert!(back == data[..], "connection {number}, round {round}");
    }
}

async fn echo_on_all(addr: SocketAddr) {
    let open = Rc::new(Cell::new(0));
    let openers = (0..OPENERS).map(|opener| {
        let open = open.clone();
        create_task(async move {
            let mut streams = Vec::new();
            for number in (opener..CONNECTIONS).step_by(OPENERS) {
                let (reader, writer) = open_connection(addr).await.unwrap();
                open.set(open.get() + 1);
                streams.push((number, reader, writer));
            }
            streams
        })
    });
    let mut streams = Vec::new();
    for opener in openers.collect::<Vec<_>>() {
        streams.extend(timeout(HANG, opener).await.expect("it hangs").unwrap());
    }
    assert_eq!((open.get(), streams.len()), (CONNECTIONS, CONNECTIONS));
    // Nobody closes before everybody has got everything back.
    let done = Rc::new(Cell::new(0));
    let tasks = streams.into_iter().map(|(number, reader, writer)| {
        let done = done.clone();
        create_task(async move {
            echo_rounds(number, reader, writer).await;
            done.set(done.get() + 1);
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(done.get(), CONNECTIONS);
}

#[test]
fn d1_ten_thousand_connections_echo_at_once() {
    if !allow_fds(DESCRIPTORS) {
        eprintln!("SKIPPED: ten thousand connections need a hard limit of {DESCRIPTORS} descriptors");
        return;
    }
    if !in_own_process("d1_ten_thousand_connections_echo_at_once") {
        return;
    }
    let (mut server, addr) = start_server_process();
    corio_runtime::run(echo_on_all(addr));
    drop(server.stdin.take());
    assert!(server.wait().unwrap().success());
}

const MUCH: usize = if cfg!(debug_assertions) { 256 << 20 } else { 1 << 30 };

/// A hash of bytes in their order, however they are cut.
#[derive(Default)]
struct RunningHash {
    state: u64,
    total: usize,
    tail: Vec<u8>,
}

impl RunningHash {
    fn word(&mut self, word: [u8; 8]) {
        let mixed = self.state.rotate_left(5) ^ u64::from_le_bytes(word);
        self.state = mixed.wrapping_mul(0x517C_C1B7_2722_0A95);
    }

    fn feed(&mut self, mut data: &[u8]) {
        self.total += data.len();
        if !self.tail.is_empty() {
            let n = data.len().min(8 - self.tail.len());
            self.tail.extend_from_slice(&data[..n]);
            data = &data[n..];
            if self.tail.len() < 8 {
                return;
            }
            let word = self.tail[..].try_into().unwrap();
            self.word(word);
            self.tail.clear();
        }
        let mut words = data.chunks_exact(8);
        for word in &mut words {
            self.word(word.try_into().unwrap());
        }
        self.tail.extend_from_slice(words.remainder());
    }
}

/// Sends random bytes in pieces of random size, and gives their hash.
async fn send_much(mut writer: StreamWriter) -> RunningHash {
    let (mut rng, mut hash) = (Rng::new(21), RunningHash::default());
    while hash.total < MUCH {
        let size =
            [rng.below(300), rng.below(10_000), rng.below(500_000)][rng.below(3)].min(MUCH - hash.total);
        let mut data: Vec<u8> = (0..size.div_ceil(8)).flat_map(|_| rng.next().to_le_bytes()).collect();
        data.truncate(size);
        hash.feed(&data);
        if rng.below(2) == 0 {
            writer.write_all(&data).await.unwrap();
        } else {
            writer.write_all(data).await.unwrap();
        }
    }
    hash
}

async fn receive_much(mut reader: StreamReader) -> RunningHash {
    let (mut rng, mut hash) = (Rng::new(22), RunningHash::default());
    loop {
        let size = 1 + [rng.below(1000), rng.below(70_000), rng.below(1 << 20)][rng.below(3)];
        let left = MUCH - hash.total;
        let data = if rng.below(2) == 0 && size <= left {
            reader.readexactly(size).await.unwrap()
        } else {
            reader.read(size).await.unwrap()
        };
        if data.is_empty() {
            return hash;
        }
        hash.feed(&data);
    }
}

#[test]
fn d4_much_data_on_one_connection_is_exact() {
    corio_runtime::run(async {
        let received = Rc::new(Cell::new(None));
        let result = received.clone();
        let server = start_server("127.0.0.1:0", move |reader, writer| {
            let result = result.clone();
            async move {
                result.set(Some(receive_much(reader).await));
                drop(writer);
                Ok(())
            }
        });
        let server = server.await.unwrap();
        let (_reader, writer) = open_connection(server.local_addr().unwrap()).await.unwrap();
        let sent = send_much(writer).await;
        let received = loop {
            match received.take() {
                Some(received) => break received,
                None => sleep(Duration::from_millis(1)).await,
            }
        };
        assert_eq!(received.total, sent.total);
        assert!(received.state == sent.state && received.tail == sent.tail, "the bytes differ");
    });
}
