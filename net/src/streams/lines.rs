//! Iteration by lines (asyncio `async for line in reader`).

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use memchr::memmem;

use super::{error::ReadError, reader::StreamReader};

impl StreamReader {
    /// The lines up to the end of the stream, as text without `\n` or `\r\n` (asyncio `async for line in reader`). The
    /// last one may have no end.
    ///
    /// ```
    /// # corio_net::doc_pair(async |mut reader, mut writer| {
    /// writer.write("one\r\ntwo\n\nlast")?;
    /// writer.write_eof()?;
    /// let (mut lines, mut all) = (reader.lines(), Vec::new());
    /// while let Some(line) = lines.next().await {
    ///     all.push(line?);
    /// }
    /// assert_eq!(all, ["one", "two", "", "last"]);
    /// # Ok(()) });
    /// ```
    #[doc(alias = "next_line")]
    pub fn lines(&mut self) -> Lines<'_> {
        Lines { reader: self, searched: 0 }
    }
}

/// The lines of a stream: see [`StreamReader::lines`]. It holds no bytes: dropped at any point, also while it waits, it
/// leaves to the reader everything behind the last line that it gave.
#[derive(Debug)]
#[must_use = "lines come only from `next`, which is to be awaited"]
pub struct Lines<'a> {
    reader: &'a mut StreamReader,
    /// Bytes of the current line without an end in them.
    searched: usize,
}

impl Lines<'_> {
    /// The next line; `None` at the end of the stream. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`ReadError::LimitOverrun`] for a line longer than the stream's limit, of which what has arrived is dropped, as
    /// by [`readline`](StreamReader::readline): the iteration can go on behind it. An error of kind `InvalidData` for a
    /// line that is no UTF-8, with the [`FromUtf8Error`](std::string::FromUtf8Error) that has its bytes inside. The
    /// connection's failure, again and again.
    pub async fn next(&mut self) -> Option<Result<String, ReadError>> {
        poll_fn(|cx| self.poll_line(cx)).await
    }

    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<String, ReadError>>> {
        let (finder, searched) = (memmem::Finder::new(b"\n"), &mut self.searched);
        let Poll::Ready(polled) = self.reader.poll_wait(cx, |slot| slot.find(&finder, searched)) else {
            return Poll::Pending;
        };
        self.searched = 0;
        let line = match polled.map_err(ReadError::from).and_then(|found| found.0) {
            Ok(line) => text(line.into()),
            Err(ReadError::IncompleteRead { partial, .. }) if partial.is_empty() => return Poll::Ready(None),
            Err(ReadError::IncompleteRead { partial, .. }) => text(partial),
            Err(ReadError::LimitOverrun { consumed }) => {
                let dropped = self.reader.drop_line(consumed);
                Err(dropped.map_or_else(ReadError::from, |()| ReadError::LimitOverrun { consumed }))
            }
            Err(e) => Err(e),
        };
        Poll::Ready(Some(line))
    }
}

/// A line as text, without its end.
fn text(mut line: Vec<u8>) -> Result<String, ReadError> {
    if line.ends_with(b"\n") {
        line.pop();
        line.pop_if(|byte| *byte == b'\r');
    }
    String::from_utf8(line).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e).into())
}

impl Stream for Lines<'_> {
    type Item = Result<String, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_line(cx)
    }
}
