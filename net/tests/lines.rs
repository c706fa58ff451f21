//! Iteration by lines, on every kernel.

mod common;

use std::{
    future::poll_fn,
    io::{self, ErrorKind},
    pin::{Pin, pin},
    string::FromUtf8Error,
    task::{Context, Poll, Waker},
    time::Duration,
};

use common::{on_every_seed, until};
use corio_net::{Connection, Lines, ReadError, StreamReader, StreamWriter, TcpListener};
use corio_runtime::{create_task, time::sleep, yield_now};
use futures_core::Stream;

fn on_every(program: impl AsyncFn() -> io::Result<()>) {
    on_every_seed(4, common::every_fault(), program);
}

/// What the writer writes, the reader reads, with this limit. The other two keep the connection.
async fn pair(limit: usize) -> io::Result<(StreamReader, StreamWriter, (StreamReader, StreamWriter))> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (reader, unwritten) = Connection::builder().limit(limit).connect(listener.local_addr()?).await?;
    let (unread, writer) = listener.accept().await?.0.into_streams();
    Ok((reader, writer, (unread, unwritten)))
}

async fn all(mut lines: Lines<'_>) -> io::Result<Vec<String>> {
    let mut all = Vec::new();
    while let Some(line) = lines.next().await {
        all.push(line?);
    }
    Ok(all)
}

#[test]
fn str_51_lines_come_until_the_end_of_the_stream() {
    on_every(async || {
        let (mut reader, mut writer, _open) = pair(65536).await?;
        let writing = create_task(async move {
            for piece in ["one\ntw", "o\r", "\n\nthr\ree", "\nlast"] {
                writer.write(piece)?;
                yield_now().await;
            }
            writer.write_eof()?;
            io::Result::Ok(writer)
        });
        assert_eq!(all(reader.lines()).await?, ["one", "two", "", "thr\ree", "last"]);
        assert!(reader.at_eof() && reader.lines().next().await.is_none());
        writing.await??;
        let (mut reader, mut writer, _open) = pair(65536).await?;
        writer.write("ended\n")?;
        writer.write_eof()?;
        assert_eq!(all(reader.lines()).await?, ["ended"]);
        Ok(())
    });
}

#[test]
fn str_51_lines_are_a_stream() {
    on_every(async || {
        let (mut reader, mut writer, _open) = pair(65536).await?;
        writer.write("one\ntwo\n")?;
        writer.write_eof()?;
        let mut lines = reader.lines();
        for expected in ["one", "two"] {
            let line = poll_fn(|cx| Pin::new(&mut lines).poll_next(cx)).await.unwrap();
            assert_eq!(line?, expected);
        }
        assert!(poll_fn(|cx| Pin::new(&mut lines).poll_next(cx)).await.is_none());
        Ok(())
    });
}

#[test]
fn str_51_a_dropped_iteration_loses_nothing_wherever_it_is_dropped() {
    on_every(async || {
        let (mut reader, mut writer, _open) = pair(65536).await?;
        let (mut given, mut dropped) = (Vec::new(), 0);
        for (n, byte) in b"one\ntwo\nthree\n".iter().enumerate() {
            writer.write(&[*byte])?;
            writer.flush().await?;
            sleep(Duration::from_millis(5)).await;
            // The future alone, then the whole iteration.
            let mut lines = reader.lines();
            let polled = pin!(lines.next()).poll(&mut Context::from_waker(Waker::noop()));
            match polled {
                Poll::Ready(line) => given.push(line.unwrap()?),
                Poll::Pending => dropped += 1,
            }
            if n % 2 == 0 && *byte != b'\n' {
                assert!(pin!(lines.next()).poll(&mut Context::from_waker(Waker::noop())).is_pending());
            }
        }
        writer.write_eof()?;
        given.extend(all(reader.lines()).await?);
        assert_eq!(given, ["one", "two", "three"]);
        assert!(dropped > 5);
        Ok(())
    });
}

#[test]
fn str_51_after_some_lines_the_reader_has_all_that_follows() {
    on_every(async || {
        let (mut reader, mut writer, _open) = pair(65536).await?;
        writer.write("header\nbody\nmore")?;
        writer.write_eof()?;
        assert_eq!(reader.lines().next().await.unwrap()?, "header");
        assert_eq!(reader.read_to_end().await?, b"body\nmore");
        Ok(())
    });
}

#[test]
fn str_51_a_line_over_the_limit_is_an_overrun_and_the_iteration_goes_on_behind_it() {
    on_every(async || {
        let (mut reader, mut writer, _open) = pair(7).await?;
        writer.write("1234567\n12345678\nshort\n")?;
        writer.write_eof()?;
        until(|| common::number(&reader, "buffered") == 23).await;
        let mut lines = reader.lines();
        assert_eq!(lines.next().await.unwrap()?, "1234567");
        let overrun = lines.next().await.unwrap();
        assert!(matches!(overrun, Err(ReadError::LimitOverrun { consumed: 8 })), "{overrun:?}");
        assert_eq!(all(lines).await?, ["short"]);
        Ok(())
    });
}

#[test]
fn str_51_a_line_that_is_no_text_is_an_error_with_its_bytes() {
    on_every(async || {
        let (mut reader, mut writer, _open) = pair(65536).await?;
        writer.write(b"\xff\xfe\r\ntext\n")?;
        writer.write_eof()?;
        let mut lines = reader.lines();
        let Some(Err(ReadError::Io(error))) = lines.next().await else { panic!("it is taken for text") };
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!(error.get_ref().unwrap().downcast_ref::<FromUtf8Error>().unwrap().as_bytes(), b"\xff\xfe");
        assert_eq!(all(lines).await?, ["text"]);
        Ok(())
    });
}
