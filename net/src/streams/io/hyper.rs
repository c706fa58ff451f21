//! The traits of hyper.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use hyper::rt::{Read, ReadBufCursor, Write};

use crate::streams::{Stream, StreamReader, StreamWriter};

both! {
    Read for StreamReader {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            mut buf: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            let taken = self.get_mut().reading().poll_take(cx, buf.remaining(), |data| buf.put_slice(data));
            taken.map_ok(drop)
        }
    }
}

both! {
    /// A write is ready below the high-water mark. Shutting down is [`write_eof`](StreamWriter::write_eof): the peer
    /// can still be read, and the connection is closed when the writer is dropped.
    ///
    /// A flush is [`drain`](StreamWriter::drain): hyper flushes after each message, and what was written leaves at the
    /// end of the turn anyway.
    Write for StreamWriter {
        writes!();
        shut_down!();

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.get_mut().writing().poll_drain(cx, &mut false)
        }
    }
}
