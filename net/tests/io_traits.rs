//! The streams through the traits of futures-io, tokio and hyper: the same promises, on both kernels.

mod common;

use std::{
    future::poll_fn,
    io::{self, IoSlice, Read as _},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use common::{Sequence, number, on_every_seed, pattern, reset, std_listener, until};
use corio_net::{Connection, Stream, TcpListener, hyper::CorioTimer, open_connection};
use corio_runtime::{
    Backend, Faults, Runner, create_task, run,
    time::{now, sleep, timeout},
};
use futures_util::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, future::try_join};
use hyper::rt::Timer as _;

/// asyncio's high-water mark, and what a write may add to it.
const QUEUE_MAX: usize = (64 + 8) << 10;

fn on_every(program: impl AsyncFn() -> io::Result<()>) {
    let faults = Faults::default().short_transfers(0.3).enobufs(0.3).lose_more(0.3);
    on_every_seed(8, faults, async || {
        timeout(Duration::from_secs(30), program()).await.expect("the test hangs")
    });
}

async fn pair() -> io::Result<(Stream, Stream)> {
    pair_with_limit(65536).await
}

async fn pair_with_limit(limit: usize) -> io::Result<(Stream, Stream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let ours = Connection::builder().limit(limit).connect(listener.local_addr()?).await?;
    Ok((Stream::from(ours), Stream::from(listener.accept().await?.0.into_streams())))
}

/// The polls of a family, so that one program serves all three.
#[derive(Clone, Copy, Debug)]
enum Family {
    Futures,
    Tokio,
    Hyper,
}

const FAMILIES: [Family; 3] = [Family::Futures, Family::Tokio, Family::Hyper];

impl Family {
    fn poll_read(self, s: &mut Stream, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let s = Pin::new(s);
        match self {
            Family::Futures => futures_util::AsyncRead::poll_read(s, cx, buf),
            Family::Tokio => {
                let mut buf = tokio::io::ReadBuf::new(buf);
                let polled = tokio::io::AsyncRead::poll_read(s, cx, &mut buf);
                polled.map_ok(|()| buf.filled().len())
            }
            Family::Hyper => {
                let mut buf = hyper::rt::ReadBuf::new(buf);
                let polled = hyper::rt::Read::poll_read(s, cx, buf.unfilled());
                polled.map_ok(|()| buf.filled().len())
            }
        }
    }

    fn poll_write(self, s: &mut Stream, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let s = Pin::new(s);
        match self {
            Family::Futures => futures_util::AsyncWrite::poll_write(s, cx, data),
            Family::Tokio => tokio::io::AsyncWrite::poll_write(s, cx, data),
            Family::Hyper => hyper::rt::Write::poll_write(s, cx, data),
        }
    }

    fn poll_flush(self, s: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let s = Pin::new(s);
        match self {
            Family::Futures => futures_util::AsyncWrite::poll_flush(s, cx),
            Family::Tokio => tokio::io::AsyncWrite::poll_flush(s, cx),
            Family::Hyper => hyper::rt::Write::poll_flush(s, cx),
        }
    }

    fn poll_end(self, s: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let s = Pin::new(s);
        match self {
            Family::Futures => futures_util::AsyncWrite::poll_close(s, cx),
            Family::Tokio => tokio::io::AsyncWrite::poll_shutdown(s, cx),
            Family::Hyper => hyper::rt::Write::poll_shutdown(s, cx),
        }
    }

    async fn read(self, s: &mut Stream, buf: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(s, cx, buf)).await
    }

    async fn read_to_end(self, s: &mut Stream) -> io::Result<Vec<u8>> {
        let (mut all, mut buf) = (Vec::new(), vec![0; 5000]);
        loop {
            match self.read(s, &mut buf).await? {
                0 => return Ok(all),
                n => all.extend_from_slice(&buf[..n]),
            }
        }
    }

    async fn write_all(self, s: &mut Stream, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let n = poll_fn(|cx| self.poll_write(s, cx, data)).await?;
            assert!(n > 0, "a write of nothing");
            data = &data[n..];
        }
        Ok(())
    }

    async fn end(self, s: &mut Stream) -> io::Result<()> {
        poll_fn(|cx| self.poll_end(s, cx)).await
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    fn new() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (count.clone(), Waker::from(count))
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Writes until nobody takes more; `waker` is the one that waits then.
async fn fill(family: Family, s: &mut Stream, sequence: &mut Sequence, waker: &Waker) -> io::Result<()> {
    loop {
        let mut next = *sequence;
        let data = next.take(10_000);
        let write = poll_fn(|cx| family.poll_write(s, cx, &data));
        sequence.at += match timeout(Duration::from_millis(50), write).await {
            Ok(n) => n?,
            Err(_) => match family.poll_write(s, &mut Context::from_waker(waker), &data) {
                Poll::Ready(n) => n?,
                Poll::Pending => return Ok(()),
            },
        }
    }
}

#[test]
fn every_byte_arrives_in_order_and_an_end_closes_one_half() {
    on_every(async || {
        for family in FAMILIES {
            let (mut ours, mut theirs) = pair().await?;
            let server = create_task(async move {
                let request = family.read_to_end(&mut theirs).await?;
                family.write_all(&mut theirs, &request).await?;
                family.end(&mut theirs).await?;
                // Nothing follows the end, and a second changes nothing.
                let late = family.write_all(&mut theirs, b"late").await;
                assert_eq!(late.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
                family.end(&mut theirs).await
            });
            let message = pattern(300_000, 7);
            family.write_all(&mut ours, &message).await?;
            family.end(&mut ours).await?;
            assert!(family.read_to_end(&mut ours).await? == message, "{family:?}");
            assert_eq!(family.read(&mut ours, &mut [0; 10]).await?, 0, "the end stays");
            server.await??;
        }
        Ok(())
    });
}

#[test]
fn the_copies_of_the_libraries_work() {
    on_every(async || {
        let message = pattern(200_000, 3);
        let (ours, theirs) = pair().await?;
        let (mut reader, mut writer) = ours.into_split();
        let (from, mut to) = theirs.into_split();
        let echo = async {
            futures_util::io::copy(from, &mut to).await?;
            to.close();
            to.wait_closed().await
        };
        let client = async {
            AsyncWriteExt::write_all(&mut writer, &message).await?;
            AsyncWriteExt::close(&mut writer).await?;
            let mut reply = Vec::new();
            AsyncReadExt::read_to_end(&mut reader, &mut reply).await?;
            assert!(reply == message);
            Ok(())
        };
        try_join(echo, client).await?;

        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (ours, mut theirs) = pair().await?;
        let (mut reader, mut writer) = tokio::io::split(ours);
        let echo = async {
            let (mut from, mut to) = tokio::io::split(&mut theirs);
            tokio::io::copy(&mut from, &mut to).await?;
            to.shutdown().await
        };
        let client = async {
            writer.write_all(&message).await?;
            writer.shutdown().await?;
            let mut reply = Vec::new();
            reader.read_to_end(&mut reply).await?;
            assert!(reply == message);
            Ok(())
        };
        try_join(echo, client).await?;
        Ok(())
    });
}

#[test]
fn a_vectored_write_takes_its_pieces_in_order() {
    on_every(async || {
        for family in FAMILIES {
            let (mut ours, mut theirs) = pair().await?;
            let pieces =
                [IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two "), IoSlice::new(b"three")];
            let written = poll_fn(|cx| {
                let ours = Pin::new(&mut ours);
                match family {
                    Family::Futures => futures_util::AsyncWrite::poll_write_vectored(ours, cx, &pieces),
                    Family::Tokio => tokio::io::AsyncWrite::poll_write_vectored(ours, cx, &pieces),
                    Family::Hyper => hyper::rt::Write::poll_write_vectored(ours, cx, &pieces),
                }
            });
            assert_eq!(written.await?, 13);
            family.end(&mut ours).await?;
            assert_eq!(family.read_to_end(&mut theirs).await?, b"one two three", "{family:?}");
            assert!(tokio::io::AsyncWrite::is_write_vectored(&ours));
            assert!(hyper::rt::Write::is_write_vectored(&ours));
        }
        Ok(())
    });
}

#[test]
fn a_write_waits_above_high_water_and_is_woken_at_low() {
    on_every(async || {
        for family in FAMILIES {
            let (mut ours, mut theirs) = pair().await?;
            let (woken, waker) = Count::new();
            let (mut sent, mut got) = (Sequence::default(), Sequence::default());
            fill(family, &mut ours, &mut sent, &waker).await?;
            assert!(number(&ours, "queued") <= QUEUE_MAX, "{family:?}: {ours:?}");
            let cx = &mut Context::from_waker(&waker);
            assert!(family.poll_flush(&mut ours, cx).is_pending(), "{family:?}");

            let (before, mut buf) = (woken.get(), vec![0; 50_000]);
            while got.at < sent.at {
                let n = family.read(&mut theirs, &mut buf).await?;
                got.expect(&buf[..n]);
            }
            assert!(woken.get() > before, "{family:?}: nobody was told of the room");
            family.write_all(&mut ours, &sent.take(10)).await?;
            let n = family.read(&mut theirs, &mut buf).await?;
            got.expect(&buf[..n]);
        }
        Ok(())
    });
}

#[test]
fn a_write_takes_no_more_than_the_queue_may_hold() {
    on_every(async || {
        for family in FAMILIES {
            let (mut ours, _theirs) = pair().await?;
            let large = vec![0; 1 << 20];
            let n = poll_fn(|cx| family.poll_write(&mut ours, cx, &large)).await?;
            assert!((1..=QUEUE_MAX).contains(&n), "{family:?}: {n}");
        }
        Ok(())
    });
}

/// With no room for anything in the queue each write still goes out, one after the other.
#[test]
fn a_high_water_mark_of_zero_stops_nobody() {
    on_every(async || {
        for family in FAMILIES {
            let (ours, mut theirs) = pair().await?;
            let (reader, mut writer) = ours.into_split();
            writer.set_write_buffer_limits(0, 0)?;
            let mut ours = Stream::from((reader, writer));
            let message = pattern(40_000, 5);
            family.write_all(&mut ours, &message).await?;
            family.end(&mut ours).await?;
            assert!(family.read_to_end(&mut theirs).await? == message, "{family:?}");
        }
        Ok(())
    });
}

/// hyper flushes after each message, where waiting would cost a turn: for it a flush is a drain.
#[test]
fn a_flush_waits_for_the_kernel_and_hypers_only_above_high_water() {
    on_every(async || {
        for family in FAMILIES {
            let (mut ours, _theirs) = pair().await?;
            family.write_all(&mut ours, b"a few bytes").await?;
            let before = number(&ours, "queued");
            let waited = poll_fn(|cx| Poll::Ready(family.poll_flush(&mut ours, cx).is_pending())).await;
            assert_eq!((before, waited), (11, !matches!(family, Family::Hyper)), "{family:?}");
            poll_fn(|cx| family.poll_flush(&mut ours, cx)).await?;
            if !matches!(family, Family::Hyper) {
                assert_eq!(number(&ours, "queued"), 0, "{family:?}");
            }
        }
        Ok(())
    });
}

#[test]
fn the_last_waker_is_the_one_that_is_woken() {
    on_every(async || {
        for family in FAMILIES {
            let (mut ours, mut theirs) = pair().await?;
            let [(first, old), (second, new)] = [Count::new(), Count::new()];
            for waker in [&old, &new] {
                let polled = family.poll_read(&mut ours, &mut Context::from_waker(waker), &mut [0; 10]);
                assert!(polled.is_pending());
            }
            family.write_all(&mut theirs, b"data").await?;
            until(|| second.get() > 0).await;
            assert_eq!((first.get(), second.get()), (0, 1), "{family:?}: reading");

            fill(family, &mut ours, &mut Sequence::default(), &old).await?;
            let told = first.get();
            assert!(family.poll_write(&mut ours, &mut Context::from_waker(&new), b"more").is_pending());
            while second.get() == 1 {
                family.read(&mut theirs, &mut vec![0; 50_000]).await?;
            }
            assert_eq!((first.get(), second.get()), (told, 2), "{family:?}: writing");
        }
        Ok(())
    });
}

#[test]
fn polls_that_nobody_repeats_lose_nothing_and_lift_no_limit() {
    on_every(async || {
        for family in FAMILIES {
            let (mut ours, mut theirs) = pair_with_limit(4096).await?;
            let (_, waker) = Count::new();
            assert!(family.poll_read(&mut ours, &mut Context::from_waker(&waker), &mut [0; 1]).is_pending());
            let message = pattern(300_000, 1);
            let sent = message.clone();
            let sender = create_task(async move {
                family.write_all(&mut theirs, &sent).await?;
                family.end(&mut theirs).await
            });
            sleep(Duration::from_millis(50)).await;
            assert!(number(&ours, "buffered") <= 4 * 4096, "{family:?}: {ours:?}");
            let mut got = Vec::new();
            while got.len() < message.len() {
                let mut buf = [0; 3000];
                let read = family.read(&mut ours, &mut buf);
                if let Ok(n) = timeout(Duration::from_micros(1 + got.len() as u64 % 7), read).await {
                    got.extend_from_slice(&buf[..n?]);
                }
            }
            assert!(got == message, "{family:?}");
            sender.await??;
        }
        Ok(())
    });
}

#[test]
fn lines_are_found_without_a_copy_and_mix_with_other_reads() {
    on_every(async || {
        let (mut ours, mut theirs) = pair().await?;
        Family::Tokio.write_all(&mut theirs, b"one\ntwo\nthree\nfour").await?;
        Family::Tokio.end(&mut theirs).await?;
        let mut line = String::new();
        AsyncBufReadExt::read_line(&mut ours, &mut line).await?;
        tokio::io::AsyncBufReadExt::read_line(&mut ours, &mut line).await?;
        assert_eq!(line, "one\ntwo\n");
        let (mut reader, _writer) = ours.into_split();
        // What is lent goes back to the stream, in front of what came later.
        assert_eq!(reader.readexactly(2).await?, b"th");
        assert_eq!(AsyncBufReadExt::fill_buf(&mut reader).await?[..3], *b"ree");
        assert!(!reader.at_eof());
        assert_eq!(reader.readline().await?, b"ree\n");
        assert_eq!(tokio::io::AsyncBufReadExt::fill_buf(&mut reader).await?[..1], *b"f");
        let mut buf = [0; 2];
        assert_eq!(AsyncReadExt::read(&mut reader, &mut buf).await?, 2);
        let mut rest = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut rest).await?;
        assert_eq!((buf, &rest[..]), (*b"fo", &b"ur"[..]));
        assert!(reader.at_eof());
        assert!(AsyncBufReadExt::fill_buf(&mut reader).await?.is_empty());
        Ok(())
    });
}

#[test]
fn a_read_that_is_made_before_its_loop_runs_finds_what_is_lent() {
    let mut runner = Runner::new().unwrap();
    let (mut reader, _writer) = runner.run(async {
        let (mut ours, mut theirs) = pair().await.unwrap();
        Family::Tokio.write_all(&mut theirs, b"one\ntwo\n").await.unwrap();
        let mut line = String::new();
        AsyncBufReadExt::read_line(&mut ours, &mut line).await.unwrap();
        ours.into_split()
    });
    // The argument is made outside the loop.
    assert_eq!(runner.run(reader.read(100)).unwrap(), b"two\n");
}

#[test]
fn a_read_of_nothing_and_one_that_is_never_polled_leave_what_is_lent_alone() {
    on_every(async || {
        let (mut ours, mut theirs) = pair().await?;
        Family::Tokio.write_all(&mut theirs, b"data").await?;
        let (mut reader, _writer) = {
            let lent = AsyncBufReadExt::fill_buf(&mut ours).await?.len();
            assert!(lent > 0);
            ours.into_split()
        };
        drop(reader.read(1));
        assert!(reader.read(0).await?.is_empty());
        AsyncBufReadExt::consume_unpin(&mut reader, 1);
        assert_eq!(reader.readexactly(3).await?, b"ata");
        Ok(())
    });
}

#[test]
fn what_is_lent_stays_in_front_of_what_arrives_meanwhile() {
    on_every(async || {
        let (ours, mut theirs) = pair().await?;
        let (mut reader, _writer) = ours.into_split();
        let mut sent = Sequence::default();
        let mut got = Sequence::default();
        for round in 0..200 {
            Family::Futures.write_all(&mut theirs, &sent.take(1 + round * 37 % 500)).await?;
            sleep(Duration::from_millis(1)).await;
            let lent = AsyncBufReadExt::fill_buf(&mut reader).await?;
            let part = lent.len() / (1 + round % 3);
            got.expect(&lent[..part]);
            AsyncBufReadExt::consume_unpin(&mut reader, part);
            // There is always some left to read, and never so much that the writer waits for ever.
            if got.at < sent.at && round % 4 == 0 {
                got.expect(&reader.read(round * 200).await?);
            }
        }
        while got.at < sent.at {
            got.expect(&reader.read(usize::MAX).await?);
        }
        Ok(())
    });
}

#[test]
fn nothing_is_read_into_an_empty_buffer() {
    on_every(async || {
        for family in FAMILIES {
            let (mut ours, _theirs) = pair().await?;
            assert_eq!(family.read(&mut ours, &mut []).await?, 0);
        }
        Ok(())
    });
}

#[test]
fn ending_a_writer_that_was_closed_waits_for_what_it_wrote() {
    on_every(async || {
        for family in FAMILIES {
            let (ours, mut theirs) = pair().await?;
            let (reader, mut writer) = ours.into_split();
            let message = pattern(100_000, 2);
            writer.write(&message)?;
            writer.close();
            let mut ours = Stream::from((reader, writer));
            let reading = create_task(async move { family.read_to_end(&mut theirs).await });
            family.end(&mut ours).await?;
            assert_eq!(number(&ours, "queued"), 0);
            assert!(reading.await?? == message, "{family:?}");
        }
        Ok(())
    });
}

#[test]
fn a_reset_is_an_error_of_every_poll() {
    for family in FAMILIES {
        run(async {
            let (listener, addr) = std_listener().unwrap();
            let mut ours = Stream::from(open_connection(addr).await.unwrap());
            let mut peer = listener.accept().unwrap().0;
            family.write_all(&mut ours, b"x").await.unwrap();
            sleep(Duration::from_millis(1)).await;
            peer.read_exact(&mut [0]).unwrap();
            reset(peer);
            let gone = io::ErrorKind::ConnectionReset;
            let error = family.read(&mut ours, &mut [0; 10]).await.unwrap_err();
            assert_eq!(error.kind(), gone, "{family:?}: reading");
            let error = family.write_all(&mut ours, b"x").await.unwrap_err();
            assert_eq!(error.kind(), gone, "{family:?}: writing");
            let error = family.end(&mut ours).await.unwrap_err();
            assert_eq!(error.kind(), gone, "{family:?}: ending");
            let error = family.read(&mut ours, &mut [0; 10]).await.unwrap_err();
            assert_eq!(error.kind(), gone, "{family:?}: reading again");
        });
    }
}

#[test]
fn an_abort_is_an_error_of_who_waits() {
    for family in FAMILIES {
        run(async {
            let (listener, addr) = std_listener().unwrap();
            let mut ours = Stream::from(open_connection(addr).await.unwrap());
            let peer = listener.accept().unwrap().0;
            let (woken, waker) = Count::new();
            fill(family, &mut ours, &mut Sequence::default(), &waker).await.unwrap();
            let before = woken.get();
            reset(peer);
            while woken.get() == before {
                sleep(Duration::from_millis(1)).await;
            }
            family.write_all(&mut ours, b"x").await.unwrap_err();
        });
    }
}

#[test]
fn on_another_loop_every_poll_says_so() {
    let mut home = Runner::new().unwrap();
    let (mut ours, _theirs) = home.run(pair()).unwrap();
    run(async {
        for family in FAMILIES {
            let read = family.read(&mut ours, &mut [0; 10]).await;
            let written = family.write_all(&mut ours, b"x").await;
            let flushed = poll_fn(|cx| family.poll_flush(&mut ours, cx)).await;
            for error in [read.unwrap_err(), written.unwrap_err(), flushed.unwrap_err()] {
                assert!(error.to_string().contains("different loop"), "{family:?}: {error}");
            }
            assert!(family.end(&mut ours).await.unwrap_err().to_string().contains("different loop"));
        }
        assert!(AsyncBufReadExt::fill_buf(&mut ours).await.is_err());
    });
}

#[test]
fn hypers_timer_goes_by_the_loops_clock() {
    let mut runner = Runner::builder().backend(Backend::Sim { seed: 1 }).build().unwrap();
    runner.run(async {
        let (start, hour) = (now(), Duration::from_secs(3600));
        assert_eq!(CorioTimer.now(), start);
        let mut sleep = CorioTimer.sleep(2 * hour);
        assert!(timeout(hour, sleep.as_mut()).await.is_err());
        // Earlier, and later than it was.
        for deadline in [start + hour + Duration::from_secs(1), start + 5 * hour] {
            CorioTimer.reset(&mut sleep, deadline);
            sleep.as_mut().await;
            assert!(now() >= deadline && now() < deadline + Duration::from_secs(1));
        }
    });
}
