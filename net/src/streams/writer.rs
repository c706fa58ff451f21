//! The writing handle of a stream (asyncio `StreamWriter`).

use std::{
    fmt,
    future::poll_fn,
    io,
    net::SocketAddr,
    task::{Context, Poll},
    time::Duration,
};

use corio_runtime::call_soon;

use super::{
    addrs::Addrs,
    common::Common,
    news::News,
    send_state::{HIGH_WATER, LOW_WATER, Phase},
    slot::Slot,
    table::StreamKey,
    write_buf::WriteBuf,
};
use crate::ops::Segment;

/// The sending side of a connection.
///
/// [`write`](StreamWriter::write) queues its data at once; everything written in a turn of the loop is sent at its end,
/// in one send. Dropping a future of this type loses nothing: what was written is sent, in order. Dropping the writer
/// is [`close`](StreamWriter::close). On another loop, the methods fail with an error that says "different loop";
/// `close`, `abort` and `linger` work from any loop.
pub struct StreamWriter {
    pub(super) key: StreamKey,
    /// `News::latest` as of the last write, if `drain` had nothing to wait for: until that changes, it still has not.
    pub(super) calm: News,
    addrs: Addrs,
}

impl StreamWriter {
    pub(super) fn new(key: StreamKey, addrs: Addrs) -> StreamWriter {
        StreamWriter { key, calm: News::NONE, addrs }
    }

    pub(crate) fn key(&self) -> StreamKey {
        self.key
    }

    /// Queues `data`, to be sent at the end of this turn (asyncio `write`). It never waits: call
    /// [`drain`](StreamWriter::drain) after it, or the queue grows without bound if the peer is slow.
    ///
    /// ```
    /// # corio_net::doc_pair(async |mut reader, mut writer| {
    /// writer.write("GET ")?;
    /// writer.write(vec![b'/'])?;
    /// assert_eq!(reader.readexactly(5).await?, b"GET /");
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    /// After `write_eof`, `close` or `abort`, or after a failed send. Nothing is queued then.
    pub fn write<'a>(&mut self, data: impl Into<WriteBuf<'a>>) -> io::Result<()> {
        match data.into() {
            WriteBuf::Borrowed(data) => self.queue(|common, slot| slot.write_copy(common, data)),
            WriteBuf::Vec(data) => self.write_owned(data, Segment::Vec),
            WriteBuf::Chunk(data) => self.queue(|common, slot| slot.write_chunk(common, data)),
            WriteBuf::Bytes(data) => self.write_owned(data, Segment::from),
        }
    }

    fn write_owned<D: AsRef<[u8]>>(&mut self, data: D, segment: impl FnOnce(D) -> Segment) -> io::Result<()> {
        let mut data = Some(data);
        let queued = self.queue(|common, slot| slot.write_owned(common, &mut data, segment));
        // Data that was not queued is dropped here, outside the borrow: its destructor is foreign code.
        drop(data);
        queued
    }

    /// Calls `write` to queue data, if the stream is writable.
    #[inline(always)]
    fn queue(&mut self, write: impl FnOnce(&mut Common, &mut Slot)) -> io::Result<()> {
        let calm = &mut self.calm;
        self.key.with(|common, slot| {
            slot.writable()?;
            write(common, slot);
            *calm = slot.send.calm();
            Ok(())
        })?
    }

    /// Queues several pieces (asyncio `writelines`).
    pub fn writelines<'a, T: Into<WriteBuf<'a>>>(
        &mut self,
        pieces: impl IntoIterator<Item = T>,
    ) -> io::Result<()> {
        pieces.into_iter().try_for_each(|piece| self.write(piece))
    }

    /// Waits until at most the low-water mark is queued, if more than the high-water mark is (asyncio `drain`).
    ///
    /// # Errors
    /// If the connection has failed or is closed, even if there is nothing to wait for.
    pub fn drain(&mut self) -> impl Future<Output = io::Result<()>> {
        let mut waited = false;
        poll_fn(move |cx| self.poll_drain(cx, &mut waited))
    }

    #[inline(always)]
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>, waited: &mut bool) -> Poll<io::Result<()>> {
        if self.calm == News::latest() {
            return Poll::Ready(Ok(()));
        }
        self.poll_drained(cx, waited)
    }

    #[inline(never)]
    fn poll_drained(&mut self, cx: &mut Context<'_>, waited: &mut bool) -> Poll<io::Result<()>> {
        let mut replaced = None;
        let polled = self.key.with(|_, slot| {
            if let Some(e) = slot.send_error() {
                return Poll::Ready(Err(e));
            }
            let send = &mut slot.send;
            let calm = if *waited { send.queued <= send.low } else { send.queued <= send.high };
            if calm {
                return Poll::Ready(Ok(()));
            }
            *waited = true;
            replaced = send.wait(cx.waker());
            Poll::Pending
        });
        drop(replaced);
        polled.unwrap_or_else(|e| Poll::Ready(Err(e)))
    }

    /// [`write`](StreamWriter::write), then [`drain`](StreamWriter::drain). After the first poll all of `data` is
    /// queued, and is sent even if this future is dropped.
    pub async fn write_all<'a>(&mut self, data: impl Into<WriteBuf<'a>>) -> io::Result<()> {
        self.write(data)?;
        self.drain().await
    }

    /// Waits until the kernel has taken everything written.
    ///
    /// # Errors
    /// If the connection failed or was aborted before that.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_sent(cx)).await
    }

    /// `flush` as a poll.
    pub(super) fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (mut replaced, mut silent) = (None, false);
        let polled = self.key.with(|_, slot| {
            if let Some(e) = slot.send.error() {
                return Poll::Ready(Err(e));
            }
            if slot.send.cut {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            if slot.send.queued > 0 {
                replaced = slot.send.wait(cx.waker());
                return Poll::Pending;
            }
            silent = slot.send.is_silent();
            if silent { Poll::Pending } else { Poll::Ready(Ok(())) }
        });
        drop(replaced);
        if silent {
            // A silent send has no completion to wait for: poll again each turn.
            let waker = cx.waker().clone();
            call_soon(move || waker.wake());
        }
        polled.unwrap_or_else(|e| Poll::Ready(Err(e)))
    }

    /// Half-closes the connection once everything written is sent (asyncio `write_eof`): the peer reads the end of the
    /// stream, and can still send.
    ///
    /// # Errors
    /// As [`write`](StreamWriter::write). A second call changes nothing.
    pub fn write_eof(&mut self) -> io::Result<()> {
        self.key.with(
            |common, slot| if slot.send.phase == Phase::Eof { Ok(()) } else { slot.write_eof(common) },
        )?
    }

    /// Whether [`write_eof`](StreamWriter::write_eof) can be used: always true.
    pub fn can_write_eof(&self) -> bool {
        true
    }

    /// Closes the connection once everything written has arrived (asyncio `close`). The peer reads it, then the end of
    /// the stream; the reader gives what had arrived, then the end. A second call changes nothing.
    ///
    /// What the peer still sends is discarded; unread, it would reset the connection and cut short what was written.
    /// The connection closes at once if everything is acknowledged and nothing unread, else at the peer's end of
    /// stream, or after the limits of [`linger`](StreamWriter::linger).
    pub fn close(&mut self) {
        if self.key.with(|common, slot| slot.close(common)).is_err() {
            self.key.at_home(|common, slot| {
                slot.close(common);
                None
            });
        }
    }

    /// Whether the connection is closed or closing, or has failed. After the first call, a failure is noticed even if
    /// nothing is being read.
    pub fn is_closing(&self) -> bool {
        let closing = |_: &mut Common, slot: &mut Slot| {
            slot.poll_hang_up();
            slot.is_closing()
        };
        self.key.with(closing).unwrap_or(true)
    }

    /// Limits how long the connection may take to [`close`](StreamWriter::close): `total` in all, and `idle` without a
    /// byte moving in either direction. After that it is reset, and [`wait_closed`](StreamWriter::wait_closed) gives
    /// `TimedOut`; if the peer has acknowledged everything, it is just closed. Default: 30 s and 5 s; for a pipe, no
    /// limits. The end of the loop has [its own limits](corio_runtime::Builder::linger). It works from any loop.
    ///
    /// ```
    /// # corio_net::doc_pair(async |_reader, mut writer| {
    /// use std::{io::ErrorKind, time::Duration};
    /// // More than the sockets' buffers hold, and the peer does not read.
    /// writer.write(vec![0; 64 << 20])?;
    /// writer.linger(Duration::from_secs(5), Duration::from_millis(50));
    /// writer.close();
    /// assert_eq!(writer.wait_closed().await.unwrap_err().kind(), ErrorKind::TimedOut);
    /// # Ok(()) });
    /// ```
    pub fn linger(&mut self, total: Duration, idle: Duration) {
        self.key.at_home(move |_, slot| {
            slot.set_linger(total, idle);
            None
        });
    }

    /// Waits until the connection is closed and its descriptor freed (asyncio `wait_closed`). Dropping the future
    /// changes nothing.
    ///
    /// # Errors
    /// The connection's failure, even one before the close; `TimedOut` if the peer took nothing for as long as
    /// [`linger`](StreamWriter::linger) allows. Some of the written data may not have arrived then.
    pub async fn wait_closed(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_closed(cx)).await
    }

    /// `wait_closed` as a poll.
    pub(super) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut replaced = None;
        let polled = self.key.with(|_, slot| {
            // A failed connection may have unread data: the writer need not wait for the reader.
            let failed = slot.send.broken != 0 && !slot.send.closing();
            if slot.is_gone() || failed {
                return Poll::Ready(slot.send.error().map_or(Ok(()), Err));
            }
            slot.poll_hang_up();
            replaced = slot.make_ending().waiter.replace(cx.waker().clone());
            Poll::Pending
        });
        // Its destructor is foreign code.
        drop(replaced);
        polled.unwrap_or_else(|e| Poll::Ready(Err(e)))
    }

    /// Closes at once (asyncio `transport.abort`): unsent data is dropped, and the peer sees a reset.
    pub fn abort(&mut self) {
        self.key.at_home(|common, slot| {
            slot.abort(common);
            None
        });
    }

    /// The peer's address when the connection was made (asyncio `get_extra_info("peername")`). Any thread may ask, also
    /// after a reset or a close.
    ///
    /// ```
    /// # corio_net::doc_pair(async |_reader, mut writer| {
    /// let peer = writer.peer_addr()?;
    /// writer.abort();
    /// assert_eq!(writer.peer_addr()?, peer);
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    /// [`Unsupported`](io::ErrorKind::Unsupported) if the stream is no internet socket.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.addrs.peer().ok_or_else(no_address)
    }

    /// The local address when the connection was made (asyncio `get_extra_info("sockname")`). Any thread may ask.
    ///
    /// ```
    /// # corio_net::doc_pair(async |_reader, mut writer| {
    /// let local = writer.local_addr()?;
    /// assert!(local.ip().is_loopback());
    /// writer.close();
    /// writer.wait_closed().await?;
    /// assert_eq!(writer.local_addr()?, local);
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    /// As [`peer_addr`](StreamWriter::peer_addr).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.addrs.local().ok_or_else(no_address)
    }

    /// Sets the water marks of [`drain`](StreamWriter::drain), in bytes. Default: 65536 and 16384. Without a `low` it
    /// is a quarter of `high`, without a `high` four times `low`. If more than the new `high` is queued, the next
    /// `drain` waits.
    ///
    /// ```
    /// # corio_net::doc_pair(async |_reader, mut writer| {
    /// assert_eq!(writer.get_write_buffer_limits()?, (16384, 65536));
    /// writer.set_write_buffer_limits(1000, None)?;
    /// assert_eq!(writer.get_write_buffer_limits()?, (250, 1000));
    /// assert!(writer.set_write_buffer_limits(10, 20).is_err());
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    /// If `low` is above `high`.
    pub fn set_write_buffer_limits(
        &mut self,
        high: impl Into<Option<usize>>,
        low: impl Into<Option<usize>>,
    ) -> io::Result<()> {
        let (high, low) = match (high.into(), low.into()) {
            (Some(high), Some(low)) => (high, low),
            (Some(high), None) => (high, high / 4),
            (None, Some(low)) => (low.saturating_mul(4), low),
            (None, None) => (HIGH_WATER, LOW_WATER),
        };
        if low > high {
            let text = format!("high ({high}) must be at least low ({low})");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.calm = News::NONE;
        self.key.with(|_, slot| (slot.send.high, slot.send.low) = (high, low))
    }

    /// The water marks of [`drain`](StreamWriter::drain) in bytes, as asyncio gives them: the low one, then the high
    /// one.
    pub fn get_write_buffer_limits(&self) -> io::Result<(usize, usize)> {
        self.key.with(|_, slot| (slot.send.low, slot.send.high))
    }

    /// Bytes that were written and that the kernel has not taken yet (asyncio `get_write_buffer_size`).
    ///
    /// ```
    /// # corio_net::doc_pair(async |_reader, mut writer| {
    /// writer.write("12345")?;
    /// assert_eq!(writer.get_write_buffer_size()?, 5);
    /// writer.flush().await?;
    /// assert_eq!(writer.get_write_buffer_size()?, 0);
    /// # Ok(()) });
    /// ```
    pub fn get_write_buffer_size(&self) -> io::Result<usize> {
        self.key.with(|_, slot| slot.send.queued)
    }
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "the stream has no internet address")
}

impl Slot {
    fn is_closing(&self) -> bool {
        self.send.closing() || self.send.broken != 0
    }

    #[inline(always)]
    pub(super) fn writable(&self) -> io::Result<()> {
        if self.send.phase == Phase::Open && self.send.broken == 0 && !self.receive.has_ended() {
            return Ok(());
        }
        self.still_writable()
    }

    /// Nothing more will be written: half-closes once everything is sent.
    pub(super) fn write_eof(&mut self, common: &mut Common) -> io::Result<()> {
        self.writable()?;
        self.send.phase = Phase::Eof;
        self.mark_dirty(common);
        Ok(())
    }

    #[inline(never)]
    fn still_writable(&self) -> io::Result<()> {
        if let Some(e) = self.send.error().or_else(|| self.receive.error()) {
            return Err(e);
        }
        match self.send.phase {
            Phase::Open => Ok(()),
            Phase::Eof => Err(io::Error::new(io::ErrorKind::BrokenPipe, "write after write_eof")),
            Phase::Closing | Phase::Lingering | Phase::Closed => {
                Err(io::Error::new(io::ErrorKind::BrokenPipe, "write on a closed connection"))
            }
        }
    }

    /// Why nothing more can be sent, from either half.
    fn send_error(&self) -> Option<io::Error> {
        if let Some(e) = self.send.error() {
            return Some(e);
        }
        if self.send.closing() {
            return Some(io::Error::from_raw_os_error(libc::ECONNRESET));
        }
        self.receive.error()
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        self.key.drop_writer();
    }
}

impl fmt::Debug for StreamWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not `self.is_closing()`: printing a writer must start nothing.
        let state = self.key.with(|_, slot| (slot.send.queued, slot.is_closing()));
        let (queued, closing) = state.map_or((None, true), |(queued, closing)| (Some(queued), closing));
        f.debug_struct("StreamWriter").field("queued", &queued).field("closing", &closing).finish()
    }
}
