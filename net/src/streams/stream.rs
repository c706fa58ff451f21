//! A reader and a writer in one object.

use std::{io, net::SocketAddr};

use super::{reader::StreamReader, writer::StreamWriter};

/// A reader and a writer in one object, for libraries that take a connection as one (hyper, TLS, WebSocket).
///
/// It implements the traits of futures-io, tokio and hyper, each behind a feature of corio: `futures-io`, `tokio-io`,
/// `hyper`. Their futures lose no data when they are dropped. Dropping the stream closes the connection once everything
/// written is sent.
///
/// ```
/// # corio_net::doc_pair(async |reader, writer| {
/// use corio_net::Stream;
/// let stream = Stream::from((reader, writer));
/// assert!(stream.peer_addr()?.ip().is_loopback());
/// let (mut reader, mut writer) = stream.into_split();
/// writer.write(b"hello")?;
/// assert_eq!(reader.readexactly(5).await?, b"hello");
/// # Ok(()) });
/// ```
#[derive(Debug)]
pub struct Stream {
    pub(super) reader: StreamReader,
    pub(super) writer: StreamWriter,
}

impl Stream {
    /// Splits it into the reader and the writer.
    pub fn into_split(self) -> (StreamReader, StreamWriter) {
        (self.reader, self.writer)
    }

    /// The peer's address.
    ///
    /// # Errors
    /// As [`StreamWriter::peer_addr`].
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.writer.peer_addr()
    }

    /// This side's address.
    ///
    /// # Errors
    /// As [`StreamWriter::local_addr`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.writer.local_addr()
    }
}

impl From<(StreamReader, StreamWriter)> for Stream {
    /// They may belong to different connections.
    fn from((reader, writer): (StreamReader, StreamWriter)) -> Stream {
        Stream { reader, writer }
    }
}
