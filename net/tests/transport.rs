//! The writer as a transport, on every kernel: its buffer, its water marks, and how it ends.

mod common;

use std::{
    io::{self, ErrorKind, Read},
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use common::{kernels, on, reports, shrink_send_buffer, std_listener, until};
use corio_net::{Connection, StreamReader, StreamWriter, TcpListener, TcpStream};
use corio_runtime::{
    Backend, Faults, Runner, create_task,
    time::{sleep, timeout},
    yield_now,
};
use corio_sync::Lock;
use nix::sys::socket::{setsockopt, sockopt};

/// More than the sockets hold, on every kernel.
const MUCH: usize = 16 << 20;
const BLINK: Duration = Duration::from_millis(20);

fn on_every(program: impl AsyncFn() -> io::Result<()>) {
    common::on_every_seed(2, Faults::default(), program);
}

/// A connection, and its other end, which reads nothing ahead.
struct Pair {
    reader: StreamReader,
    writer: StreamWriter,
    peer: TcpStream,
}

async fn pair() -> io::Result<Pair> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (reader, writer) = Connection::builder().connect(listener.local_addr()?).await?;
    let (peer, _) = listener.accept().await?;
    Ok(Pair { reader, writer, peer })
}

/// The value of a future that is ready at once.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// All that comes until the end of the stream, or the error that ends it.
async fn read_all(peer: &mut TcpStream) -> (Vec<u8>, io::Result<()>) {
    let (mut all, mut buf) = (Vec::new(), vec![0; 256 << 10]);
    loop {
        let (read, back) = peer.read(buf).await;
        buf = back;
        match read {
            Ok(0) => return (all, Ok(())),
            Ok(n) => all.extend_from_slice(&buf[..n]),
            Err(e) => return (all, Err(e)),
        }
    }
}

/// The error of a stream whose peer is gone: which of the two depends on what the kernel noticed first.
fn is_loss(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

#[test]
fn tr_01_the_water_marks_and_their_defaults() {
    on_every(async || {
        let Pair { mut writer, reader: _reader, peer: _peer } = pair().await?;
        assert_eq!(writer.get_write_buffer_limits()?, (16384, 65536));
        let refused = writer.set_write_buffer_limits(10, 20).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        assert_eq!(writer.get_write_buffer_limits()?, (16384, 65536), "a refused call changes nothing");

        writer.write(vec![1; 512])?;
        assert!(at_once(writer.drain()).is_some());
        writer.set_write_buffer_limits(128, None)?;
        assert_eq!(writer.get_write_buffer_limits()?, (32, 128));
        assert!(at_once(writer.drain()).is_none(), "512 bytes are above the new mark");
        writer.drain().await?;

        writer.set_write_buffer_limits(0, None)?;
        assert_eq!(writer.get_write_buffer_limits()?, (0, 0));
        writer.set_write_buffer_limits(None, 1000)?;
        assert_eq!(writer.get_write_buffer_limits()?, (1000, 4000));
        writer.set_write_buffer_limits(None, usize::MAX)?;
        assert_eq!(writer.get_write_buffer_limits()?, (usize::MAX, usize::MAX));
        writer.set_write_buffer_limits(None, None)?;
        assert_eq!(writer.get_write_buffer_limits()?, (16384, 65536));
        Ok(())
    });
}

#[test]
fn tr_02_what_is_written_leaves_by_itself_and_only_the_rest_is_buffered() {
    on_every(async || {
        let Pair { mut writer, mut peer, .. } = pair().await?;
        writer.write("few bytes")?;
        assert_eq!(writer.get_write_buffer_size()?, 9, "they leave at the end of the turn");
        yield_now().await;
        yield_now().await;
        assert_eq!(writer.get_write_buffer_size()?, 0);
        let (read, buf) = peer.read(vec![0; 100]).await;
        assert_eq!(&buf[..read?], b"few bytes");

        writer.write(vec![7; MUCH])?;
        sleep(BLINK).await;
        let left = writer.get_write_buffer_size()?;
        assert!(left > 0 && left <= MUCH, "{left}");
        let reading = create_task(async move { read_all(&mut peer).await });
        writer.flush().await?;
        assert_eq!(writer.get_write_buffer_size()?, 0);
        drop(writer);
        let (all, end) = reading.await?;
        end?;
        assert!(all == vec![7; MUCH]);
        Ok(())
    });
}

#[test]
fn tr_05_tr_06_a_failed_send_drops_the_buffer_and_every_write_behind_it() {
    on_every(async || {
        let heard = reports();
        let Pair { mut writer, peer, reader: _reader } = pair().await?;
        writer.write(vec![7; MUCH])?;
        sleep(BLINK).await;
        assert!(writer.get_write_buffer_size()? > 0);
        let (_, mut peer) = peer.into_streams();
        peer.abort();
        until(|| writer.write("late").is_err()).await;
        assert_eq!(writer.get_write_buffer_size()?, 0, "the buffer is dropped");
        for _ in 0..10 {
            assert!(is_loss(&writer.write("late").unwrap_err()));
            assert!(is_loss(&writer.drain().await.unwrap_err()));
            assert_eq!(writer.get_write_buffer_size()?, 0);
        }
        assert!(writer.is_closing());
        assert!(is_loss(&writer.wait_closed().await.unwrap_err()), "it ends with the error");
        assert!(heard.borrow().is_empty(), "{heard:?}");
        Ok(())
    });
}

#[test]
fn tr_09_half_close_comes_behind_the_buffer() {
    on_every(async || {
        let Pair { mut reader, mut writer, mut peer } = pair().await?;
        assert!(writer.can_write_eof());
        writer.write(vec![7; MUCH])?;
        sleep(BLINK).await;
        writer.write_eof()?;
        assert!(writer.get_write_buffer_size()? > 0);
        assert_eq!(writer.write("late").unwrap_err().kind(), ErrorKind::BrokenPipe);
        writer.write_eof()?;
        let (all, end) = read_all(&mut peer).await;
        end?;
        assert!(all == vec![7; MUCH], "{} bytes, and then the end", all.len());
        // The other direction is open.
        peer.write_all("answer").await.0?;
        assert_eq!(reader.readexactly(6).await?, b"answer");
        writer.close();
        drop(peer);
        writer.wait_closed().await?;
        Ok(())
    });
}

#[test]
fn tr_11_close_sends_the_buffer_first_and_ends_once_in_a_later_turn() {
    on_every(async || {
        let Pair { mut writer, mut peer, reader: _reader } = pair().await?;
        writer.write(vec![7; MUCH])?;
        sleep(BLINK).await;
        writer.close();
        assert!(writer.is_closing() && writer.get_write_buffer_size()? > 0);
        assert!(timeout(BLINK, writer.wait_closed()).await.is_err(), "the peer has not read");
        let (all, end) = read_all(&mut peer).await;
        end?;
        assert!(all == vec![7; MUCH], "{} bytes", all.len());
        drop(peer);
        writer.wait_closed().await?;
        writer.close();
        assert!(at_once(writer.wait_closed()).unwrap().is_ok(), "it has ended, once and for all");

        let Pair { mut writer, peer: _peer, .. } = pair().await?;
        writer.close();
        assert!(at_once(writer.wait_closed()).is_none(), "an empty buffer, too, ends in a later turn");
        writer.wait_closed().await?;
        Ok(())
    });
}

#[test]
fn tr_12_abort_drops_the_buffer_and_is_no_error_of_this_side() {
    on_every(async || {
        let Pair { mut writer, mut peer, reader: _reader } = pair().await?;
        writer.write(vec![7; MUCH])?;
        sleep(BLINK).await;
        assert!(writer.get_write_buffer_size()? > 0);
        writer.abort();
        writer.abort();
        writer.close();
        timeout(Duration::from_secs(10), writer.wait_closed()).await.expect("nobody reads")?;
        let (all, end) = read_all(&mut peer).await;
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(all.len() < MUCH);
        Ok(())
    });
}

#[test]
fn tr_16_a_reset_is_the_error_of_reads_and_writes_and_nobody_is_told_else() {
    on_every(async || {
        let heard = reports();
        let Pair { mut reader, mut writer, peer } = pair().await?;
        let reading = create_task(async move { reader.read(100).await.map(drop) });
        yield_now().await;
        let (_, mut peer) = peer.into_streams();
        peer.abort();
        assert_eq!(reading.await?.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(is_loss(&writer.write("late").unwrap_err()));
        assert!(is_loss(&writer.wait_closed().await.unwrap_err()));
        drop(writer);
        sleep(BLINK).await;
        assert!(heard.borrow().is_empty(), "{heard:?}");
        Ok(())
    });
}

#[test]
fn str_39_whoever_writes_and_drains_learns_that_the_peer_has_closed() {
    on_every(async || {
        let Pair { mut writer, peer, reader: _reader } = pair().await?;
        let (peers_reader, mut peers_writer) = peer.into_streams();
        peers_writer.linger(Duration::from_millis(1), Duration::from_millis(1));
        drop((peers_reader, peers_writer));
        let endless = async {
            loop {
                if let Err(e) = writer.write_all(b"data").await {
                    return e;
                }
                yield_now().await;
            }
        };
        let error = timeout(Duration::from_secs(20), endless).await.expect("it writes for ever");
        assert!(is_loss(&error), "{error}");
        assert!(is_loss(&writer.drain().await.unwrap_err()), "drain alone tells it as well");
        Ok(())
    });
}

#[test]
fn str_40_drain_waits_only_above_the_high_water_mark() {
    on_every(async || {
        let Pair { mut writer, mut peer, reader: _reader } = pair().await?;
        writer.write(vec![1; 65536])?;
        assert!(at_once(writer.drain()).is_some());
        writer.write(&[2])?;
        assert!(at_once(writer.drain()).is_none());
        let reading = create_task(async move { read_all(&mut peer).await.0.len() });
        writer.drain().await?;
        drop(writer);
        assert_eq!(reading.await?, 65537);
        Ok(())
    });
}

/// A stream whose two sockets hold less than 16 KiB together.
async fn narrow(backend: Backend) -> io::Result<(StreamWriter, Narrow)> {
    if matches!(backend, Backend::Sim { .. }) {
        let Pair { writer, peer, reader } = pair().await?;
        return Ok((writer, Narrow::Simulated(peer, reader)));
    }
    let (listener, addr) = std_listener()?;
    setsockopt(&listener, sockopt::RcvBuf, &2048)?;
    let ours = std::net::TcpStream::connect(addr)?;
    shrink_send_buffer(&ours);
    let (reader, writer) = TcpStream::try_from(ours)?.into_streams();
    Ok((writer, Narrow::Real(listener.accept()?.0, reader)))
}

/// Its other end, and the reader that keeps the stream.
enum Narrow {
    Simulated(TcpStream, StreamReader),
    Real(std::net::TcpStream, StreamReader),
}

impl Narrow {
    /// Takes exactly so many bytes.
    async fn take(self, mut count: usize) -> io::Result<Narrow> {
        match self {
            Narrow::Simulated(mut peer, reader) => {
                while count > 0 {
                    count -= peer.read(vec![0; count]).await.0?;
                }
                Ok(Narrow::Simulated(peer, reader))
            }
            Narrow::Real(mut peer, reader) => {
                let taking = std::thread::spawn(move || {
                    peer.read_exact(&mut vec![0; count])?;
                    io::Result::Ok(peer)
                });
                Ok(Narrow::Real(common::join(taking).await?, reader))
            }
        }
    }
}

#[test]
fn str_40_drain_waits_down_to_the_low_water_mark() {
    const BEFORE: usize = 200_000;
    let goes_on_with = async |backend, left: usize| -> io::Result<bool> {
        let (mut writer, peer) = narrow(backend).await?;
        writer.write(vec![1; BEFORE])?;
        // What comes behind a send in flight is a send of its own.
        yield_now().await;
        yield_now().await;
        writer.write(vec![2; left])?;
        let drained = create_task(async move { writer.drain().await.map(|()| writer) });
        sleep(BLINK).await;
        assert!(!drained.done(), "the peer has read nothing");
        let peer = peer.take(BEFORE).await?;
        sleep(Duration::from_millis(50)).await;
        let went_on = drained.done();
        let _peer = peer.take(left).await?;
        let writer = drained.await??;
        assert_eq!(writer.get_write_buffer_size()?, 0);
        Ok(went_on)
    };
    for backend in kernels() {
        let faults = Faults::default().window(1000);
        let mut runner = Runner::builder().backend(backend).faults(faults).build().unwrap();
        runner.run(async {
            assert!(goes_on_with(backend, 16384).await.unwrap(), "{backend:?}: 16384 bytes are few");
            assert!(!goes_on_with(backend, 16385).await.unwrap(), "{backend:?}: 16385 bytes are many");
        });
    }
}

#[test]
fn str_38_ten_tasks_in_drain_all_go_on_when_the_peer_reads() {
    for backend in kernels() {
        on(backend).run(async {
            let Pair { mut writer, mut peer, reader: _reader } = pair().await.unwrap();
            writer.write(vec![7; MUCH]).unwrap();
            // A writer is drained by `&mut`: tasks that share one take turns.
            let writer = Rc::new(Lock::new(writer));
            let drains = |_| {
                let writer = writer.clone();
                create_task(async move { writer.acquire().await.drain().await })
            };
            let drains: Vec<_> = (0..10).map(drains).collect();
            sleep(Duration::from_millis(100)).await;
            assert!(drains.iter().all(|drain| !drain.done()), "the peer has read nothing");
            let reading = create_task(async move { read_all(&mut peer).await.0.len() });
            for drain in drains {
                timeout(Duration::from_secs(20), drain).await.expect("it sleeps on").unwrap().unwrap();
            }
            writer.acquire().await.close();
            assert_eq!(reading.await.unwrap(), MUCH);
        });
    }
}
