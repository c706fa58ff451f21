//! The traits of futures-io.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};

use crate::streams::{Stream, StreamReader, StreamWriter};

both! {
    AsyncRead for StreamReader {
        fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
            let room = buf.len();
            self.get_mut().reading().poll_take(cx, room, |data| buf[..data.len()].copy_from_slice(data))
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
    /// A write is ready below the high-water mark. Closing is [`write_eof`](StreamWriter::write_eof): the peer can
    /// still be read, and the connection is closed when the writer is dropped.
    AsyncWrite for StreamWriter {
        writes!();

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.get_mut().writing().poll_sent(cx)
        }

        fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.get_mut().writing().poll_end(cx)
        }
    }
}
