//! Helpers of the integration tests: peers of the standard library, random numbers, a sequence.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]

#[path = "../../../runtime/tests/common/shared.rs"]
mod shared;

use std::{
    fmt::Debug,
    future::Future,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    thread::JoinHandle,
    time::Duration,
};

use corio_net::{StreamReader, StreamWriter, open_connection};
use corio_runtime::{Faults, time::timeout};
use nix::sys::socket::{setsockopt, sockopt};
pub(crate) use shared::*;

/// A test that takes longer hangs.
const HANGS: Duration = Duration::from_secs(20);

/// Runs a loop, and fails if `main` hangs.
pub(crate) fn run<F: Future>(main: F) -> F::Output {
    corio_runtime::run(async { timeout(HANGS, main).await.expect("the test hangs") })
}

/// Runs a test on both real kernels, and fails if it hangs.
pub(crate) fn on_real(test: impl AsyncFn()) {
    for backend in real_kernels() {
        on(backend)
            .run(async { timeout(HANGS, test()).await.unwrap_or_else(|_| panic!("hangs on {backend:?}")) });
    }
}

/// A small random number generator (xorshift64*).
#[derive(Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A deadline that often hits in the middle of something.
    pub(crate) fn micros(&mut self) -> Duration {
        Duration::from_micros(self.next() % 50)
    }
}

/// The bytes of the numbers 0, 1, 2, … as `u32`: what comes twice, out of order or not at all shows at once.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sequence {
    pub(crate) at: usize,
}

impl Sequence {
    fn byte(at: usize) -> u8 {
        ((at / 4) as u32).to_le_bytes()[at % 4]
    }

    /// The next `n` bytes.
    pub(crate) fn take(&mut self, n: usize) -> Vec<u8> {
        let from = self.at;
        self.at += n;
        (from..self.at).map(Sequence::byte).collect()
    }

    /// Asserts that `data` comes next.
    #[track_caller]
    pub(crate) fn expect(&mut self, data: &[u8]) {
        for (i, byte) in data.iter().enumerate() {
            let at = self.at + i;
            assert_eq!(*byte, Sequence::byte(at), "byte {i} of {} at {at}", data.len());
        }
        self.at += data.len();
    }
}

/// Writes the sequence in pieces of random size, with pauses, until the peer is gone.
pub(crate) fn write_sequence_until_closed(mut peer: TcpStream, seed: u64) -> usize {
    let (mut rng, mut sequence) = (Rng::new(seed), Sequence::default());
    loop {
        let size = if rng.below(50) == 0 { 30_000 } else { 1 + rng.below(800) };
        if peer.write_all(&sequence.take(size)).is_err() {
            return sequence.at;
        }
        match rng.below(8) {
            0 => std::thread::sleep(rng.micros()),
            1..4 => std::thread::yield_now(),
            _ => {}
        }
    }
}

/// A listener of the standard library, and where it listens.
pub(crate) fn std_listener() -> io::Result<(std::net::TcpListener, std::net::SocketAddr)> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}

/// Raises the soft limit of descriptors to `wanted`, if the hard limit allows it.
pub(crate) fn allow_fds(wanted: u64) -> bool {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if hard < wanted {
        return false;
    }
    soft >= wanted || setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok()
}

/// From now on closing `stream` resets the connection.
pub(crate) fn reset_on_close(stream: &TcpStream) {
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(stream, sockopt::Linger, &linger).unwrap();
}

/// A connection of ours, and its blocking other end.
pub(crate) async fn with_peer() -> (StreamReader, StreamWriter, TcpStream) {
    let (listener, addr) = std_listener().unwrap();
    let (reader, writer) = open_connection(addr).await.unwrap();
    let peer = listener.accept().unwrap().0;
    peer.set_read_timeout(Some(HANGS)).unwrap();
    (reader, writer, peer)
}

/// Reads all that a peer gets, on a thread.
pub(crate) fn read_all(mut peer: TcpStream) -> JoinHandle<io::Result<Vec<u8>>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).map(|_| all)
    })
}

/// Bytes that have arrived and were not read, or that wait to be sent: the number `name` in its `Debug`.
pub(crate) fn number(stream: &impl Debug, name: &str) -> usize {
    let text = format!("{stream:?}");
    let number = text.split(&format!("{name}: Some(")).nth(1).and_then(|rest| rest.split(')').next());
    number.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

/// Waits for a thread, while the loop goes on.
pub(crate) async fn join<T>(thread: JoinHandle<T>) -> T {
    until(|| thread.is_finished()).await;
    thread.join().unwrap()
}

pub(crate) async fn join_all<T>(threads: Vec<JoinHandle<T>>) -> Vec<T> {
    let mut values = Vec::new();
    for thread in threads {
        values.push(join(thread).await);
    }
    values
}

pub(crate) fn pattern(len: usize, salt: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(31) ^ (i >> 8) ^ salt) as u8).collect()
}

pub(crate) async fn echo(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    loop {
        let data = reader.read(256 * 1024).await?;
        if data.is_empty() {
            return Ok(());
        }
        writer.write_all(data).await?;
    }
}

/// A blocking client that sends `message` and reads as much back.
pub(crate) fn blocking_echo(addr: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(addr)?;
    stream.write_all(message)?;
    let mut reply = vec![0; message.len()];
    stream.read_exact(&mut reply)?;
    Ok(reply)
}

/// Closes with a reset.
pub(crate) fn reset(stream: TcpStream) {
    reset_on_close(&stream);
}

/// Makes partial sends likely.
pub(crate) fn shrink_send_buffer(stream: &TcpStream) {
    setsockopt(stream, sockopt::SndBuf, &4096).unwrap();
}

/// Everything that may go wrong without being an error to the program.
pub(crate) fn every_fault() -> Faults {
    Faults::default()
        .short_transfers(0.3)
        .delay(Duration::from_millis(2))
        .reorder(true)
        .success_after_cancel(0.5)
        .lose_more(0.2)
        .enobufs(0.2)
        .cq_capacity(3)
}
