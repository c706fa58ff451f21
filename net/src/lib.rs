//! Streams, servers and sockets of corio.
//!
//! | file | holds |
//! |---|---|
//! | `streams/chunk` | received bytes, and the recycler of their blocks |
//! | `ops/` | the operations, one file each |
//! | `streams/slot`, `streams/receive_state`, `streams/send_state` | one stream, and its two halves |
//! | `streams/table` | the streams of a loop: the state that readers and writers name |
//! | `streams/receive`, `streams/send`, `streams/close` | what the halves do, and how streams end |
//! | `streams/completions`, `streams/turn`, `streams/service` | how the kernel and the loop reach the streams |
//! | `streams/reader`, `streams/writer` | the handles that users hold |
//! | `streams/stream` | both in one |
//! | `streams/io/` | the traits of futures-io, tokio and hyper, each behind a feature |
//! | `hyper` | hyper's tasks and timers, behind the feature `hyper` |
//! | `connect` | `open_connection` |
//! | `listener/` | accepting: no more than there is room for |
//! | `server` | `start_server` |
//! | `balance` | servers of one address on several cores |
//! | `pipe` | readers and writers of pipes |
//! | `tcp` | `TcpListener` and `TcpStream`, the low level |
//! | `addr`, `resolver` | addresses, and names off the loop |
//!
//! Users take the facade crate `corio`.
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
mod streams;
mod tcp;

pub use addr::{ToSocketAddrs, resolve};
pub use balance::Balance;
pub use connect::{Connection, ConnectionBuilder, open_connection};
pub use pipe::{connect_read_pipe, connect_read_pipe_with_limit, connect_write_pipe};
pub use server::{Server, ServerBuilder, ShutdownReport, start_server};
pub use streams::{Chunk, ReadError, Stream, StreamReader, StreamWriter, WriteBuf};
pub use tcp::{TcpListener, TcpStream};

/// For the examples in the documentation: `f` with the two ends of a connection over loopback.
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
