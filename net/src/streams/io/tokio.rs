//! The traits of tokio, which come without its runtime.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use crate::streams::{Stream, StreamReader, StreamWriter};

both! {
    AsyncRead for StreamReader {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let taken = self.get_mut().reading().poll_take(cx, buf.remaining(), |data| buf.put_slice(data));
            taken.map_ok(drop)
        }
    }
}

both! {
    /// Without a copy.
    AsyncBufRead for StreamReader {
        buffered_reads!();
    }
}

both! {
    /// A write is ready below the high-water mark. Shutting down is [`write_eof`](StreamWriter::write_eof): the peer
    /// can still be read, and the connection is closed when the writer is dropped.
    AsyncWrite for StreamWriter {
        writes!();
        shut_down!();

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.get_mut().writing().poll_sent(cx)
        }
    }
}
