//! Streams: a connection as a reader and a writer (asyncio "Streams").

mod chunk;
mod error;
mod reader;
mod receive;
mod send;
mod table;
mod writer;

pub use chunk::Chunk;
pub use error::ReadError;
pub use reader::StreamReader;
pub(crate) use receive::errno;
pub(crate) use table::{DEFAULT_LIMIT, Origin, TABLE};
pub use writer::{StreamWriter, WriteBuf};
