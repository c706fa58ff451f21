//! Streams: a connection as a reader and a writer (asyncio "Streams").

mod addrs;
mod chunk;
mod close;
mod common;
mod completions;
mod copy;
mod ending;
mod error;
mod hang_up;
#[cfg(any(feature = "futures-io", feature = "hyper", feature = "tokio-io"))]
mod io;
mod key;
mod lines;
mod linger;
mod news;
mod open;
mod reader;
mod receive;
mod receive_state;
mod round;
mod send;
mod send_state;
mod service;
mod slot;
mod stream;
mod table;
mod turn;
mod until;
mod watch;
mod write_buf;
mod writer;

pub(crate) use addrs::Addrs;
pub(crate) use chunk::Block;
pub use chunk::Chunk;
pub use copy::{CopyError, CopySide, copy, copy_bidirectional};
pub use error::ReadError;
pub(crate) use key::LocalStream;
pub use lines::Lines;
pub(crate) use reader::OwnedReceive;
pub use reader::StreamReader;
pub(crate) use service::TABLE;
pub(crate) use slot::Origin;
pub use stream::Stream;
pub(crate) use table::DEFAULT_LIMIT;
pub use write_buf::WriteBuf;
pub use writer::StreamWriter;
