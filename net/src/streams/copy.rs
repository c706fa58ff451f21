//! From one stream to another: what a proxy does.

use std::{
    fmt,
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
};

use super::{reader::StreamReader, stream::Stream, writer::StreamWriter};

/// Copies everything from `reader` to `writer` until the end of the stream, and returns the number of bytes.
///
/// Received blocks are sent on as they are, without a copy. While the writer has more than its high-water mark queued,
/// nothing is read. At the end everything is written and [drained](StreamWriter::drain), and the writer is open: it may
/// write on, [`write_eof`](StreamWriter::write_eof) or [`close`](StreamWriter::close). A writer that fails is noticed
/// also while the reader is silent.
///
/// Dropping the future loses nothing: what was read is written, everything else stays in the reader, and another call
/// goes on there.
///
/// ```
/// # corio_net::doc_pair(async |mut reader, mut writer| {
/// use std::io::Read;
/// writer.write("all of it")?;
/// writer.write_eof()?;
/// let (mut read, write) = std::io::pipe()?;
/// let mut pipe = corio_net::connect_write_pipe(write.into())?;
/// assert_eq!(corio_net::copy(&mut reader, &mut pipe).await?, 9);
/// pipe.close();
/// pipe.wait_closed().await?;
/// let mut text = String::new();
/// read.read_to_string(&mut text)?;
/// assert_eq!(text, "all of it");
/// # Ok(()) });
/// ```
///
/// # Errors
/// The failure of either stream, with a [`CopyError`] inside. If the writer failed, the reader keeps what was not
/// written.
pub async fn copy(reader: &mut StreamReader, writer: &mut StreamWriter) -> io::Result<u64> {
    let mut way = Way::default();
    match poll_fn(|cx| way.poll_copied(cx, reader, writer)).await {
        Ok(()) => Ok(way.copied),
        Err(Failure { of_writer, source }) => {
            let side = if of_writer { CopySide::Writer } else { CopySide::Reader };
            Err(CopyError { copied: way.copied, copied_back: 0, side, source }.into())
        }
    }
}

/// Copies from `a` to `b` and from `b` to `a` at once, and returns the number of bytes of each, as a proxy does with
/// two connections (tokio `copy_bidirectional`).
///
/// The end of one side's stream is passed on by [`write_eof`](StreamWriter::write_eof), while the other direction goes
/// on. It ends when both directions have ended and everything was sent; then both connections are closed. As in
/// [`copy`] no received block is copied, and a side that does not read holds the other one back.
///
/// If a side fails, the other direction goes on to its end: what a side had sent before it closed its connection still
/// arrives. Then both connections are closed, by an end of stream.
///
/// Dropping the future closes both connections; what was read is still sent.
///
/// ```
/// corio_runtime::run(async {
///     let upstream = corio_net::start_server("127.0.0.1:0", |mut reader, mut writer| async move {
///         // Answers only at the end of the question, which the proxy passes on.
///         let question = reader.read_to_end().await?;
///         writer.write_all([&b"you said "[..], &question].concat()).await
///     }).await?;
///     let addr = upstream.local_addr()?;
///     let proxy = corio_net::start_server("127.0.0.1:0", move |reader, writer| async move {
///         let upstream = corio_net::open_connection(addr).await?;
///         let (sent, received) = corio_net::copy_bidirectional((reader, writer), upstream).await?;
///         assert_eq!((sent, received), (5, 14));
///         Ok(())
///     }).await?;
///     let (mut reader, mut writer) = corio_net::open_connection(proxy.local_addr()?).await?;
///     writer.write("hello")?;
///     writer.write_eof()?;
///     assert_eq!(reader.read_to_end().await?, b"you said hello");
///     std::io::Result::Ok(())
/// }).unwrap();
/// ```
///
/// # Errors
/// The first failure, with a [`CopyError`] inside, which names the side.
pub async fn copy_bidirectional(a: impl Into<Stream>, b: impl Into<Stream>) -> io::Result<(u64, u64)> {
    let (mut a, mut b): (Stream, Stream) = (a.into(), b.into());
    let (mut there, mut back) = (Way::default(), Way::default());
    let mut first = None;
    poll_fn(|cx| {
        if let Some(failure) = there.poll_over(cx, &mut a.reader, &mut b.writer) {
            first.get_or_insert((failure, [CopySide::First, CopySide::Second]));
        }
        if let Some(failure) = back.poll_over(cx, &mut b.reader, &mut a.writer) {
            first.get_or_insert((failure, [CopySide::Second, CopySide::First]));
        }
        if there.over && back.over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    let Some((Failure { of_writer, source }, sides)) = first else { return Ok((there.copied, back.copied)) };
    let (way, other) = if sides[0] == CopySide::First { (there, back) } else { (back, there) };
    let side = sides[usize::from(of_writer)];
    Err(CopyError { copied: way.copied, copied_back: other.copied, side, source }.into())
}

/// Which stream of a copy failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CopySide {
    /// The reader of [`copy`].
    Reader,
    /// The writer of [`copy`].
    Writer,
    /// The first connection of [`copy_bidirectional`].
    First,
    /// The second connection of [`copy_bidirectional`].
    Second,
}

/// Why [`copy`] or [`copy_bidirectional`] ended before the end of the stream, and how far it had come. It is inside the
/// [`io::Error`] that they return, which has the kind of `source`.
///
/// ```
/// # corio_net::doc_pair(async |mut reader, mut writer| {
/// use corio_net::{CopyError, CopySide, copy};
/// let (_read, write) = std::io::pipe()?;
/// let mut pipe = corio_net::connect_write_pipe(write.into())?;
/// pipe.close();
/// writer.write("kept")?;
/// let failed = copy(&mut reader, &mut pipe).await.unwrap_err();
/// let error = failed.get_ref().and_then(|inner| inner.downcast_ref::<CopyError>()).unwrap();
/// assert_eq!((error.side, error.copied), (CopySide::Writer, 0));
/// assert_eq!(failed.kind(), error.source.kind());
/// assert_eq!(reader.readexactly(4).await?, b"kept");
/// # Ok(()) });
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct CopyError {
    /// Bytes that the direction which failed has read and written. Of the last ones the peer may not have got all.
    pub copied: u64,
    /// Bytes of the other direction; 0 for [`copy`].
    pub copied_back: u64,
    /// The stream that failed.
    pub side: CopySide,
    /// Its error.
    pub source: io::Error,
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CopyError { copied, side, source, .. } = self;
        let side = match side {
            CopySide::Reader => "the reader",
            CopySide::Writer => "the writer",
            CopySide::First => "the first connection",
            CopySide::Second => "the second connection",
        };
        write!(f, "{side} of the copy failed after {copied} bytes: {source}")
    }
}

impl std::error::Error for CopyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl From<CopyError> for io::Error {
    fn from(e: CopyError) -> io::Error {
        io::Error::new(e.source.kind(), e)
    }
}

/// One direction of a copy.
#[derive(Default)]
struct Way {
    copied: u64,
    /// A drain has begun to wait.
    waited: bool,
    /// The reader has ended, and everything is written.
    read: bool,
    /// The end was passed on, too.
    ended: bool,
    over: bool,
}

struct Failure {
    of_writer: bool,
    source: io::Error,
}

fn of_writer(source: io::Error) -> Failure {
    Failure { of_writer: true, source }
}

impl Way {
    /// Ready once everything is written and drained. Nothing is taken from the reader unless the writer takes it in
    /// the same poll.
    fn poll_copied(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut StreamReader,
        writer: &mut StreamWriter,
    ) -> Poll<Result<(), Failure>> {
        loop {
            ready!(writer.poll_drain(cx, &mut self.waited)).map_err(of_writer)?;
            self.waited = false;
            if self.read {
                return Poll::Ready(Ok(()));
            }
            let Poll::Ready(chunk) = reader.poll_chunk(cx) else {
                // Who waits for the reader hears of the writer's failure, too.
                return writer.poll_closed(cx).map(|closed| {
                    let gone = || io::ErrorKind::NotConnected.into();
                    Err(of_writer(closed.err().unwrap_or_else(gone)))
                });
            };
            let chunk = chunk.map_err(|source| Failure { of_writer: false, source })?;
            let len = chunk.len();
            self.read = len == 0;
            if len > 0 {
                writer.write(chunk).map_err(of_writer)?;
                self.copied += len as u64;
            }
        }
    }

    /// Copies, then passes on the end of the stream and waits until everything is sent.
    fn poll_all(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut StreamReader,
        writer: &mut StreamWriter,
    ) -> Poll<Result<(), Failure>> {
        if !self.ended {
            ready!(self.poll_copied(cx, reader, writer))?;
            writer.write_eof().map_err(of_writer)?;
            self.ended = true;
        }
        writer.poll_sent(cx).map_err(of_writer)
    }

    /// As `poll_all`, unless it is over: gives the failure, once.
    fn poll_over(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut StreamReader,
        writer: &mut StreamWriter,
    ) -> Option<Failure> {
        if self.over {
            return None;
        }
        let polled = self.poll_all(cx, reader, writer);
        self.over = polled.is_ready();
        match polled {
            Poll::Ready(Err(failure)) => Some(failure),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, task::Waker};

    use super::*;
    use crate::{TcpListener, open_connection, ops::Load};

    #[test]
    fn a_received_block_is_sent_on_without_a_copy() {
        corio_runtime::run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (mut reader, mut writer) = open_connection(listener.local_addr().unwrap()).await.unwrap();
            let (_unread, mut peer) = listener.accept().await.unwrap().0.into_streams();
            peer.write(vec![1; 20_000]).unwrap();
            let received = |reader: &StreamReader| {
                reader.key.with(|_, slot| (slot.receive.buf.len(), slot.receive.buf.as_ptr()))
            };
            reader.readexactly(1).await.unwrap();
            while received(&reader).unwrap().0 < 19_999 {
                corio_runtime::yield_now().await;
            }
            let at = received(&reader).unwrap().1;
            let polled = pin!(copy(&mut reader, &mut writer)).poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
            let queued = writer.key.with(|_, slot| match &slot.send.next {
                Some(Load::Block(block)) => (block.len(), block.as_ptr()),
                other => panic!("{other:?}"),
            });
            assert_eq!(queued.unwrap(), (19_999, at));
        });
    }
}
