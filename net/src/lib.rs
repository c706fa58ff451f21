//! Streams, servers and sockets of corio.
//!
//! Applications depend on the facade crate `corio`, which re-exports the public items in its own modules. The examples
//! here use this crate's paths.
//!
//! | file | holds |
//! |---|---|
//! | `streams/chunk` | received bytes, and the recycler of their blocks |
//! | `ops/` | the operations, one file each |
//! | `streams/slot`, `streams/receive_state`, `streams/send_state`, `streams/ending` | a stream, its halves, its end |
//! | `streams/table`, `streams/common` | the streams of a loop: the state that readers and writers name |
//! | `streams/receive`, `streams/send`, `streams/close` | what the halves do, and how streams end |
//! | `streams/linger`, `streams/hang_up`, `streams/round` | lingering closes; errors that no receive sees |
//! | `streams/watch`, `streams/news` | tasks that wait for the end; a counter of events for `drain` |
//! | `streams/completions`, `streams/turn`, `streams/service` | how the kernel and the loop reach the streams |
//! | `streams/reader`, `streams/writer`, `streams/key`, `streams/open` | the handles that users hold; new streams |
//! | `streams/until`, `streams/lines` | the search for separators; iteration by lines |
//! | `streams/write_buf`, `streams/copy` | data to write; from one stream to another |
//! | `streams/stream`, `streams/input_claim` | both handles in one; the right to read the standard input |
//! | `streams/io/` | the traits of futures-io, tokio and hyper, each behind a feature |
//! | `hyper` | hyper's tasks and timers, behind the feature `hyper` |
//! | `connect` | `open_connection`: the order of addresses, their race, their errors |
//! | `listener/` | accepting, with a bounded queue |
//! | `server` | `start_server`; in `server/` its options, and the running handlers |
//! | `balance` | servers of several cores on one address |
//! | `pipe`, `standard` | readers and writers of pipes and files; the standard streams |
//! | `tcp` | `TcpListener` and `TcpStream`, the low level |
//! | `addr`, `resolver` | addresses; name lookup on other threads |
#![forbid(unsafe_code)]

mod addr;
mod balance;
mod connect;
#[cfg(feature = "hyper")]
pub mod hyper;
mod listener;
mod ops;
mod pipe;
mod resolver;
mod server;
mod standard;
mod streams;
mod tcp;

pub use addr::{ToSocketAddrs, resolve};
pub use balance::Balance;
pub use connect::{ConnectErrors, Connection, ConnectionBuilder, open_connection};
pub use pipe::{connect_read_pipe, connect_read_pipe_with_limit, connect_write_pipe};
pub use server::{Server, ServerBuilder, ShutdownReport, start_server};
pub use standard::{stderr, stdin, stdout};
pub use streams::{
    Chunk, CopyError, CopySide, Lines, ReadError, Stream, StreamReader, StreamWriter, WriteBuf, copy,
    copy_bidirectional,
};
pub use tcp::{TcpListener, TcpStream};

/// For documentation examples: calls `f` with the two ends of a loopback connection.
#[doc(hidden)]
pub fn doc_pair(f: impl AsyncFnOnce(StreamReader, StreamWriter) -> std::io::Result<()>) {
    let done = corio_runtime::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (_unread, writer) = open_connection(listener.local_addr()?).await?;
        let (stream, _) = listener.accept().await?;
        let (reader, _unwritten) = stream.into_streams();
        f(reader, writer).await
    });
    if let Err(e) = done {
        panic!("the example failed: {e}");
    }
}
