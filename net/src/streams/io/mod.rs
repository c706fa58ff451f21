//! The read and write traits of futures-io, tokio and hyper for the streams, each behind its feature.
//!
//! All are built on the polls below. A read copies from the stream's buffer. A write copies into it, and is pending
//! above the high-water mark. The bytes belong to the stream, so a dropped future loses none.

/// Implements a trait for one half, and for `Stream` by that half.
macro_rules! both {
    ($(#[$doc:meta])* $trait:ident for $half:ident $body:tt) => {
        $(#[$doc])*
        impl $trait for $half $body

        $(#[$doc])*
        impl $trait for Stream $body
    };
}

/// The writes, the same in all three traits.
macro_rules! writes {
    () => {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
            self.get_mut().writing().poll_put(cx, &[IoSlice::new(data)])
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.get_mut().writing().poll_put(cx, pieces)
        }
    };
}

/// Methods that hyper and tokio share.
#[cfg(any(feature = "hyper", feature = "tokio-io"))]
macro_rules! shut_down {
    () => {
        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.get_mut().writing().poll_end(cx)
        }
    };
}

/// Methods that futures-io and tokio share.
#[cfg(any(feature = "futures-io", feature = "tokio-io"))]
macro_rules! buffered_reads {
    () => {
        fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
            self.get_mut().reading().poll_lend(cx)
        }

        fn consume(self: Pin<&mut Self>, n: usize) {
            self.get_mut().reading().lent.advance(n);
        }
    };
}

#[cfg(feature = "futures-io")]
mod futures;
#[cfg(feature = "hyper")]
mod hyper;
#[cfg(feature = "tokio-io")]
mod tokio;

use std::{
    io::{self, IoSlice},
    task::{Context, Poll},
};

#[cfg(any(feature = "futures-io", feature = "tokio-io"))]
use corio_runtime::budget;

use super::{
    reader::StreamReader,
    send_state::{Phase, Send},
    slot::Slot,
    stream::Stream,
    writer::StreamWriter,
};
use crate::ops::OWNED_MIN;

impl Stream {
    fn reading(&mut self) -> &mut StreamReader {
        &mut self.reader
    }

    fn writing(&mut self) -> &mut StreamWriter {
        &mut self.writer
    }
}

impl StreamReader {
    fn reading(&mut self) -> &mut StreamReader {
        self
    }

    /// Waits for data and passes up to `room` bytes to `put`; none at the end of the stream, or if `room` is 0.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
        mut put: impl FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        if room == 0 {
            return Poll::Ready(Ok(0));
        }
        let taken = |slot: &mut Slot| {
            let n = room.min(slot.receive.buf.len());
            (n > 0).then(|| {
                put(&slot.receive.buf[..n]);
                slot.receive.buf.advance(n);
                n
            })
        };
        self.poll_wait(cx, taken)
    }
}

#[cfg(any(feature = "futures-io", feature = "tokio-io"))]
impl StreamReader {
    /// Waits for data and lends all that has arrived; nothing at the end of the stream.
    fn poll_lend(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        if !self.lent.is_empty() {
            if budget::is_used_up(cx) {
                return Poll::Pending;
            }
            budget::spend(1);
        } else {
            let all = |slot: &mut Slot| (!slot.receive.buf.is_empty()).then(|| slot.take(usize::MAX));
            match self.poll_wait(cx, all) {
                Poll::Ready(Ok(data)) => self.lent = data,
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(&self.lent))
    }
}

impl StreamWriter {
    fn writing(&mut self) -> &mut StreamWriter {
        self
    }

    /// Waits while more than the high-water mark is queued, then copies as much as there is room for.
    fn poll_put(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut replaced = None;
        let calm = &mut self.calm;
        let polled = self.key.with(|common, slot| {
            if let Err(e) = slot.writable() {
                return Poll::Ready(Err(e));
            }
            let Some(room) = slot.send.room() else {
                replaced = slot.send.wait(cx.waker());
                return Poll::Pending;
            };
            let mut left = room;
            for piece in pieces {
                let fits = &piece[..piece.len().min(left)];
                slot.write_copy(common, fits);
                left -= fits.len();
            }
            *calm = slot.send.calm();
            Poll::Ready(Ok(room - left))
        });
        drop(replaced);
        polled.unwrap_or_else(|e| Poll::Ready(Err(e)))
    }

    /// `write_eof`, then waits until the kernel has taken everything written.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.key.with(|common, slot| {
            // A closed writer only waits for what it wrote.
            if slot.send.phase == Phase::Open { slot.write_eof(common) } else { Ok(()) }
        });
        match ended.and_then(|ended| ended) {
            Ok(()) => self.poll_sent(cx),
            Err(e) => Poll::Ready(Err(e)),
        }
    }
}

impl Send {
    /// Bytes that a write may queue; `None` above the high-water mark.
    fn room(&self) -> Option<usize> {
        // At least `OWNED_MIN`: just below the mark, smaller pieces would not be worth a turn.
        self.high.checked_sub(self.queued).map(|room| room.max(OWNED_MIN))
    }
}
