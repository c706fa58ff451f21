//! Destructors of written data are foreign code: they may use the streams, or drop a loop.

mod common;

use std::{
    cell::RefCell,
    io::{self, Read, Write},
    pin::{Pin, pin},
    rc::Rc,
    sync::{Arc, Mutex},
    task::{Context, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use common::{on_every_seed, with_peer};
use corio_net::{Server, StreamReader, StreamWriter, connect_write_pipe, open_connection, start_server};
use corio_runtime::{
    Faults, Runner, call_soon, create_task, run,
    time::{sleep, timeout},
    yield_now,
};

/// Data that runs `f` when it is dropped.
struct Owner<F: FnMut()>(Vec<u8>, F);

impl<F: FnMut()> AsRef<[u8]> for Owner<F> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl<F: FnMut()> Drop for Owner<F> {
    fn drop(&mut self) {
        self.1();
    }
}

/// The writer, within reach of destructors, which must be `Send`: its loop is this thread's.
type Shared = Arc<Mutex<StreamWriter>>;

/// `len` bytes; as they are dropped, the other stream's writer is used.
fn owned(len: usize, other: &Shared) -> Bytes {
    let other = Arc::clone(other);
    Bytes::from_owner(Owner(vec![7; len], move || other.lock().unwrap().write(b"!").unwrap()))
}

#[test]
fn a_destructor_of_written_data_can_write_elsewhere() {
    run(async {
        let (_reader, mut writer, mut peer) = with_peer().await;
        let (_other_reader, other, mut other_peer) = with_peer().await;
        let other = Arc::new(Mutex::new(other));
        let mut expect = async |count: usize| {
            yield_now().await;
            yield_now().await;
            let mut marks = vec![0; count];
            other_peer.read_exact(&mut marks).unwrap();
            assert_eq!(marks, vec![b'!'; count]);
        };
        // Sent; copied behind it; refused after the end.
        writer.write(owned(100, &other)).unwrap();
        writer.write(owned(10, &other)).unwrap();
        expect(2).await;
        peer.read_exact(&mut [0; 110]).unwrap();
        // Never sent: the connection breaks, or is aborted, with data behind what is in flight.
        for abort in [true, false] {
            let (_reader, mut writer, peer) = with_peer().await;
            writer.write(vec![0; 16 << 20]).unwrap();
            sleep(Duration::from_millis(1)).await;
            writer.write(owned(9000, &other)).unwrap();
            if abort {
                writer.abort();
            } else {
                drop(peer);
                writer.flush().await.unwrap_err();
            }
            expect(1).await;
            writer.write(owned(9000, &other)).unwrap_err();
            expect(1).await;
        }
    });
}

/// A waker that writes on the other stream as it is dropped.
struct Mark(Shared);

impl Wake for Mark {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.0.lock().unwrap().write(b"!").unwrap();
    }
}

#[test]
fn a_destructor_of_a_waker_can_write_elsewhere() {
    run(async {
        let (mut reader, mut writer, _peer) = with_peer().await;
        let (_other_reader, other, mut other_peer) = with_peer().await;
        let other = Arc::new(Mutex::new(other));
        let poll = |future: Pin<&mut dyn Future<Output = ()>>| {
            let waker = Waker::from(Arc::new(Mark(Arc::clone(&other))));
            assert!(future.poll(&mut Context::from_waker(&waker)).is_pending());
        };
        // Each is replaced by the next, and the last goes with its handle.
        for _ in 0..2 {
            poll(pin!(async { drop(reader.read(1).await) }));
        }
        writer.write(vec![0; 16 << 20]).unwrap();
        for _ in 0..2 {
            poll(pin!(async { drop(writer.drain().await) }));
            poll(pin!(async { drop(writer.flush().await) }));
        }
        drop(reader);
        writer.abort();
        drop(writer);
        sleep(Duration::from_millis(1)).await;
        other_peer.read_exact(&mut [0; 6]).unwrap();
    });
}

#[test]
fn b2_a_destructor_of_written_data_can_drop_another_loop() {
    thread_local!(static INNER: RefCell<Option<Runner>> = const { RefCell::new(None) });
    let mut inner = Runner::new().unwrap();
    let streams = inner.run(with_peer());
    let _task = inner.create_task(std::future::pending::<()>());
    INNER.set(Some(inner));
    run(async move {
        let (mut reader, mut writer, mut peer) = with_peer().await;
        writer.write(Bytes::from_owner(Owner(vec![7; 100], || drop(INNER.take())))).unwrap();
        while INNER.with(|inner| inner.borrow().is_some()) {
            yield_now().await;
        }
        peer.read_exact(&mut [0; 100]).unwrap();
        peer.write_all(b"still there").unwrap();
        assert_eq!(reader.readexactly(11).await.unwrap(), b"still there");
    });
    drop(streams);
}

#[test]
fn b2_bytes_of_a_loop_that_closes_inside_another_reach_nobody_else() {
    let mut inner = Runner::new().unwrap();
    let (_inner_reader, _inner_writer, mut inner_peer) = inner.run(async {
        let (mut reader, writer, peer) = with_peer().await;
        // A reader has waited: the receive is armed.
        assert!(timeout(Duration::from_millis(5), reader.read(100)).await.is_err());
        (reader, writer, peer)
    });
    run(async move {
        let (mut reader, _writer, mut peer) = with_peer().await;
        let got = Rc::new(RefCell::new(Vec::new()));
        let filled = Rc::clone(&got);
        let reading = create_task(async move {
            let data = reader.read(100).await.unwrap();
            filled.borrow_mut().extend_from_slice(&data);
        });
        sleep(Duration::from_millis(1)).await;
        inner_peer.write_all(b"of the inner loop").unwrap();
        // The runner is dropped inside the outer loop's own code.
        call_soon(move || drop(inner)).cancel();
        for _ in 0..100 {
            yield_now().await;
        }
        assert!(got.borrow().is_empty());
        peer.write_all(b"of the outer loop").unwrap();
        reading.await.unwrap();
        assert_eq!(*got.borrow(), b"of the outer loop");
    });
}

/// A waker that looks at a server as it is dropped, and panics if it is woken.
struct Watcher(Arc<Server>);

impl Wake for Watcher {
    fn wake(self: Arc<Self>) {
        panic!("not now");
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.0.is_serving();
        self.0.close_clients();
        DROPPED.with(|dropped| dropped.set(dropped.get() + usize::from(!std::thread::panicking())));
    }
}

thread_local!(static DROPPED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });

#[test]
fn a_destructor_of_a_waker_can_use_the_server_that_it_waited_for() {
    run(async {
        let server = Arc::new(start_server("127.0.0.1:0", |_, _| async { Ok(()) }).await.unwrap());
        let mut closed = pin!(server.wait_closed());
        for _ in 0..2 {
            let waker = Waker::from(Arc::new(Watcher(Arc::clone(&server))));
            assert!(closed.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        assert_eq!(DROPPED.get(), 1);
        closed.set(server.wait_closed());
        assert_eq!(DROPPED.get(), 2);
    });
}

/// Sends what panics as it is dropped, among other data, and closes.
async fn sends_what_panics() {
    let count = async |mut reader: StreamReader, mut writer: StreamWriter| {
        let count = reader.read_to_end().await?.len() as u64;
        writer.write(&count.to_le_bytes())
    };
    let server = start_server("127.0.0.1:0", count).await.unwrap();
    let (mut reader, mut writer) = open_connection(server.local_addr().unwrap()).await.unwrap();
    for _ in 0..10 {
        // Alone, and as the first of a send that may be partial.
        for behind in [0, 20_000] {
            let panics = || panic!("a destructor panics");
            writer.write(Bytes::from_owner(Owner(vec![7; 9000], panics))).unwrap();
            writer.write(vec![8; behind]).unwrap();
            timeout(Duration::from_secs(60), writer.flush()).await.expect("it goes on").unwrap();
        }
    }
    writer.write_eof().unwrap();
    assert_eq!(reader.readexactly(8).await.unwrap(), &380_000u64.to_le_bytes());
    writer.close();
    timeout(Duration::from_secs(60), writer.wait_closed()).await.expect("it ends").unwrap();
}

#[test]
fn a_destructor_of_sent_data_that_panics_costs_its_stream_nothing() {
    on_every_seed(20, Faults::default().short_transfers(0.7), async || {
        sends_what_panics().await;
        Ok(())
    });
}

#[test]
fn a_waker_that_panics_keeps_nobody_else_waiting_for_a_server() {
    run(async {
        let server = Arc::new(start_server("127.0.0.1:0", |_, _| async { Ok(()) }).await.unwrap());
        let mut closed = pin!(server.wait_closed());
        let waker = Waker::from(Arc::new(Watcher(Arc::clone(&server))));
        assert!(closed.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let theirs = Arc::clone(&server);
        let other = create_task(async move { theirs.wait_closed().await });
        sleep(Duration::from_millis(1)).await;
        let its = Arc::clone(&server);
        let closing = create_task(async move { its.close() });
        timeout(Duration::from_secs(5), other).await.expect("it was not woken").unwrap();
        closing.await.expect("the panic is not the closer's");
    });
}

struct Bomb;

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        panic!("not now");
    }
}

#[test]
fn a_reader_whose_waker_panics_keeps_its_stream_from_nothing() {
    run(async {
        let (mut reader, mut writer, _peer) = with_peer().await;
        let waker = Waker::from(Arc::new(Bomb));
        assert!(pin!(reader.read(1)).poll(&mut Context::from_waker(&waker)).is_pending());
        writer.close();
        timeout(Duration::from_secs(60), writer.wait_closed()).await.expect("it ends").unwrap();
    });
}

#[test]
fn a_waker_that_panics_at_the_end_of_a_turn_costs_nobody_else_the_turn() {
    run(async {
        let (_read, write) = std::io::pipe().unwrap();
        let mut writer = connect_write_pipe(write.into()).unwrap();
        let (_reader, mut other, mut peer) = with_peer().await;
        let waker = Waker::from(Arc::new(Bomb));
        writer.close();
        assert!(pin!(writer.wait_closed()).poll(&mut Context::from_waker(&waker)).is_pending());
        other.write(b"!").unwrap();
        sleep(Duration::from_millis(1)).await;
        peer.read_exact(&mut [0]).unwrap();
    });
}

#[test]
fn what_a_waker_writes_at_the_end_of_a_turn_leaves_before_the_loop_sleeps() {
    run(async {
        let (_read, write) = std::io::pipe().unwrap();
        let mut writer = connect_write_pipe(write.into()).unwrap();
        let (mut other_reader, other, mut peer) = with_peer().await;
        let other = Arc::new(Mutex::new(other));
        let echo = std::thread::spawn(move || {
            peer.read_exact(&mut [0]).unwrap();
            peer.write_all(b"?").unwrap();
        });
        let waker = Waker::from(Arc::new(Mark(Arc::clone(&other))));
        writer.close();
        assert!(pin!(writer.wait_closed()).poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        let answer = timeout(Duration::from_secs(5), other_reader.read(1)).await;
        assert_eq!(answer.expect("it was not sent").unwrap(), b"?");
        echo.join().unwrap();
    });
}

/// A waker that does something with a writer.
struct Does(Shared, fn(&mut StreamWriter));

impl Wake for Does {
    fn wake(self: Arc<Self>) {
        (self.1)(&mut self.0.lock().unwrap());
    }
}

/// What arrives of `data` and of what `does` adds to it. That is called at the end of the turn in which `data` was
/// written, as another stream closes.
async fn sent_before_a_close(data: &[u8], does: fn(&mut StreamWriter)) -> Vec<u8> {
    let arrived = Rc::new(RefCell::new(Vec::new()));
    let arriving = Rc::clone(&arrived);
    let server = start_server("127.0.0.1:0", move |mut reader, mut writer| {
        let arriving = Rc::clone(&arriving);
        async move {
            writer.write_eof()?;
            let all = reader.read_to_end().await?;
            arriving.borrow_mut().push(all);
            Ok(())
        }
    });
    let server = server.await.unwrap();
    let addr = server.local_addr().unwrap();
    let (_reader, writer) = open_connection(addr).await.unwrap();
    let (mut other_reader, mut other) = open_connection(addr).await.unwrap();
    // Nothing is in flight at its peer's end, and it closes at once.
    assert!(other_reader.read(1).await.unwrap().is_empty());
    let writer = Arc::new(Mutex::new(writer));
    let waker = Waker::from(Arc::new(Does(Arc::clone(&writer), does)));
    writer.lock().unwrap().write(data).unwrap();
    other.close();
    assert!(pin!(other.wait_closed()).poll(&mut Context::from_waker(&waker)).is_pending());
    sleep(Duration::from_millis(1)).await;
    writer.lock().unwrap().close();
    while arrived.borrow().len() < 2 {
        sleep(Duration::from_millis(1)).await;
    }
    arrived.take().into_iter().max_by_key(Vec::len).unwrap()
}

/// On every kernel; the simulator's makes partial sends.
fn on_every(data: &[u8], does: fn(&mut StreamWriter), expected: &[u8]) {
    let arrives = async || {
        let arrived = timeout(Duration::from_secs(60), sent_before_a_close(data, does)).await;
        let arrived = arrived.expect("it arrives");
        assert!(arrived == expected, "{} of {} bytes", arrived.len(), expected.len());
        Ok(())
    };
    on_every_seed(40, Faults::default().short_transfers(0.7), arrives);
}

#[test]
fn what_a_waker_writes_behind_a_send_of_the_same_turn_stays_behind_it() {
    let data: Vec<u8> = (0..9000u32).map(|n| n as u8).collect();
    let more = |writer: &mut StreamWriter| writer.write(b"behind").unwrap();
    on_every(&data, more, &[&data, &b"behind"[..]].concat());
    let much = |writer: &mut StreamWriter| writer.write(vec![7; 100_000]).unwrap();
    on_every(&data, much, &[&data, &vec![7; 100_000][..]].concat());
}

#[test]
fn a_waker_that_ends_a_stream_in_the_turn_of_its_send_loses_none_of_it() {
    let data = vec![7; 9000];
    on_every(&data, StreamWriter::close, &data);
    on_every(&data, |writer| writer.write_eof().unwrap(), &data);
}

/// A writer whose peer has ended, so that nothing is in flight and keeps its descriptor.
async fn with_ended_peer() -> (StreamWriter, std::net::TcpStream) {
    let (mut reader, writer, peer) = with_peer().await;
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(reader.read(1).await.unwrap().is_empty());
    (writer, peer)
}

/// A waker that polls `flush` again whenever it is called.
struct PollsFlush(Shared, Mutex<u32>);

impl Wake for PollsFlush {
    fn wake(self: Arc<Self>) {
        let calls = {
            let mut calls = self.1.lock().unwrap();
            *calls += 1;
            *calls
        };
        assert!(calls < 1000, "it is called without end");
        let waker = Waker::from(Arc::clone(&self));
        let mut writer = self.0.try_lock().expect("it is called inside its own poll");
        let _ = pin!(writer.flush()).poll(&mut Context::from_waker(&waker));
    }
}

#[test]
fn a_flush_that_is_polled_inside_a_waker_amid_a_turns_end_ends() {
    run(async {
        let (writer, mut peer) = with_ended_peer().await;
        let (mut other, _other_peer) = with_ended_peer().await;
        let writer = Arc::new(Mutex::new(writer));
        let flush = Arc::new(PollsFlush(Arc::clone(&writer), Mutex::new(0)));
        let waker = Waker::from(Arc::clone(&flush));
        writer.lock().unwrap().write(b"!").unwrap();
        other.close();
        assert!(pin!(other.wait_closed()).poll(&mut Context::from_waker(&waker)).is_pending());
        sleep(Duration::from_millis(1)).await;
        assert!(*flush.1.lock().unwrap() > 1, "it found the send on its way");
        peer.read_exact(&mut [0]).unwrap();
    });
}

/// A waker that reads what there is, and notes why there is no more.
struct Looks(std::net::TcpStream, Mutex<Option<io::ErrorKind>>);

impl Wake for Looks {
    fn wake(self: Arc<Self>) {
        self.0.set_nonblocking(true).unwrap();
        let end = (&self.0).read_to_end(&mut Vec::new()).map_err(|e| e.kind());
        *self.1.lock().unwrap() = end.err();
    }
}

/// A waker that aborts a stream, and waits for its end.
struct Aborts(Shared, Waker);

impl Wake for Aborts {
    fn wake(self: Arc<Self>) {
        let mut writer = self.0.lock().unwrap();
        writer.abort();
        if pin!(writer.wait_closed()).poll(&mut Context::from_waker(&self.1)).is_ready() {
            self.1.wake_by_ref();
        }
    }
}

#[test]
fn the_end_of_a_stream_aborted_behind_its_send_is_told_when_its_descriptor_is_free() {
    run(async {
        let (writer, peer) = with_ended_peer().await;
        let (mut other, _other_peer) = with_ended_peer().await;
        let writer = Arc::new(Mutex::new(writer));
        let looks = Arc::new(Looks(peer, Mutex::new(None)));
        let aborts = Aborts(Arc::clone(&writer), Waker::from(Arc::clone(&looks)));
        let waker = Waker::from(Arc::new(aborts));
        writer.lock().unwrap().write(b"!").unwrap();
        other.close();
        assert!(pin!(other.wait_closed()).poll(&mut Context::from_waker(&waker)).is_pending());
        while looks.1.lock().unwrap().is_none() {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(*looks.1.lock().unwrap(), Some(io::ErrorKind::ConnectionReset));
    });
}

#[test]
fn the_end_of_a_stream_that_polls_for_its_failure_is_told_when_its_descriptor_is_free() {
    run(async {
        let (reader, mut writer, peer) = with_peer().await;
        drop(reader);
        sleep(Duration::from_millis(1)).await;
        let looks = Arc::new(Looks(peer, Mutex::new(None)));
        let waker = Waker::from(Arc::clone(&looks));
        writer.abort();
        assert!(pin!(writer.wait_closed()).poll(&mut Context::from_waker(&waker)).is_pending());
        while looks.1.lock().unwrap().is_none() {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(*looks.1.lock().unwrap(), Some(io::ErrorKind::ConnectionReset));
    });
}

#[test]
fn a_destructor_that_panics_as_a_server_aborts_keeps_no_client_open() {
    run(async {
        let writers = Rc::new(RefCell::new(Vec::new()));
        let accepted = Rc::clone(&writers);
        let server = start_server("127.0.0.1:0", move |mut reader, writer| {
            let accepted = Rc::clone(&accepted);
            async move {
                // Nothing in flight keeps the stream then.
                assert!(reader.read(1).await?.is_empty());
                accepted.borrow_mut().push(writer);
                Ok(())
            }
        });
        let server = server.await.unwrap();
        let _clients = [(); 2].map(|()| {
            let client = std::net::TcpStream::connect(server.local_addr().unwrap()).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            client
        });
        while writers.borrow().len() < 2 {
            sleep(Duration::from_millis(1)).await;
        }
        sleep(Duration::from_millis(1)).await;
        let mut writers = writers.take();
        let panics = || panic!("a destructor panics");
        writers[0].write(Bytes::from_owner(Owner(vec![7; 9000], panics))).unwrap();
        let aborted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| server.abort_clients()));
        assert!(aborted.is_err(), "the panic is the caller's");
        for writer in &mut writers {
            timeout(Duration::from_secs(5), writer.wait_closed()).await.expect("it ends").unwrap();
        }
        server.close();
        timeout(Duration::from_secs(5), server.wait_closed()).await.expect("all are gone");
    });
}

#[test]
fn several_destructors_that_panic_together_do_not_end_the_process() {
    // They are dropped as the stream is given up, as its peer resets it, and as all is sent.
    for ends in ["given up", "reset", "sent"] {
        run(async move {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let connected = open_connection(listener.local_addr().unwrap()).await.unwrap();
            let (_reader, mut writer) = connected;
            let peer = listener.accept().unwrap().0;
            writer.linger(Duration::from_secs(60), Duration::from_millis(50));
            let size = if ends == "sent" { 9000 } else { 8 << 20 };
            for _in_flight_and_behind_it in 0..2 {
                for _ in 0..3 {
                    let panics = || panic!("a destructor panics");
                    writer.write(Bytes::from_owner(Owner(vec![7; size], panics))).unwrap();
                }
                sleep(Duration::from_millis(5)).await;
            }
            writer.close();
            let peer = match ends {
                "reset" => {
                    common::reset(peer);
                    None
                }
                _ => Some(peer),
            };
            let closed = timeout(Duration::from_secs(60), writer.wait_closed()).await.expect("it ends");
            assert_eq!(closed.is_ok(), ends == "sent", "{ends}: {closed:?}");
            drop(peer);
        });
    }
}
