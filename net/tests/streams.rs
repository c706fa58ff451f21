//! The rows of the asyncio conformance list about StreamReader and StreamWriter, on every kernel.

mod common;

use std::{io, time::Duration};

use bytes::Bytes;
use common::{number, until};
use corio_net::{
    Connection, ReadError, StreamReader, StreamWriter, TcpListener, WriteBuf, open_connection, start_server,
};
use corio_runtime::{
    Faults, create_task,
    time::{sleep, timeout},
    yield_now,
};

fn on_every(program: impl AsyncFn() -> io::Result<()>) {
    common::on_every_seed(2, Faults::default(), program);
}

/// What a connection needs to stay open.
struct Pair {
    reader: StreamReader,
    writer: StreamWriter,
    _unread: StreamReader,
    _unwritten: StreamWriter,
}

/// What `writer` writes, `reader` reads, with this limit.
async fn pair(limit: usize) -> io::Result<Pair> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (reader, _unwritten) = Connection::builder().limit(limit).connect(listener.local_addr()?).await?;
    let (_unread, writer) = listener.accept().await?.0.into_streams();
    Ok(Pair { reader, writer, _unread, _unwritten })
}

/// A reader, with this limit, of a stream that consists of `pieces`, each sent in a turn of its own.
async fn fed(limit: usize, pieces: &'static [&'static str]) -> io::Result<Pair> {
    let mut pair = pair(limit).await?;
    for piece in pieces {
        pair.writer.write(*piece)?;
        yield_now().await;
    }
    pair.writer.write_eof()?;
    Ok(pair)
}

/// So many bytes have arrived.
async fn arrived(count: usize, reader: &StreamReader) {
    until(|| number(reader, "buffered") == count).await;
}

#[test]
fn str_04_str_07_str_08_reads_of_nothing_and_of_everything() {
    on_every(async || {
        let mut p = fed(65536, &["chunk1\n", "chunk2"]).await?;
        assert!(p.reader.read(0).await?.is_empty());
        arrived(13, &p.reader).await;
        assert!(p.reader.read(0).await?.is_empty());
        assert_eq!(number(&p.reader, "buffered"), 13, "nothing is taken");
        assert_eq!(p.reader.read_to_end().await?, b"chunk1\nchunk2");
        assert!(p.reader.read(1024).await?.is_empty());
        let Pair { mut reader, mut writer, _unread, _unwritten } = pair(65536).await?;
        let reading = create_task(async move { reader.read_to_end().await });
        for piece in ["chunk1\n", "chunk2"] {
            sleep(Duration::from_millis(5)).await;
            assert!(!reading.done(), "the stream has not ended");
            writer.write(piece)?;
        }
        sleep(Duration::from_millis(5)).await;
        writer.write_eof()?;
        assert_eq!(reading.await??, b"chunk1\nchunk2");
        assert_eq!(p.reader.read_into(&mut [0; 4]).await?, 0);
        Ok(())
    });
}

#[test]
fn str_05_str_06_a_read_gives_what_has_come_and_waits_for_no_more() {
    on_every(async || {
        let Pair { mut reader, mut writer, _unread, _unwritten } = pair(65536).await?;
        let reading = create_task(async move {
            let read = reader.read(30).await?;
            io::Result::Ok((read, reader))
        });
        yield_now().await;
        writer.write("123456789012345678")?;
        let (read, mut reader) =
            timeout(Duration::from_secs(10), reading).await.expect("it waits for 30")??;
        assert_eq!(read, b"123456789012345678");
        writer.write("abcdef")?;
        arrived(6, &reader).await;
        assert_eq!(reader.read(3).await?, b"abc");
        let mut buf = [0; 30];
        let read = timeout(Duration::from_secs(10), reader.read_into(&mut buf)).await;
        assert_eq!(read.expect("it waits for 30")?, 3);
        assert_eq!(&buf[..3], b"def");
        Ok(())
    });
}

#[test]
fn str_10_a_limit_of_zero_is_refused() {
    on_every(async || {
        let error = Connection::builder().limit(0).connect("127.0.0.1:1").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        Ok(())
    });
}

#[test]
fn str_11_29_the_limit_caps_neither_read_nor_readexactly() {
    on_every(async || {
        let mut p = fed(3, &["chunk", "chunk", "chunk"]).await?;
        assert_eq!(p.reader.readexactly(10).await?, b"chunkchunk");
        arrived(5, &p.reader).await;
        assert_eq!(p.reader.read(5).await?, b"chunk");
        Ok(())
    });
}

#[test]
fn str_12_16_17_18_lines() {
    on_every(async || {
        let mut p = fed(65536, &["chunk1 ", "chunk2 ", "chunk3 ", "\n chunk4"]).await?;
        assert_eq!(p.reader.readline().await?, b"chunk1 chunk2 chunk3 \n");
        assert_eq!(p.reader.readline().await?, b" chunk4");
        assert_eq!(p.reader.readline().await?, b"");
        let mut p = fed(65536, &["line1\nline2\nline3\n"]).await?;
        assert_eq!(p.reader.readline().await?, b"line1\n");
        assert_eq!(p.reader.readexactly(7).await?, b"line2\nl");
        Ok(())
    });
}

#[test]
fn str_13_str_14_a_line_over_the_limit_is_dropped_and_nothing_behind_it() {
    let overrun = |read| matches!(read, Err(ReadError::LimitOverrun { .. }));
    on_every(async || {
        let table = [
            // No end of a line: all that there is.
            (7, "chunk1chunk2chunk3", ""),
            // A first line that is too long.
            (7, "chunk1chunk2\nchunk3\n", "chunk3\n"),
            (3, "line1\nline2\n", "line2\n"),
            (7, "12345678\n", ""),
        ];
        for (limit, sent, left) in table {
            let mut p = pair(limit).await?;
            p.writer.write(sent)?;
            p.writer.write_eof()?;
            arrived(sent.len(), &p.reader).await;
            assert!(overrun(p.reader.readline().await), "{sent:?} with {limit}");
            assert_eq!(number(&p.reader, "buffered"), left.len(), "{sent:?} with {limit}");
            assert_eq!(p.reader.read_to_end().await?, left.as_bytes(), "{sent:?} with {limit}");
        }
        // The limit does not count the end of the line.
        let mut p = fed(7, &["1234567\n", "12345678\n"]).await?;
        assert_eq!(p.reader.readline().await?, b"1234567\n");
        arrived(9, &p.reader).await;
        assert!(overrun(p.reader.readline().await));
        assert!(p.reader.read(100).await?.is_empty());
        Ok(())
    });
}

#[test]
fn str_15_at_eof_means_ended_and_read_out() {
    on_every(async || {
        let mut p = pair(65536).await?;
        assert!(!p.reader.at_eof(), "nothing has come");
        p.writer.write("xy")?;
        assert_eq!(p.reader.readexactly(1).await?, b"x");
        p.writer.write_eof()?;
        // The end is noticed: what is read next is all that there is.
        let all = p.reader.readuntil(b"z").await;
        assert!(matches!(all, Err(ReadError::IncompleteRead { .. })), "{all:?}");
        assert!(p.reader.at_eof());
        let mut p = fed(65536, &["x"]).await?;
        arrived(1, &p.reader).await;
        // The end as well, most likely.
        sleep(Duration::from_millis(20)).await;
        assert!(!p.reader.at_eof(), "a byte is unread");
        p.reader.readexactly(1).await?;
        until(|| p.reader.at_eof()).await;
        Ok(())
    });
}

#[test]
fn str_19_20_21_22_separators() {
    on_every(async || {
        let mut p = fed(65536, &["lineAAAxxx"]).await?;
        assert!(p.reader.readuntil(b"").await.is_err());
        assert_eq!(p.reader.readuntil(b"AAA").await?, b"lineAAA");
        assert_eq!(p.reader.read_to_end().await?, b"xxx");
        let mut p = fed(65536, &["QWEaa", "XYaa", "a"]).await?;
        assert_eq!(p.reader.readuntil(b"aaa").await?, b"QWEaaXYaaa");
        let mut p = fed(65536, &["some dataAA"]).await?;
        match p.reader.readuntil(b"AAA").await {
            Err(ReadError::IncompleteRead { partial, expected: None }) => assert_eq!(partial, b"some dataAA"),
            other => panic!("{other:?}"),
        }
        assert!(p.reader.at_eof());
        Ok(())
    });
}

#[test]
fn str_23_readuntil_over_the_limit_keeps_the_data() {
    on_every(async || {
        let mut p = pair(3).await?;
        p.writer.write("some dataAA")?;
        arrived(11, &p.reader).await;
        let overrun = |result| matches!(result, Err(ReadError::LimitOverrun { consumed: 9 }));
        assert!(overrun(p.reader.readuntil(b"AAA").await));
        assert_eq!(number(&p.reader, "buffered"), 11, "the data stays");
        assert_eq!(p.reader.readexactly(11).await?, b"some dataAA");
        // The separator is there, behind too many bytes.
        p.writer.write("some dataAAA")?;
        arrived(12, &p.reader).await;
        assert!(overrun(p.reader.readuntil(b"AAA").await));
        assert_eq!(number(&p.reader, "buffered"), 12, "the data stays");
        assert_eq!(p.reader.readexactly(12).await?, b"some dataAAA");
        Ok(())
    });
}

#[test]
fn str_19_no_separator_and_an_empty_one_are_refused_and_take_nothing() {
    on_every(async || {
        let mut p = fed(65536, &["some data"]).await?;
        for separators in [&[][..], &[&b""[..]], &[b"A", b""], &[b"", b"some"]] {
            match p.reader.readuntil_any(separators).await {
                Err(ReadError::Io(e)) => assert_eq!(e.kind(), io::ErrorKind::InvalidInput),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(p.reader.read_to_end().await?, b"some data");
        Ok(())
    });
}

#[test]
fn str_24_of_several_separators_the_one_that_ends_first_wins() {
    on_every(async || {
        type Case<'a> = (&'a [&'a str], &'a [&'a [u8]], &'a [u8]);
        let cases: [Case<'_>; 5] = [
            (&["ABCDEFG"], &[b"DEF", b"BCDE"], b"ABCDE"),
            (&["ABCDEFG"], &[b"BCDE", b"DEF"], b"ABCDE"),
            (&["ABCDEFG"], &[b"DE", b"BCDE"], b"ABCDE"),
            (&["ABCD", "EFG"], &[b"G", b"DEF"], b"ABCDEF"),
            (&["a\r", "\nb"], &[b"\r\n", b"\n\n"], b"a\r\n"),
        ];
        for (pieces, separators, expected) in cases {
            let mut p = pair(65536).await?;
            for piece in pieces {
                p.writer.write(*piece)?;
                yield_now().await;
            }
            p.writer.write_eof()?;
            assert_eq!(p.reader.readuntil_any(separators).await?, expected);
            let rest = &pieces.concat().into_bytes()[expected.len()..];
            match p.reader.readuntil_any(&[b"nowhere", b"!"]).await {
                Err(ReadError::IncompleteRead { partial, expected: None }) => assert_eq!(partial, rest),
                other => panic!("{other:?}"),
            }
        }
        Ok(())
    });
}

#[test]
fn str_25_with_several_separators_an_overrun_keeps_the_data() {
    on_every(async || {
        let mut p = pair(3).await?;
        p.writer.write("some dataA")?;
        arrived(10, &p.reader).await;
        // Both end together: the shorter one counts, which begins later.
        let found = p.reader.readuntil_any(&[b"ome dataA", b"A"]).await;
        assert!(matches!(found, Err(ReadError::LimitOverrun { consumed: 9 })), "{found:?}");
        // None is there: the longest one may begin in the last 4 bytes.
        let missing = p.reader.readuntil_any(&[b"!", b"dataX"]).await;
        assert!(matches!(missing, Err(ReadError::LimitOverrun { consumed: 6 })), "{missing:?}");
        assert_eq!(number(&p.reader, "buffered"), 10, "the data stays");
        assert_eq!(p.reader.readexactly(10).await?, b"some dataA");
        Ok(())
    });
}

#[test]
fn str_26_a_separator_longer_than_the_data_is_searched_for_correctly() {
    on_every(async || {
        let Pair { mut reader, mut writer, _unread, _unwritten } = pair(65536).await?;
        writer.write("data")?;
        arrived(4, &reader).await;
        let reading = create_task(async move {
            let line = reader.readuntil_any(&[b"A", b"long sep"]).await?;
            io::Result::Ok((line, reader))
        });
        for piece in ["Z", "Aaaa"] {
            yield_now().await;
            assert!(!reading.done());
            writer.write(piece)?;
        }
        let (line, mut reader) = reading.await??;
        assert_eq!(line, b"dataZA");
        assert_eq!(reader.readexactly(3).await?, b"aaa");
        // The long one is found, too, when it comes in pieces and a read for it is dropped.
        for piece in ["some lo", "ng", " sepbehind"] {
            let waiting = timeout(Duration::from_millis(2), reader.readuntil_any(&[b"A", b"long sep"])).await;
            assert!(waiting.is_err());
            writer.write(piece)?;
        }
        assert_eq!(reader.readuntil_any(&[b"A", b"long sep"]).await?, b"some long sep");
        assert_eq!(reader.readexactly(6).await?, b"behind");
        Ok(())
    });
}

#[test]
fn str_27_28_30_exact_counts() {
    on_every(async || {
        let mut p = fed(65536, &["123456789012345678", "123456789012345678", "123456789012345678"]).await?;
        assert!(p.reader.readexactly(0).await?.is_empty());
        assert_eq!(p.reader.readexactly(36).await?.len(), 36);
        let error = p.reader.readexactly(36).await.unwrap_err();
        assert_eq!(error.to_string(), "18 bytes read on a total of 36 expected bytes");
        match error {
            ReadError::IncompleteRead { partial, expected: Some(36) } => assert_eq!(partial.len(), 18),
            other => panic!("{other:?}"),
        }
        assert!(p.reader.at_eof(), "what there was is no longer in the stream");
        Ok(())
    });
}

#[test]
fn str_34_a_reader_that_does_not_read_stops_the_writer() {
    on_every(async || {
        let mut p = pair(4096).await?;
        let mut accepted = 0;
        let stuck = async {
            loop {
                p.writer.write_all(vec![7; 50_000]).await?;
                accepted += 50_000;
            }
        };
        let stuck: Result<io::Result<()>, _> = timeout(Duration::from_millis(300), stuck).await;
        assert!(stuck.is_err(), "the writer was never stopped: {stuck:?}");
        // The kernel's buffers, ours, and the last piece.
        assert!(accepted < 32 << 20, "{accepted} bytes were taken");
        // Ours is twice the limit, and what one receive brings beyond it.
        let buffered = number(&p.reader, "buffered");
        assert!((4097..=2 * 4096 + 65536).contains(&buffered), "{buffered} bytes are buffered");
        let (total, mut read) = (accepted + 50_000, 0);
        while read < total {
            // Reads that want no more than there is make it receive again.
            let piece = timeout(Duration::from_secs(10), p.reader.read(1000)).await;
            read += piece.expect("it receives no more")?.len();
        }
        assert_eq!(read, total);
        p.writer.write_all("goes on").await?;
        assert_eq!(p.reader.readexactly(7).await?, b"goes on");
        Ok(())
    });
}

#[test]
fn str_34_small_pieces_too_are_received_up_to_twice_the_limit_only() {
    on_every(async || {
        let mut p = pair(4096).await?;
        for _ in 0..400 {
            p.writer.write(vec![7; 1000])?;
            // Most of them arrive alone.
            yield_now().await;
            yield_now().await;
        }
        sleep(Duration::from_millis(20)).await;
        let buffered = number(&p.reader, "buffered");
        assert!((4097..=2 * 4096 + 65536).contains(&buffered), "{buffered} bytes are buffered");
        for _ in 0..400 {
            let piece = timeout(Duration::from_secs(10), p.reader.readexactly(1000)).await;
            assert_eq!(piece.expect("it receives no more")?.len(), 1000);
        }
        Ok(())
    });
}

#[test]
fn str_31_a_waiting_reader_wakes_with_the_connections_error() {
    /// One call of each kind.
    async fn waits(call: usize, reader: &mut StreamReader) -> Result<(), ReadError> {
        match call {
            0 => reader.readline().await.map(drop),
            1 => reader.readuntil(b"end").await.map(drop),
            2 => reader.readexactly(100).await.map(drop),
            3 => reader.read_to_end().await.map(drop).map_err(ReadError::from),
            4 => reader.lines().next().await.unwrap().map(drop),
            _ => reader.read(100).await.map(drop).map_err(ReadError::from),
        }
    }
    on_every(async || {
        for call in 0..6 {
            let Pair { mut reader, mut writer, _unread, _unwritten } = pair(65536).await?;
            writer.write("part")?;
            arrived(4, &reader).await;
            if call == 5 {
                // `read` takes what has arrived, and then waits.
                assert_eq!(reader.read(100).await?, b"part");
            }
            let waiting = create_task(async move { waits(call, &mut reader).await });
            sleep(Duration::from_millis(5)).await;
            assert!(!waiting.done(), "call {call} does not wait");
            writer.abort();
            match timeout(Duration::from_secs(10), waiting).await.expect("it sleeps on")? {
                Err(ReadError::Io(e)) => assert_eq!(e.kind(), io::ErrorKind::ConnectionReset, "call {call}"),
                other => panic!("call {call}: {other:?}"),
            }
        }
        Ok(())
    });
}

#[test]
fn str_44_a_closed_writer_ends_its_reader() {
    on_every(async || {
        let mut p = pair(65536).await?;
        assert!(!p._unread.at_eof());
        p.writer.close();
        assert!(p._unread.at_eof(), "at once, although the peer goes on");
        assert_eq!(p._unread.read(100).await?, b"");
        Ok(())
    });
}

#[test]
fn str_41_str_42_str_43_str_44_close() {
    on_every(async || {
        let mut p = pair(65536).await?;
        p._unwritten.write("unread")?;
        arrived(6, &p._unread).await;
        assert!(!p.writer.is_closing() && p.writer.can_write_eof());
        p.writer.close();
        p.writer.close();
        assert!(p.writer.is_closing());
        p.writer.wait_closed().await?;
        assert_eq!(p.writer.write("late").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(p.writer.drain().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(p._unread.read_to_end().await?, b"unread");
        assert!(p._unread.at_eof() && p.writer.local_addr()?.ip().is_loopback());
        Ok(())
    });
}

#[test]
fn str_52_cancelled_reads_leave_every_byte() {
    on_every(async || {
        let server = start_server("127.0.0.1:0", |mut reader, mut writer| async move {
            let line = reader.readline().await?;
            for byte in line.iter() {
                writer.write(&[*byte])?;
                sleep(Duration::from_millis(1)).await;
            }
            Ok(())
        })
        .await?;
        let (mut reader, mut writer) = open_connection(server.local_addr()?).await?;
        writer.write("hello world!\n")?;
        let (mut line, mut cancelled) = (None, 0);
        while line.is_none() {
            let short = Duration::from_micros(500);
            line = match cancelled % 3 {
                0 => timeout(short, reader.readline()).await.ok(),
                1 => timeout(short, reader.readuntil(b"!\n")).await.ok(),
                _ => timeout(short, reader.readexactly(13)).await.ok(),
            };
            cancelled += 1;
        }
        assert_eq!(line.unwrap()?, b"hello world!\n");
        assert!(cancelled > 3);
        Ok(())
    });
}

#[test]
fn every_kind_of_data_goes_out_in_order() {
    on_every(async || {
        let mut p = pair(65536).await?;
        let mut expected = Vec::new();
        let mut source = Vec::new();
        for round in 0..60usize {
            let len = [1, 100, 5000, 20_000, 70_000][round % 5];
            let data: Vec<u8> = (0..len).map(|i| (i + round) as u8).collect();
            expected.extend_from_slice(&data);
            source.push(data);
        }
        let total = expected.len();
        let reader = create_task(async move { p.reader.readexactly(total).await });
        for (round, data) in source.into_iter().enumerate() {
            let piece: WriteBuf<'_> = match round % 4 {
                0 => WriteBuf::from(&data[..]),
                1 => WriteBuf::from(data),
                2 => WriteBuf::from(Bytes::from(data)),
                _ => WriteBuf::from(corio_net::Chunk::from(&data[..])),
            };
            p.writer.write(piece)?;
            // Several in one turn, and some behind a send that is in flight.
            if round % 7 == 0 {
                yield_now().await;
            }
        }
        assert!(reader.await?? == expected[..]);
        p.writer.writelines(["a", "b"])?;
        p.writer.write(String::from("c"))?;
        p.writer.write(b"d")?;
        p.writer.flush().await?;
        Ok(())
    });
}

#[test]
fn addresses_are_those_of_the_other_end() {
    on_every(async || {
        let p = pair(65536).await?;
        assert_eq!(p.writer.peer_addr()?, p._unwritten.local_addr()?);
        assert_eq!(p.writer.local_addr()?, p._unwritten.peer_addr()?);
        Ok(())
    });
}
