//! Streams: a connection as a reader and a writer (asyncio "Streams").

mod addrs;
mod chunk;
mod error;
mod hang_up;
#[cfg(any(feature = "futures-io", feature = "hyper", feature = "tokio-io"))]
mod io;
mod linger;
mod news;
mod reader;
mod receive;
mod round;
mod send;
mod stream;
mod table;
mod writer;

pub(crate) use addrs::Addrs;
pub use chunk::Chunk;
pub(crate) use chunk::{Block, recycle};
pub use error::ReadError;
pub(crate) use reader::OwnedReceive;
pub use reader::StreamReader;
pub(crate) use receive::errno;
pub use stream::Stream;
pub(crate) use table::{DEFAULT_LIMIT, Origin, StreamKey, TABLE};
pub use writer::{StreamWriter, WriteBuf};
