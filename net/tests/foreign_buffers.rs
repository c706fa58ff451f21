//! Buffers that misbehave: they panic, return another slice each time, or use streams. The stream still works.

mod common;

use std::{
    cell::{Cell, RefCell},
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use common::until;
use corio_net::{StreamReader, StreamWriter, TcpListener, TcpStream, open_connection};
use corio_runtime::{
    Backend, Faults, backend, create_task, metrics,
    time::{sleep, timeout},
    yield_now,
};

/// Longer than anything takes; what reaches it hangs.
const HANG: Duration = Duration::from_secs(20);

/// Runs `program` on every kernel; in the end no stream and no operation may be left.
fn on_every(program: impl AsyncFn()) {
    common::on_every_seed(2, Faults::default(), async || {
        let before = metrics().operations;
        program().await;
        until(|| metrics().connections == 0 && metrics().operations == before).await;
        Ok(())
    });
}

/// The end of the loop: the peer of a `TcpStream`.
struct Peer {
    stream: TcpStream,
    _reader: StreamReader,
    writer: StreamWriter,
}

async fn peer() -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_reader, writer) = open_connection(listener.local_addr().unwrap()).await.unwrap();
    Peer { stream: listener.accept().await.unwrap().0, _reader, writer }
}

/// What its code does is up to the test, which gets the number of the call, from 1.
struct Buffer<F> {
    bytes: Vec<u8>,
    calls: u32,
    slice: F,
}

impl<F: FnMut(u32) -> usize> Buffer<F> {
    /// A buffer of so many bytes as `slice` gives.
    fn new(slice: F) -> Buffer<F> {
        Buffer { bytes: vec![0; 100], calls: 0, slice }
    }
}

impl<F: FnMut(u32) -> usize> AsMut<[u8]> for Buffer<F> {
    fn as_mut(&mut self) -> &mut [u8] {
        self.calls += 1;
        let len = (self.slice)(self.calls);
        &mut self.bytes[..len]
    }
}

fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// The next bytes, by a buffer that behaves.
async fn next(stream: &mut TcpStream) -> Vec<u8> {
    let (read, mut bytes) = timeout(HANG, stream.read(vec![0; 100])).await.expect("the stream is wedged");
    bytes.truncate(read.unwrap());
    bytes
}

#[test]
fn a_panic_of_the_buffer_leaves_the_stream_as_it_was() {
    on_every(async || {
        for panics_at in 1..8 {
            for early in [false, true] {
                let mut peer = peer().await;
                if early {
                    peer.writer.write_all("a message").await.unwrap();
                    sleep(Duration::from_millis(1)).await;
                }
                let stream = Rc::new(RefCell::new(Some(peer.stream)));
                let reader = stream.clone();
                let task = create_task(async move {
                    let mut stream = Lent { place: reader.clone(), stream: reader.take() };
                    let buffer =
                        Buffer::new(move |call| if call == panics_at { panic!("as asked") } else { 100 });
                    let (read, buffer) = stream.stream.as_mut().unwrap().read(buffer).await;
                    (read, buffer.bytes)
                });
                yield_now().await;
                if !early {
                    peer.writer.write_all("a message").await.unwrap();
                }
                let read = timeout(HANG, task).await.expect("the read hangs");
                let mut stream = stream.take().unwrap();
                let asks_again = backend().backend() != Backend::Uring;
                match read {
                    Ok((Ok(count), bytes)) => assert_eq!(&bytes[..count], b"a message"),
                    // Kernels that make plain calls ask again and again. Nothing was received.
                    Ok((Err(e), _)) if asks_again => {
                        assert_eq!(e.raw_os_error(), Some(nix::libc::EFAULT));
                        assert!(
                            corio_runtime::fd::require_kernel("").is_err()
                                || next(&mut stream).await == b"a message"
                        );
                        continue;
                    }
                    Ok((Err(e), _)) => panic!("{e}"),
                    Err(_) => assert_eq!(next(&mut stream).await, b"a message"),
                }
                peer.writer.write_all("more").await.unwrap();
                assert_eq!(next(&mut stream).await, b"more");
            }
        }
    });
}

/// Gives a stream back, also in a panic.
struct Lent {
    place: Rc<RefCell<Option<TcpStream>>>,
    stream: Option<TcpStream>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        *self.place.borrow_mut() = self.stream.take();
    }
}

#[test]
fn a_buffer_that_panics_when_nothing_came_and_it_is_given_up_costs_nothing() {
    on_every(async || {
        let mut peer = peer().await;
        let given_up = Rc::new(Cell::new(false));
        let flag = given_up.clone();
        let buffer = Buffer::new(move |_| if flag.get() { panic!("as asked") } else { 100 });
        let read = timeout(Duration::from_millis(2), peer.stream.read(buffer)).await;
        assert!(read.is_err());
        given_up.set(true);
        sleep(Duration::from_millis(2)).await;
        peer.writer.write_all("a message").await.unwrap();
        assert_eq!(next(&mut peer.stream).await, b"a message");
    });
}

/// What had come into it cannot be had any more: the next read says so, and the connection still ends.
#[test]
fn a_buffer_that_hides_what_came_when_it_is_given_up_ends_the_stream_with_an_error() {
    on_every(async || {
        // It panics, or has a part of what came, or nothing.
        for shows in [None, Some(3), Some(0)] {
            let mut peer = peer().await;
            let given_up = Rc::new(Cell::new(false));
            let flag = given_up.clone();
            let buffer = Buffer::new(move |_| match flag.get() {
                true => shows.expect("as asked"),
                false => 100,
            });
            {
                let mut read = Box::pin(peer.stream.read(buffer));
                assert!(poll_once(read.as_mut()).is_pending());
                sleep(Duration::from_millis(1)).await;
                peer.writer.write_all("a message").await.unwrap();
                // It has come, and nobody has claimed it.
                sleep(Duration::from_millis(2)).await;
                given_up.set(true);
                let dropped = catch_unwind(AssertUnwindSafe(|| drop(read)));
                assert_eq!(dropped.is_err(), shows.is_none());
            }
            let (read, _) = timeout(HANG, peer.stream.read(vec![0; 100])).await.expect("it is wedged");
            assert_eq!(read.unwrap_err().raw_os_error(), Some(nix::libc::EIO));
            // Nobody waits for answers to what cannot be read.
            let end = timeout(HANG, peer._reader.read(1)).await.expect("the peer is told");
            assert!(end.map_or(true, |data| data.is_empty()));
        }
    });
}

#[test]
fn an_empty_slice_is_no_end_of_the_stream() {
    on_every(async || {
        for empty_from in 1..6 {
            for early in [false, true] {
                let mut peer = peer().await;
                if early {
                    peer.writer.write_all("a message").await.unwrap();
                    sleep(Duration::from_millis(1)).await;
                }
                let buffer = Buffer::new(move |call| if call >= empty_from { 0 } else { 100 });
                let read = timeout(Duration::from_millis(2), peer.stream.read(buffer)).await;
                if !early {
                    peer.writer.write_all("a message").await.unwrap();
                }
                let mut got = Vec::new();
                if let Ok((read, buffer)) = read {
                    got.extend_from_slice(&buffer.bytes[..read.unwrap()]);
                }
                while got.len() < 9 {
                    let more = next(&mut peer.stream).await;
                    assert!(!more.is_empty(), "the end after {got:?}");
                    got.extend(more);
                }
                assert_eq!(got, b"a message");
            }
        }
    });
}

#[test]
fn a_buffer_may_look_at_streams_and_write_to_them() {
    on_every(async || {
        let mut peer = peer().await;
        let other = Rc::new(RefCell::new(self::peer().await));
        let seen = Rc::new(Cell::new(0));
        let (looked, count) = (other.clone(), seen.clone());
        let buffer = Buffer::new(move |_| {
            let other = &mut *looked.borrow_mut();
            assert!(!other._reader.at_eof() && !other.writer.is_closing());
            other.writer.write("x").unwrap();
            count.set(count.get() + 1);
            100
        });
        let task = create_task(async move {
            let (read, buffer) = peer.stream.read(buffer).await;
            (read, buffer.bytes, peer.stream)
        });
        yield_now().await;
        peer.writer.write_all("a message").await.unwrap();
        let (read, bytes, _stream) = timeout(HANG, task).await.unwrap().unwrap();
        assert_eq!(&bytes[..read.unwrap()], b"a message");
        let mut other = Rc::into_inner(other).expect("the buffer is gone").into_inner();
        let arrived = next(&mut other.stream).await;
        assert!(seen.get() > 1 && !arrived.is_empty() && arrived.iter().all(|byte| *byte == b'x'));
    });
}

/// Written data, too, is asked with nothing borrowed and nothing noted.
#[test]
fn written_data_that_panics_leaves_the_stream_as_it_was() {
    struct Panics;
    impl AsRef<[u8]> for Panics {
        fn as_ref(&self) -> &[u8] {
            panic!("as asked")
        }
    }
    on_every(async || {
        let mut peer = peer().await;
        let mut write = Box::pin(peer.stream.write_all(Panics));
        assert!(catch_unwind(AssertUnwindSafe(|| poll_once(write.as_mut()))).is_err());
        drop(write);
        peer.stream.write_all("goes on").await.0.unwrap();
        assert_eq!(peer._reader.readexactly(7).await.unwrap(), b"goes on");
        let pieces = ["one", "two", "three"].into_iter().map(|piece| match piece {
            "three" => panic!("as asked"),
            piece => piece,
        });
        assert!(catch_unwind(AssertUnwindSafe(|| peer.writer.writelines(pieces))).is_err());
        assert_eq!(next(&mut peer.stream).await, b"onetwo");
        peer.writer.close();
        peer.writer.wait_closed().await.unwrap();
    });
}
