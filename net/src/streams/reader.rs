//! The reading handle of a stream (asyncio `StreamReader`).

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use corio_runtime::{
    budget,
    op::{self, Op},
};
use memchr::memmem;

use super::{chunk::Chunk, error::ReadError, slot::Slot, table::StreamKey};
use crate::ops::RecvInto;

/// The receiving side of a connection.
///
/// Bytes that have arrived belong to the stream, not to the call that waits for them: dropping any of these futures, at
/// any point, loses nothing, and the next call finds every byte. On another loop, the methods fail with an error that
/// says "different loop". Dropping the reader stops receiving; the writer continues.
///
/// ```compile_fail,E0499
/// // STR-33: one task at a time reads a stream.
/// async fn two_at_once(reader: &mut corio_net::StreamReader) {
///     let (first, second) = (reader.read(1), reader.read(1));
///     first.await.unwrap();
///     second.await.unwrap();
/// }
/// ```
pub struct StreamReader {
    pub(super) key: StreamKey,
    /// Data lent by `poll_fill_buf`. It returns to the stream before any other read.
    pub(super) lent: Chunk,
}

impl StreamReader {
    pub(super) fn new(key: StreamKey) -> StreamReader {
        StreamReader { key, lent: Chunk::default() }
    }

    /// Waits for data and returns up to `n` bytes of it; empty at the end of the stream, or if `n` is 0 (asyncio
    /// `read`). No copy is made if `n` covers everything that has arrived.
    ///
    /// ```
    /// # corio_net::doc_pair(async |mut reader, mut writer| {
    /// writer.write(b"hello")?;
    /// writer.write_eof()?;
    /// assert_eq!(reader.read(3).await?, b"hel");
    /// assert_eq!(reader.read(100).await?, b"lo");
    /// assert!(reader.read(100).await?.is_empty() && reader.at_eof());
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    /// The connection's failure, after the bytes that arrived before it.
    pub fn read(&mut self, n: usize) -> impl Future<Output = io::Result<Chunk>> {
        self.wait(n.min(1), move |slot| (!slot.receive.buf.is_empty()).then(|| slot.take(n)))
    }

    /// As [`read`](StreamReader::read), into `buf`. Returns 0 at the end of the stream, or if `buf` is empty.
    pub async fn read_into(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.wait(1, |slot| (!slot.receive.buf.is_empty()).then(|| slot.copy_to(buf))).await
    }

    /// Reads to the end of the stream, without limit (asyncio `read(-1)`).
    pub async fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        // The bytes stay in the stream until the end, so that a dropped future loses none.
        let all = self.wait(usize::MAX, |slot| {
            let end = slot.receive.at_end() && slot.receive.error().is_none();
            end.then(|| slot.take(usize::MAX))
        });
        Ok(all.await?.into())
    }

    /// One line with its `\n` (asyncio `readline`). At the end of the stream: the bytes left, without `\n`; then empty.
    ///
    /// # Errors
    /// [`ReadError::LimitOverrun`] for a line longer than the stream's limit. As in asyncio, what has arrived of the
    /// line is dropped; [`readuntil`](StreamReader::readuntil) keeps it.
    pub async fn readline(&mut self) -> Result<Chunk, ReadError> {
        match self.readuntil(b"\n").await {
            Err(ReadError::IncompleteRead { partial, .. }) => Ok(Chunk::from(&partial[..])),
            Err(ReadError::LimitOverrun { consumed }) => {
                self.drop_line(consumed)?;
                Err(ReadError::LimitOverrun { consumed })
            }
            other => other,
        }
    }

    /// Drops what has arrived of a line that is too long, of which `consumed` bytes were searched.
    pub(super) fn drop_line(&self, consumed: usize) -> io::Result<()> {
        self.key.with(|common, slot| {
            let buf = &mut slot.receive.buf;
            let line = if buf.get(consumed) == Some(&b'\n') { consumed + 1 } else { buf.len() };
            buf.advance(line);
            slot.arm_receive(common);
        })
    }

    /// Exactly `n` bytes (asyncio `readexactly`), also more than the stream's limit.
    ///
    /// ```
    /// # corio_net::doc_pair(async |mut reader, mut writer| {
    /// use corio_net::ReadError;
    /// writer.write(b"abcdef")?;
    /// writer.write_eof()?;
    /// assert_eq!(reader.readexactly(4).await?, b"abcd");
    /// match reader.readexactly(4).await {
    ///     Err(ReadError::IncompleteRead { partial, expected }) => {
    ///         assert_eq!((&partial[..], expected), (&b"ef"[..], Some(4)));
    ///     }
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    /// [`ReadError::IncompleteRead`] if the stream ends first.
    pub async fn readexactly(&mut self, n: usize) -> Result<Chunk, ReadError> {
        if n == 0 {
            return Ok(Chunk::default());
        }
        let data = self.wait(n, |slot| {
            let receive = &slot.receive;
            let ended = receive.at_end() && receive.error().is_none();
            (receive.buf.len() >= n || ended).then(|| slot.take(n))
        });
        let data = data.await?;
        if data.len() < n {
            return Err(ReadError::IncompleteRead { partial: data.into(), expected: Some(n) });
        }
        Ok(data)
    }

    /// Everything up to `separator` and the separator itself (asyncio `readuntil`).
    ///
    /// ```
    /// # corio_net::doc_pair(async |mut reader, mut writer| {
    /// writer.write(b"one\r\ntwo\r\n")?;
    /// assert_eq!(reader.readuntil(b"\r\n").await?, b"one\r\n");
    /// assert_eq!(reader.readuntil(b"\r\n").await?, b"two\r\n");
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    /// [`ReadError::LimitOverrun`] if more than the stream's limit precedes the separator (the data stays in the
    /// stream), [`ReadError::IncompleteRead`] if the stream ends first, an error of kind `InvalidInput` for an empty
    /// separator.
    pub async fn readuntil(&mut self, separator: &[u8]) -> Result<Chunk, ReadError> {
        if separator.is_empty() {
            let text = "readuntil: the separator should be at least one byte long";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text).into());
        }
        let finder = memmem::Finder::new(separator);
        // Searched bytes are skipped, except those where a separator may have begun.
        let mut searched = 0;
        self.wait(1, |slot| slot.find(&finder, &mut searched)).await?.0
    }

    /// Whether the stream has ended and all its data was read.
    pub fn at_eof(&self) -> bool {
        self.lent.is_empty() && self.key.with(|_, slot| slot.receive.at_eof()).unwrap_or(true)
    }

    /// From now on data is received ahead of the reads.
    pub(crate) fn read_ahead(&self) {
        self.key.read_ahead();
    }

    /// First step of a read into a caller's buffer: copies what has arrived, or returns `None` if the kernel can
    /// receive into the buffer. An empty `buf` gives 0.
    pub(crate) fn poll_owned(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<Option<usize>>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(Some(0)));
        }
        if budget::is_used_up(cx) {
            return Poll::Pending;
        }
        let mut replaced = None;
        let polled = self.key.with(|_, slot| {
            if !slot.receive.buf.is_empty() {
                budget::spend(1);
                return Poll::Ready(Ok(Some(slot.copy_to(buf))));
            }
            if slot.receive.at_end() {
                return Poll::Ready(slot.receive.error().map_or(Ok(Some(0)), Err));
            }
            if !slot.receive.in_flight() {
                return Poll::Ready(Ok(None));
            }
            // A receive of a dropped future is still in flight.
            replaced = slot.receive.wait(cx.waker());
            Poll::Pending
        });
        drop(replaced);
        polled.unwrap_or_else(|e| Poll::Ready(Err(e)))
    }

    /// Starts a receive into `buf`, if the stream is idle. `buf.as_mut()` is foreign code and may panic: it is called
    /// before any state changes, while nothing is borrowed.
    pub(crate) fn receive_into<B: AsMut<[u8]> + 'static>(&mut self, buf: B) -> OwnedReceive<B> {
        let place = self.key.with(|_, slot| slot.fd.clone().map(|fd| (fd, slot.index)));
        let (fd, slot) = match place {
            Ok(Some(place)) => place,
            Ok(None) => return OwnedReceive::Over(Err(io::ErrorKind::NotConnected.into()), buf),
            Err(e) => return OwnedReceive::Over(Err(e), buf),
        };
        let receive = op::prepare(RecvInto::new(fd, slot, buf));
        if receive.moves_nothing() {
            return OwnedReceive::Over(Ok(0), receive.into_inner().buf);
        }
        let mut receive = Some(receive);
        let started = self.key.with(|_, slot| slot.receive_owned(&mut receive));
        match (started, receive) {
            (Ok(Some(op)), _) => OwnedReceive::Started(op),
            (Err(e), Some(receive)) => OwnedReceive::Over(Err(e), receive.into_inner().buf),
            (Ok(None), Some(receive)) => OwnedReceive::Changed(receive.into_inner().buf),
            (_, None) => unreachable!("the buffer is with the operation, which was started"),
        }
    }

    /// Waits until `ready` returns a value, for which at least `wanted` bytes must have arrived, or for the end of the
    /// stream. With 0 `wanted` it is ready at once.
    #[inline(always)]
    pub(super) fn wait<T: Default, F: FnMut(&mut Slot) -> Option<T> + Unpin>(
        &mut self,
        wanted: usize,
        ready: F,
    ) -> Wait<'_, F> {
        Wait { reader: self, wanted, state: if wanted > 0 { State::New } else { State::Unneeded }, ready }
    }

    /// Everything that has arrived; empty at the end of the stream. Dropped while it waits, no demand stays behind.
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        self.poll_wait(cx, |slot| (!slot.receive.buf.is_empty()).then(|| slot.take(usize::MAX)))
    }

    /// As `wait`, as a poll: if it is not repeated, no demand stays behind.
    #[inline(always)]
    pub(super) fn poll_wait<T: Default>(
        &mut self,
        cx: &mut Context<'_>,
        mut ready: impl FnMut(&mut Slot) -> Option<T>,
    ) -> Poll<io::Result<T>> {
        if (budget::count() || !self.lent.is_empty()) && self.pause(cx).is_pending() {
            return Poll::Pending;
        }
        self.key.poll_ready(cx, 1, false, &mut ready)
    }

    /// Before a read: pending if the task has used up its budget; else returns lent data to the stream.
    #[cold]
    #[inline(never)]
    fn pause(&mut self, cx: &Context<'_>) -> Poll<()> {
        if budget::is_over(cx) {
            return Poll::Pending;
        }
        let lent = &mut self.lent;
        if lent.is_empty() {
            return Poll::Ready(());
        }
        // On another loop this fails, and nothing changes.
        let _ = self.key.with(|_, slot| {
            let later = std::mem::replace(&mut slot.receive.buf, std::mem::take(lent));
            if !later.is_empty() {
                slot.receive.buf.append(&later, 0);
            }
        });
        Poll::Ready(())
    }
}

/// State of a receive into a caller's buffer.
pub(crate) enum OwnedReceive<B: AsMut<[u8]> + 'static> {
    Started(Op<RecvInto<B>>),
    Over(io::Result<usize>, B),
    /// `as_mut` has changed the stream: start again.
    Changed(B),
}

/// A read that waits. It does nothing before its first poll. Dropped while it waits, it withdraws its demand, so that
/// the limit applies again.
pub(super) struct Wait<'a, F> {
    reader: &'a mut StreamReader,
    wanted: usize,
    state: State,
    ready: F,
}

#[derive(PartialEq, Eq, PartialOrd)]
enum State {
    New,
    Waiting,
    /// Reads 0 bytes.
    Unneeded,
    Over,
}

impl<F> Wait<'_, F> {
    #[inline(never)]
    fn nothing<T: Default>(&mut self) -> Poll<io::Result<T>> {
        assert!(self.state == State::Unneeded, "a read was polled after it was over");
        self.state = State::Over;
        Poll::Ready(Ok(T::default()))
    }
}

impl<T: Default, F: FnMut(&mut Slot) -> Option<T> + Unpin> Future for Wait<'_, F> {
    type Output = io::Result<T>;

    /// # Panics
    /// If polled after completion.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let wait = self.get_mut();
        if wait.state >= State::Unneeded {
            return wait.nothing();
        }
        // While it waits, nothing is lent.
        if wait.state == State::New
            && (budget::count() || !wait.reader.lent.is_empty())
            && wait.reader.pause(cx).is_pending()
        {
            return Poll::Pending;
        }
        let polled = wait.reader.key.poll_ready(cx, wait.wanted, true, &mut wait.ready);
        wait.state = if polled.is_pending() { State::Waiting } else { State::Over };
        polled
    }
}

impl StreamKey {
    /// Polls `ready` with the stream. With a value, the next receive is armed. At the end of the stream `ready` is
    /// called a last time; without a value the result is empty, or the error. The demand for `wanted` bytes stays after
    /// the poll if `stays`; else it arms one receive.
    #[inline(always)]
    fn poll_ready<T: Default>(
        &self,
        cx: &mut Context<'_>,
        wanted: usize,
        stays: bool,
        ready: &mut impl FnMut(&mut Slot) -> Option<T>,
    ) -> Poll<io::Result<T>> {
        let mut replaced = None;
        let polled = self.with(|common, slot| {
            if let Some(value) = ready(slot) {
                slot.receive.wanted = 0;
                slot.arm_receive(common);
                return Poll::Ready(Ok(value));
            }
            if slot.receive.at_end() {
                return Poll::Ready(slot.receive.error().map_or_else(|| Ok(T::default()), Err));
            }
            slot.receive.wanted = wanted - slot.receive.buf.len().min(wanted - 1);
            replaced = slot.receive.wait(cx.waker());
            slot.arm_receive(common);
            if !stays {
                slot.receive.wanted = 0;
            }
            Poll::Pending
        });
        drop(replaced);
        polled.unwrap_or_else(|e| Poll::Ready(Err(e)))
    }
}

impl<F> Drop for Wait<'_, F> {
    fn drop(&mut self) {
        if self.state == State::Waiting {
            let _ = self.reader.key.with(|_, slot| slot.receive.wanted = 0);
        }
    }
}

impl Slot {
    #[inline(always)]
    pub(super) fn take(&mut self, n: usize) -> Chunk {
        self.receive.buf.split_to(n)
    }

    fn copy_to(&mut self, buf: &mut [u8]) -> usize {
        let n = buf.len().min(self.receive.buf.len());
        buf[..n].copy_from_slice(&self.receive.buf[..n]);
        self.receive.buf.advance(n);
        n
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        self.key.drop_reader();
    }
}

impl fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buffered = self.key.with(|_, slot| self.lent.len() + slot.receive.buf.len()).ok();
        f.debug_struct("StreamReader").field("buffered", &buffered).field("at_eof", &self.at_eof()).finish()
    }
}
