//! Races and faults between edges and operations, each case by name: on epoll, and on io_uring where its promises are
//! the same.

mod common;

use std::{
    cell::{Cell, RefCell},
    future::Future,
    io::{self, ErrorKind, IoSlice, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use common::{Connect, FewDescriptors, Send, in_own_process, kernels, on, pair, poll_once, recv, until};
use corio_runtime::{
    Backend, Handle, Runner, create_task,
    fd::Fd,
    handle, metrics,
    op::{self, Done, Multishot, OpKey, Operation, PeerAddr, SockAddr, Sqe, submit},
    run_coroutine_threadsafe,
    socket::{ListenOptions, connector, listen},
    time::{Duration, Instant, sleep, timeout},
    to_thread, yield_now,
};
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    pty::openpty,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        pthread::pthread_kill,
        signal::Signal,
        socket::{ControlMessage, MsgFlags, sendmsg, setsockopt, sockopt},
    },
    unistd,
};

const KIB: usize = 1024;
/// More bytes than a socket and its peer buffer.
const MUCH: usize = 2 * KIB * KIB;
/// A test that takes longer is considered to hang.
const HANGS: Duration = Duration::from_secs(60);

/// Runs a test on `kernel`, and checks that no operation is left.
fn run_on<T>(kernel: Backend, test: impl Future<Output = T>) -> T {
    on(kernel).run(async {
        let value = timeout(HANGS, test).await.unwrap_or_else(|_| panic!("the test hangs on {kernel:?}"));
        until(|| metrics().operations == 0).await;
        value
    })
}

fn on_epoll<T>(test: impl Future<Output = T>) -> T {
    run_on(Backend::Epoll, test)
}

/// Runs a test on epoll, and on io_uring unless that is refused.
fn on_real(test: impl AsyncFn()) {
    for kernel in kernels().into_iter().filter(|kernel| !matches!(kernel, Backend::Sim { .. })) {
        run_on(kernel, test());
    }
}

/// Runs the loop until it has taken every pending edge.
async fn take_edges() {
    for _ in 0..3 {
        sleep(Duration::from_millis(1)).await;
    }
}

/// A TCP socket for operations, and its peer, with small buffers.
fn tcp_pair() -> (Fd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let ours = listener.accept().unwrap().0;
    for socket in [&ours, &theirs] {
        setsockopt(socket, sockopt::SndBuf, &(64 * KIB)).unwrap();
        setsockopt(socket, sockopt::RcvBuf, &(64 * KIB)).unwrap();
    }
    (own(ours), theirs)
}

fn own(fd: impl Into<OwnedFd>) -> Fd {
    Fd::from(fd.into())
}

fn listener(backlog: u32) -> (Fd, SocketAddr) {
    let options =
        ListenOptions { backlog, reuse_addr: true, reuse_port: false, nodelay: true, v6_only: false };
    let fd = listen(SocketAddr::from(([127, 0, 0, 1], 0)), options).unwrap();
    let addr = fd.local_addr().unwrap();
    (fd, addr)
}

/// An operation on one descriptor and one buffer; returns the bytes that it moved.
struct Io {
    fd: Fd,
    buf: Vec<u8>,
    sqe: for<'a> fn(&'a Fd, &'a mut [u8]) -> Sqe<'a>,
}

impl Operation for Io {
    type Output = io::Result<Vec<u8>>;

    fn prepare(&mut self) -> Sqe<'_> {
        (self.sqe)(&self.fd, &mut self.buf)
    }

    fn complete(mut self: Box<Self>, done: Done) -> Self::Output {
        self.buf.truncate(done.count()?);
        Ok(self.buf)
    }
}

fn read(fd: &Fd, size: usize) -> Io {
    Io { fd: fd.clone(), buf: vec![0; size], sqe: |fd, buf| Sqe::read(fd, buf) }
}

fn write(fd: &Fd, data: &[u8]) -> Io {
    Io { fd: fd.clone(), buf: data.to_vec(), sqe: |fd, buf| Sqe::write(fd, buf) }
}

fn send_pieces(fd: &Fd, data: Vec<u8>) -> Io {
    Io { fd: fd.clone(), buf: data, sqe: |fd, buf| Sqe::send_vectored(fd, buf.chunks(10_000).collect()) }
}

/// Returns as many bytes as the value of the events: one for POLLIN.
fn poll_in(fd: &Fd) -> Io {
    Io { fd: fd.clone(), buf: vec![0; 64], sqe: |fd, _| Sqe::poll_readable(fd) }
}

struct Accept {
    fd: Fd,
    peer: PeerAddr,
}

impl Operation for Accept {
    type Output = io::Result<(Fd, Option<SocketAddr>)>;

    fn prepare(&mut self) -> Sqe<'_> {
        Sqe::accept(&self.fd, &mut self.peer)
    }

    fn complete(self: Box<Self>, done: Done) -> Self::Output {
        let peer = self.peer.get();
        Ok((done.into_fd()?, peer))
    }
}

fn accept(fd: &Fd) -> Accept {
    Accept { fd: fd.clone(), peer: PeerAddr::new() }
}

/// The data of a multishot receive so far, and how often it has ended.
#[derive(Clone, Default)]
struct Got(Rc<(RefCell<Vec<u8>>, Cell<u32>)>);

impl Got {
    fn ends(&self) -> u32 {
        self.0.1.get()
    }

    fn len(&self) -> usize {
        self.0.0.borrow().len()
    }
}

struct Many {
    fd: Fd,
    cap: u32,
    got: Got,
}

impl Multishot for Many {
    fn prepare(&self) -> Sqe<'_> {
        Sqe::recv_multi(&self.fd, self.cap)
    }

    fn item(&self, done: Done) {
        if let Some(buf) = done.buffer() {
            self.got.0.0.borrow_mut().extend_from_slice(buf);
        }
    }

    fn end(&self, done: Done) {
        self.item(done);
        self.got.0.1.set(self.got.ends() + 1);
    }
}

fn receive_all(fd: &Fd, cap: u32, got: &Got) -> OpKey {
    op::start_multishot(Many { fd: fd.clone(), cap, got: got.clone() })
}

/// Bytes of which each piece differs from the others.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

/// Receives exactly this many bytes.
async fn receive(fd: &Fd, len: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < len {
        let data = submit(recv(fd, len - all.len())).await.unwrap();
        assert!(!data.is_empty(), "the end after {} of {len} bytes", all.len());
        all.extend(data);
    }
    all
}

// ---------------------------------------------------------------- receives

#[test]
fn fin_in_the_same_edge_as_data() {
    on_real(async || {
        for early in [true, false] {
            let (fd, mut peer) = tcp_pair();
            let first = create_task(submit(recv(&fd, 100)));
            if !early {
                take_edges().await;
            }
            peer.write_all(b"abc").unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
            assert_eq!(first.await.unwrap().unwrap(), b"abc");
            assert_eq!(submit(recv(&fd, 100)).await.unwrap(), b"");
        }
    });
}

/// Receives a byte, then runs a callback before the next operation of the same `enter`.
struct Then<F> {
    recv: common::Recv,
    then: F,
}

impl<F: FnOnce() + 'static> Operation for Then<F> {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        self.recv.prepare()
    }

    fn complete(self: Box<Self>, done: Done) {
        assert_eq!(done.count().unwrap(), 1);
        (self.then)();
    }
}

/// Takes both edges in one `enter`, and runs `between` before the receive of the second. Returns what that receive
/// returned, and its socket.
async fn between_edge_and_receive(between: impl FnOnce(&TcpStream) + 'static) -> (Vec<u8>, Fd) {
    let ((before, mut first), (fd, second)) = (tcp_pair(), tcp_pair());
    let mut writer = second.try_clone().unwrap();
    op::start(Box::new(Then { recv: recv(&before, 1), then: move || between(&second) }));
    let received = create_task(submit(recv(&fd, 100)));
    take_edges().await;
    first.write_all(b"!").unwrap();
    writer.write_all(b"abc").unwrap();
    (received.await.unwrap().unwrap(), fd)
}

#[test]
fn fin_between_edge_and_receive() {
    on_real(async || {
        let fin = |peer: &TcpStream| peer.shutdown(Shutdown::Write).unwrap();
        let (data, fd) = between_edge_and_receive(fin).await;
        assert_eq!(data, b"abc");
        assert_eq!(submit(recv(&fd, 100)).await.unwrap(), b"");
    });
}

#[test]
fn data_between_edge_and_receive() {
    on_real(async || {
        let (data, fd) = between_edge_and_receive(|mut peer| peer.write_all(b"def").unwrap()).await;
        let rest = receive(&fd, 6 - data.len()).await;
        assert_eq!([data, rest].concat(), b"abcdef");
    });
}

fn send_urgent(peer: &TcpStream, byte: u8) {
    let sent = sendmsg::<()>(peer.as_raw_fd(), &[IoSlice::new(&[byte])], &[], MsgFlags::MSG_OOB, None);
    assert_eq!(sent.unwrap(), 1);
}

#[test]
fn an_urgent_byte_with_data_behind() {
    on_real(async || {
        for early in [true, false] {
            let (fd, mut peer) = tcp_pair();
            if early {
                let got = create_task(submit(recv(&fd, 1)));
                peer.write_all(b"-").unwrap();
                assert_eq!(got.await.unwrap().unwrap(), b"-");
            }
            peer.write_all(b"abc").unwrap();
            send_urgent(&peer, b'!');
            peer.write_all(b"def").unwrap();
            assert_eq!(receive(&fd, 6).await, b"abcdef");
        }
    });
}

#[test]
fn an_urgent_byte_between_edge_and_receive() {
    on_real(async || {
        let urgent = |mut peer: &TcpStream| {
            send_urgent(peer, b'!');
            peer.write_all(b"def").unwrap();
        };
        let (data, fd) = between_edge_and_receive(urgent).await;
        let rest = receive(&fd, 6 - data.len()).await;
        assert_eq!([data, rest].concat(), b"abcdef");
    });
}

#[test]
fn descriptors_stop_a_read_short_with_data_behind() {
    on_real(async || {
        let (fd, mut peer) = pair();
        let first = create_task(submit(recv(&fd, 100)));
        take_edges().await;
        let null = std::fs::File::open("/dev/null").unwrap();
        let rights = [null.as_raw_fd()];
        for data in [b"ab", b"cd"] {
            let rights = ControlMessage::ScmRights(&rights);
            let data = [IoSlice::new(data)];
            sendmsg::<()>(peer.as_raw_fd(), &data, &[rights], MsgFlags::empty(), None).unwrap();
        }
        peer.write_all(b"ef").unwrap();
        let first = first.await.unwrap().unwrap();
        assert!(first.len() < 6, "it is not stopped");
        let rest = receive(&fd, 6 - first.len()).await;
        assert_eq!([first, rest].concat(), b"abcdef");
    });
}

#[test]
fn a_full_buffer_and_then_silence() {
    on_real(async || {
        for (fd, mut peer) in [tcp_pair(), tcp_pair()] {
            peer.write_all(b"abcd").unwrap();
            assert_eq!(submit(recv(&fd, 4)).await.unwrap(), b"abcd");
            let next = create_task(submit(recv(&fd, 4)));
            take_edges().await;
            assert!(!next.done(), "there is nothing to receive");
            peer.write_all(b"efgh").unwrap();
            assert_eq!(next.await.unwrap().unwrap(), b"efgh");
        }
    });
}

#[test]
fn a_cap_is_reached_with_data_left() {
    let mut runner = Runner::builder().backend(Backend::Epoll).buffers(4, 64).build().unwrap();
    runner
        .run(timeout(HANGS, async {
            let (fd, mut peer) = tcp_pair();
            let (data, got) = (pattern(1000), Got::default());
            peer.write_all(&data).unwrap();
            for ends in 1..=7 {
                receive_all(&fd, 128, &got);
                until(|| got.ends() == ends).await;
                assert_eq!(got.len(), 128 * ends as usize);
            }
            let key = receive_all(&fd, 128, &got);
            until(|| got.len() == data.len()).await;
            assert_eq!((&*got.0.0.borrow(), got.ends()), (&data, 7));
            op::cancel(key);
            until(|| got.ends() == 8).await;
        }))
        .expect("the test hangs");
}

/// The receives of streams go another way than those of `Multishot`.
#[test]
fn a_cap_of_a_receiver_ends_its_receive_with_the_data() {
    thread_local! {
        static GOT: RefCell<(usize, Option<usize>)> = RefCell::default();
    }
    static RECEIVER: op::Receiver = op::Receiver {
        data: |arrivals| {
            arrivals.each(|_, data, _| {
                GOT.with_borrow_mut(|got| got.0 += data.len());
                None
            });
        },
        end: |_, done| GOT.with_borrow_mut(|got| got.1 = Some(done.buffer().map_or(0, |data| data.len()))),
    };
    on_real(async || {
        GOT.set((0, None));
        let (fd, mut peer) = tcp_pair();
        peer.write_all(&pattern(100)).unwrap();
        op::receive(&fd, 50, 0, &RECEIVER);
        until(|| GOT.with_borrow(|got| got.1.is_some())).await;
        assert_eq!(GOT.take(), (0, Some(100)), "data with more to come, and with the end");
    });
}

#[test]
fn an_edge_while_nothing_is_armed() {
    on_real(async || {
        let (fd, mut peer) = tcp_pair();
        for round in 0..20u8 {
            let waits = create_task(submit(recv(&fd, 16)));
            yield_now().await;
            peer.write_all(&[round]).unwrap();
            assert_eq!(waits.await.unwrap().unwrap(), [round]);
            peer.write_all(&[round, 1]).unwrap();
            take_edges().await;
            assert_eq!(receive(&fd, 2).await, [round, 1]);
        }
        peer.shutdown(Shutdown::Write).unwrap();
        take_edges().await;
        assert_eq!(submit(recv(&fd, 16)).await.unwrap(), b"");
    });
}

#[test]
fn several_receives_on_one_descriptor_are_served_in_order() {
    on_epoll(async {
        for (fd, mut peer) in [tcp_pair(), tcp_pair()] {
            let mut waiting: Vec<_> = (0..5).map(|_| create_task(submit(recv(&fd, 2)))).collect();
            take_edges().await;
            peer.write_all(b"0123").unwrap();
            take_edges().await;
            peer.write_all(b"456789").unwrap();
            for (n, task) in waiting.drain(..).enumerate() {
                assert_eq!(task.await.unwrap().unwrap(), &b"0123456789"[2 * n..][..2]);
            }
        }
    });
}

#[test]
fn a_cancel_of_the_first_of_two_leaves_everything_to_the_second() {
    on_real(async || {
        let (fd, mut peer) = tcp_pair();
        let mut first = submit(recv(&fd, 100));
        assert!(poll_once(&mut first).is_pending());
        let second = create_task(submit(recv(&fd, 100)));
        take_edges().await;
        drop(first);
        take_edges().await;
        peer.write_all(b"abc").unwrap();
        assert_eq!(second.await.unwrap().unwrap(), b"abc");
    });
}

#[test]
fn a_cancel_in_the_turn_of_the_data_loses_nothing() {
    on_epoll(async {
        let (fd, mut peer) = tcp_pair();
        for round in 0..100u8 {
            let mut first = submit(recv(&fd, 100));
            assert!(poll_once(&mut first).is_pending());
            if round % 2 == 0 {
                yield_now().await;
            }
            peer.write_all(&[round]).unwrap();
            drop(first);
            assert_eq!(submit(recv(&fd, 100)).await.unwrap(), [round]);
        }
    });
}

// ---------------------------------------------------------------- sends

/// Reads everything that has arrived at the peer, and appends it.
fn take_all(peer: &mut (impl Read + AsFd), all: &mut Vec<u8>) {
    fcntl(&*peer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    match peer.read_to_end(all) {
        Ok(_) => {}
        Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock),
    }
}

#[test]
fn a_send_that_blocks_once_and_again() {
    on_real(async || {
        let (fd, mut peer) = tcp_pair();
        // The socket is already registered, for its receives.
        peer.write_all(b"a").unwrap();
        assert_eq!(submit(recv(&fd, 1)).await.unwrap(), b"a");
        for round in 0..3 {
            let data = pattern(MUCH + round);
            let sending = match round {
                1 => create_task(submit(send_pieces(&fd, data.clone()))),
                _ => create_task(submit(Io { sqe: |fd, buf| Sqe::send(fd, buf), ..write(&fd, &data) })),
            };
            take_edges().await;
            assert!(!sending.done(), "the socket takes everything");
            let before = metrics().ring.enters;
            take_edges().await;
            let enters = metrics().ring.enters - before;
            assert!(enters < 30, "it spins: {enters} enters");
            let mut all = Vec::new();
            while all.len() < data.len() {
                take_all(&mut peer, &mut all);
                sleep(Duration::from_micros(100)).await;
            }
            assert!(all == data, "bytes lost or out of order");
            assert_eq!(sending.await.unwrap().unwrap().len(), data.len());
        }
    });
}

#[test]
fn two_sends_of_one_descriptor_do_not_mix() {
    on_epoll(async {
        let (fd, mut peer) = tcp_pair();
        let data = pattern(2 * MUCH);
        let (one, two) = data.split_at(MUCH);
        let one = create_task(submit(send_pieces(&fd, one.to_vec())));
        let two = create_task(submit(Send { fd: fd.clone(), data: two.to_vec() }));
        let mut all = Vec::new();
        while all.len() < data.len() {
            take_all(&mut peer, &mut all);
            sleep(Duration::from_micros(100)).await;
        }
        assert!(all == data, "the sends mix");
        assert_eq!((one.await.unwrap().unwrap().len(), two.await.unwrap().unwrap()), (MUCH, MUCH));
    });
}

#[test]
fn a_reset_amid_a_vectored_send_tells_first_how_far_it_came() {
    on_real(async || {
        let (fd, mut peer) = tcp_pair();
        let sending = create_task(submit(send_pieces(&fd, pattern(MUCH))));
        take_edges().await;
        peer.read_exact(&mut [0; 1000]).unwrap();
        let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&peer, sockopt::Linger, &linger).unwrap();
        drop(peer);
        let sent = sending.await.unwrap().unwrap().len();
        assert!((1000..MUCH).contains(&sent), "{sent}");
        let next = submit(Send { fd, data: vec![1] }).await.unwrap_err().kind();
        assert!(matches!(next, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{next}");
    });
}

/// A multishot receive whose peer sends more with each item, and reads what it gets: the socket is never empty.
struct Flood {
    fd: Fd,
    peer: RefCell<UnixStream>,
    items: Rc<Cell<u32>>,
    taken: RefCell<Vec<u8>>,
}

impl Flood {
    const MOST: u32 = 20_000;
}

impl Multishot for Flood {
    fn prepare(&self) -> Sqe<'_> {
        Sqe::recv_multi(&self.fd, 0)
    }

    fn item(&self, _: Done) {
        self.items.set(self.items.get() + 1);
        let mut peer = self.peer.borrow_mut();
        take_all(&mut *peer, &mut self.taken.borrow_mut());
        if self.items.get() < Flood::MOST {
            let _ = peer.write(&[7; 8 * KIB]);
        }
    }

    fn end(&self, _: Done) {}
}

#[test]
fn a_flood_of_receives_starves_no_send() {
    on_epoll(async {
        let (fd, mut peer) = pair();
        let sending = create_task(submit(Send { fd: fd.clone(), data: pattern(MUCH) }));
        take_edges().await;
        let items = Rc::new(Cell::new(0));
        peer.write_all(&[7; 16 * KIB]).unwrap();
        let flood = Flood { fd, peer: peer.into(), items: items.clone(), taken: RefCell::default() };
        let key = op::start_multishot(flood);
        until(|| sending.done() || items.get() >= Flood::MOST).await;
        assert!(sending.done(), "it has to wait for the end of the flood");
        op::cancel(key);
    });
}

// ---------------------------------------------------------------- listeners and connects

#[test]
fn a_listener_that_is_shut_down_fails_its_accept() {
    on_real(async || {
        let (fd, _) = listener(8);
        let accepting = create_task(submit(accept(&fd)));
        take_edges().await;
        fd.shutdown(Shutdown::Both).unwrap();
        assert_eq!(accepting.await.unwrap().unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_paused_listener_keeps_its_backlog() {
    on_real(async || {
        let (fd, addr) = listener(128);
        for _ in 0..3 {
            let mut waiting = [submit(accept(&fd)), submit(accept(&fd))];
            assert!(poll_once(&mut waiting[0]).is_pending() && poll_once(&mut waiting[1]).is_pending());
            take_edges().await;
            drop(waiting);
            take_edges().await;
            let clients: Vec<_> = (0..5).map(|_| TcpStream::connect(addr).unwrap()).collect();
            take_edges().await;
            for client in &clients {
                let (_, peer) = submit(accept(&fd)).await.unwrap();
                assert_eq!(peer, Some(client.local_addr().unwrap()));
            }
        }
    });
}

#[test]
fn a_cancelled_accept_takes_no_event_from_who_polls_the_listener() {
    on_real(async || {
        let (listening, addr) = listener(8);
        let polling = create_task(submit(poll_in(&listening)));
        let mut accepting = submit(accept(&listening));
        assert!(poll_once(&mut accepting).is_pending());
        take_edges().await;
        drop(accepting);
        take_edges().await;
        let _client = TcpStream::connect(addr).unwrap();
        assert_eq!(polling.await.unwrap().unwrap().len(), 1);
    });
}

#[test]
fn emfile_with_a_backlog_leaves_the_connection_to_the_next_accept() {
    if !in_own_process("emfile_with_a_backlog_leaves_the_connection_to_the_next_accept") {
        return;
    }
    // io_uring's accept keeps the limit that was set when it began.
    on_epoll(async {
        let (fd, addr) = listener(8);
        let accepting = create_task(submit(accept(&fd)));
        take_edges().await;
        let client = TcpStream::connect(addr).unwrap();
        {
            let _few = FewDescriptors::at_most(1);
            assert_eq!(accepting.await.unwrap().unwrap_err().raw_os_error(), Some(libc::EMFILE));
            let again = submit(accept(&fd)).await.unwrap_err();
            assert_eq!(again.raw_os_error(), Some(libc::EMFILE));
        }
        let (_, peer) = submit(accept(&fd)).await.unwrap();
        assert_eq!(peer, Some(client.local_addr().unwrap()));
    });
}

fn connect(addr: SocketAddr) -> Connect {
    Connect { fd: connector(addr, None).unwrap(), addr: SockAddr::from(addr) }
}

#[test]
fn a_connect_that_is_refused() {
    on_real(async || {
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(submit(connect(addr)).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_connect_of_a_connected_socket_is_refused() {
    on_real(async || {
        let (_listener, addr) = listener(8);
        let first = connect(addr);
        let fd = first.fd.clone();
        submit(first).await.unwrap();
        let again = submit(Connect { fd, addr: SockAddr::from(addr) }).await.unwrap_err();
        assert_eq!(again.raw_os_error(), Some(libc::EISCONN));
    });
}

/// A listener whose backlog is full, so that it accepts nobody; and the connections that fill it.
fn silent_listener() -> (Fd, SocketAddr, Vec<TcpStream>) {
    let (fd, addr) = listener(0);
    let filling = fill(addr);
    (fd, addr, filling)
}

fn fill(addr: SocketAddr) -> Vec<TcpStream> {
    let patience = Duration::from_millis(200);
    std::iter::from_fn(|| TcpStream::connect_timeout(&addr, patience).ok()).collect()
}

#[test]
fn a_connect_that_times_out() {
    on_real(async || {
        let (_listener, addr, _filling) = silent_listener();
        let connect = connect(addr);
        // The kernel gives up instead of retrying.
        setsockopt(&connect.fd.as_fd().unwrap(), sockopt::TcpUserTimeout, &1).unwrap();
        assert_eq!(submit(connect).await.unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn a_connect_that_is_dropped_ends_and_lets_go_of_its_socket() {
    on_real(async || {
        let (_listener, addr, _filling) = silent_listener();
        let connect = connect(addr);
        let fd = connect.fd.clone();
        assert!(timeout(Duration::from_millis(20), submit(connect)).await.is_err());
        until(|| metrics().operations == 0).await;
        fd.try_into_owned().expect("somebody else still has the socket");
    });
}

#[test]
fn a_connect_that_succeeds_later() {
    on_real(async || {
        let (listener, addr, _filling) = silent_listener();
        let connecting = create_task(submit(connect(addr)));
        take_edges().await;
        assert!(!connecting.done());
        // The kernel retries after a second.
        let _accepted = submit(accept(&listener)).await.unwrap();
        connecting.await.unwrap().unwrap();
    });
}

/// An accept that may be abandoned: a connection that it then returns is counted.
struct Counted {
    accept: Accept,
    abandoned: Rc<Cell<u32>>,
}

impl Operation for Counted {
    type Output = io::Result<(Fd, Option<SocketAddr>)>;

    fn prepare(&mut self) -> Sqe<'_> {
        self.accept.prepare()
    }

    fn complete(self: Box<Self>, done: Done) -> Self::Output {
        Box::new(self.accept).complete(done)
    }

    fn abandoned(self: Box<Self>, done: Done) {
        let brought = u32::from(done.into_fd().is_ok());
        self.abandoned.set(self.abandoned.get() + brought);
    }
}

/// Connects repeatedly, each time after the last connection was taken.
fn connect_until(addr: SocketAddr, stop: &AtomicBool) -> u32 {
    let mut made = 0;
    while !stop.load(Ordering::SeqCst) {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(HANGS)).unwrap();
        let end = stream.read(&mut [0]);
        assert!(matches!(end, Ok(0)), "{end:?}");
        made += 1;
    }
    made
}

#[test]
fn accepts_that_are_cancelled_at_random_lose_no_connection() {
    let soaks = std::env::var_os("CORIO_SOAK_SECONDS").is_some() || !cfg!(debug_assertions);
    let many = if soaks { 100_000 } else { 5_000 };
    on(Backend::Epoll).run(async {
        let (fd, addr) = listener(128);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let client = thread::spawn(move || connect_until(addr, &stopped));
        let (mut cancelled, mut accepted, abandoned) = (0, 0, Rc::new(Cell::new(0)));
        while !client.is_finished() {
            let counted = Counted { accept: accept(&fd), abandoned: abandoned.clone() };
            let patience = Duration::from_micros(u64::from((cancelled * 7 + accepted * 13) % 50));
            match timeout(patience, submit(counted)).await {
                Ok(brought) => accepted += u32::from(brought.is_ok()),
                Err(_) => cancelled += 1,
            }
            if cancelled >= many && accepted >= many / 100 {
                stop.store(true, Ordering::SeqCst);
            }
        }
        until(|| metrics().operations == 0).await;
        assert_eq!(client.join().unwrap(), accepted + abandoned.get());
    });
}

// ---------------------------------------------------------------- descriptors

#[test]
fn a_duplicate_of_a_closed_descriptor_finds_nothing_and_costs_no_spin() {
    on_epoll(async {
        let (fd, mut peer) = tcp_pair();
        peer.write_all(b"a").unwrap();
        assert_eq!(submit(recv(&fd, 10)).await.unwrap(), b"a");
        let _duplicate = fd.as_fd().unwrap().try_clone_to_owned().unwrap();
        drop(fd);
        take_edges().await;
        // Reuses the slot of the closed one.
        let (other, mut others) = tcp_pair();
        let waits = create_task(submit(recv(&other, 10)));
        take_edges().await;
        let before = metrics().ring;
        let duplicates_peer = move || {
            for _ in 0..100 {
                peer.write_all(b"b").unwrap();
                thread::sleep(Duration::from_millis(1));
            }
        };
        to_thread(duplicates_peer).await;
        let (enters, calls) = (metrics().ring.enters - before.enters, metrics().ring.calls - before.calls);
        assert!(enters < 120, "it spins: {enters} enters");
        assert!(calls < enters + 10, "{calls} calls in {enters} enters: one of them is for nothing");
        assert!(!waits.done(), "it has the events of another descriptor");
        others.write_all(b"c").unwrap();
        assert_eq!(waits.await.unwrap().unwrap(), b"c");
    });
}

#[test]
fn a_number_is_used_again() {
    if !in_own_process("a_number_is_used_again") {
        return;
    }
    on_real(async || {
        let mut numbers = Vec::new();
        for round in 0..20u8 {
            let (fd, mut peer) = tcp_pair();
            numbers.push(fd.as_fd().unwrap().as_raw_fd());
            // The peer closes first or last.
            let waits = create_task(submit(recv(&fd, 10)));
            yield_now().await;
            peer.write_all(&[round]).unwrap();
            assert_eq!(waits.await.unwrap().unwrap(), [round]);
            if round % 2 == 0 {
                drop(peer);
                drop(fd);
            } else {
                drop(fd);
                drop(peer);
            }
        }
        numbers.dedup();
        assert!(numbers.len() < 20, "no number came twice: {numbers:?}");
    });
}

#[test]
fn the_same_socket_comes_back_under_its_number() {
    if !in_own_process("the_same_socket_comes_back_under_its_number") {
        return;
    }
    on_epoll(async {
        let (fd, mut peer) = tcp_pair();
        peer.write_all(b"a").unwrap();
        assert_eq!(submit(recv(&fd, 10)).await.unwrap(), b"a");
        let number = fd.as_fd().unwrap().as_raw_fd();
        let duplicate = fd.as_fd().unwrap().try_clone_to_owned().unwrap();
        drop(fd);
        // EEXIST: this socket is still registered under this number.
        let back = duplicate.try_clone().unwrap();
        assert_eq!(back.as_raw_fd(), number);
        let back = Fd::from(back);
        peer.write_all(b"b").unwrap();
        assert_eq!(submit(recv(&back, 10)).await.unwrap(), b"b");
        let waits = create_task(submit(recv(&back, 10)));
        take_edges().await;
        peer.write_all(b"c").unwrap();
        assert_eq!(waits.await.unwrap().unwrap(), b"c");
    });
}

#[test]
fn a_descriptor_that_was_given_away_comes_back() {
    on_real(async || {
        let (mut fd, mut peer) = tcp_pair();
        for round in 0..5u8 {
            peer.write_all(&[round]).unwrap();
            assert_eq!(submit(recv(&fd, 10)).await.unwrap(), [round]);
            let owned = fd.try_into_owned().unwrap();
            peer.write_all(b"x").unwrap();
            take_edges().await;
            fd = Fd::from(owned);
            assert_eq!(submit(recv(&fd, 10)).await.unwrap(), b"x");
        }
    });
}

#[test]
fn a_descriptor_on_two_loops_of_a_thread_is_refused_and_after_the_first_it_works() {
    let (fd, mut peer) = tcp_pair();
    let mut first = on(Backend::Epoll);
    peer.write_all(b"a").unwrap();
    assert_eq!(first.run(submit_all(recv(&fd, 1))).unwrap(), b"a");
    peer.write_all(b"b").unwrap();
    let elsewhere = on_epoll(submit_all(recv(&fd, 1))).unwrap_err();
    assert_eq!(elsewhere.raw_os_error(), Some(libc::EXDEV));
    assert_eq!(first.run(submit_all(recv(&fd, 1))).unwrap(), b"b");
    drop(first);
    for _ in 0..3 {
        peer.write_all(b"c").unwrap();
        assert_eq!(on_epoll(submit_all(recv(&fd, 1))).unwrap(), b"c");
    }
}

/// Submits when first polled, while the loop runs.
async fn submit_all<O: Operation>(op: O) -> O::Output {
    submit(op).await
}

#[test]
fn a_descriptor_that_outlives_its_loop_keeps_none_of_its_descriptors() {
    if !in_own_process("a_descriptor_that_outlives_its_loop_keeps_none_of_its_descriptors") {
        return;
    }
    let mut kept = Vec::new();
    for _ in 0..10 {
        let (fd, mut peer) = tcp_pair();
        peer.write_all(b"a").unwrap();
        assert_eq!(on_epoll(submit_all(recv(&fd, 1))).unwrap(), b"a");
        kept.push((fd, peer));
    }
    let open = common::open_fds();
    kept.clear();
    assert_eq!(open - common::open_fds(), 20, "a socket and its peer, ten times");
}

#[test]
fn a_terminal_is_opened_once_more_by_each_of_two_loops() {
    let (ours, theirs) = terminal();
    let ours = Fd::from(ours);
    for _ in 0..2 {
        let theirs = std::fs::File::from(theirs.try_clone().unwrap());
        on_epoll(talk(&ours, theirs));
    }
}

#[test]
fn a_host_hears_of_a_round_by_the_descriptor_or_where_there_is_no_timerfd_by_the_deadline() {
    if !in_own_process(
        "a_host_hears_of_a_round_by_the_descriptor_or_where_there_is_no_timerfd_by_the_deadline",
    ) {
        return;
    }
    let round = |runner: &mut Runner| {
        runner.run(async {
            corio_runtime::service::want_round();
            yield_now().await;
        });
        runner.next_deadline().map(|due| due.duration_since(Instant::now()))
    };
    let mut watched = on(Backend::Epoll);
    assert_eq!(round(&mut watched), None);
    let few = FewDescriptors::at_most(64);
    let mut files: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    // Room for the epoll descriptor and the eventfd.
    files.truncate(files.len() - 2);
    let mut other = on(Backend::Epoll);
    assert!(std::fs::File::open("/dev/null").is_err());
    drop((files, few));
    let due = round(&mut other).expect("a round is due in a minute");
    assert!((Duration::from_secs(30)..=Duration::from_secs(60)).contains(&due), "{due:?}");
}

#[test]
fn a_descriptor_outlives_its_loop_with_an_operation_in_flight() {
    let (fd, mut peer) = tcp_pair();
    for round in 0..3u8 {
        on(Backend::Epoll).run(async {
            let mut waits = submit(recv(&fd, 10));
            assert!(poll_once(&mut waits).is_pending());
            std::mem::forget(waits);
            take_edges().await;
        });
        peer.write_all(&[round]).unwrap();
        assert_eq!(on_epoll(submit_all(recv(&fd, 10))).unwrap(), [round]);
    }
}

#[test]
fn more_are_ready_than_one_wait_takes() {
    if !in_own_process("more_are_ready_than_one_wait_takes") {
        return;
    }
    on_real(async || {
        let mut pairs: Vec<_> = (0..400).map(|_| pair()).collect();
        for round in 0..3u8 {
            let waiting: Vec<_> = pairs.iter().map(|(fd, _)| create_task(submit(recv(fd, 4)))).collect();
            take_edges().await;
            for (_, peer) in &mut pairs {
                peer.write_all(&[round]).unwrap();
            }
            for task in waiting {
                assert_eq!(task.await.unwrap().unwrap(), [round]);
            }
        }
    });
}

// ---------------------------------------------------------------- pipes, terminals, devices, files

#[test]
fn a_pipe_hangs_up_without_being_readable() {
    on_real(async || {
        let (reader, writer) = io::pipe().unwrap();
        let fd = own(reader);
        let reading = create_task(submit(read(&fd, 10)));
        take_edges().await;
        drop(writer);
        assert_eq!(reading.await.unwrap().unwrap(), b"");
        assert_eq!(submit(read(&fd, 10)).await.unwrap(), b"");
    });
}

#[test]
fn a_write_to_a_pipe_ends_with_what_the_pipe_takes() {
    on_real(async || {
        let (_reader, writer) = io::pipe().unwrap();
        let written = submit(write(&own(writer), &pattern(600_000))).await.unwrap().len();
        assert!((1..600_000).contains(&written), "{written}");
    });
}

#[test]
fn a_read_of_no_byte_waits_for_nothing() {
    on_real(async || {
        let (fd, _peer) = pair();
        let (reader, _writer) = io::pipe().unwrap();
        assert_eq!(submit(read(&fd, 0)).await.unwrap(), b"");
        assert_eq!(submit(read(&own(reader), 0)).await.unwrap(), b"");
    });
}

#[test]
fn a_full_pipe_blocks_a_write_until_it_is_read() {
    on_real(async || {
        let (mut reader, writer) = io::pipe().unwrap();
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let fd = own(writer);
        let data = pattern(300_000);
        let (mut written, mut got) = (0, Vec::new());
        while written < data.len() {
            let writing = create_task(submit(write(&fd, &data[written..])));
            take_edges().await;
            while !writing.done() {
                let mut some = vec![0; 5000];
                let count = reader.read(&mut some).unwrap_or(0);
                got.extend_from_slice(&some[..count]);
                yield_now().await;
            }
            written += writing.await.unwrap().unwrap().len();
        }
        drop(fd);
        while got.len() < data.len() {
            let mut some = vec![0; 5000];
            let count = reader.read(&mut some).unwrap();
            assert!(count > 0, "bytes lost");
            got.extend_from_slice(&some[..count]);
        }
        assert!(got == data, "other bytes");
    });
}

fn flags(fd: impl AsFd) -> OFlag {
    OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap())
}

/// A read of a terminal may take until somebody types, and must not block anything else.
async fn talk(ours: &Fd, mut theirs: std::fs::File) {
    let first = create_task(submit(read(ours, 100)));
    take_edges().await;
    assert!(!first.done());
    theirs.write_all(b"one\n").unwrap();
    assert_eq!(first.await.unwrap().unwrap(), b"one\n");
    let second = create_task(submit(read(ours, 100)));
    take_edges().await;
    assert!(!second.done());
    theirs.write_all(b"two\n").unwrap();
    assert_eq!(second.await.unwrap().unwrap(), b"two\n");
    assert_eq!(submit(write(ours, b"three\n")).await.unwrap().len(), 6);
    let mut got = [0; 6];
    theirs.read_exact(&mut got).unwrap();
    assert_eq!(got, *b"three\n");
}

/// Both ends of a terminal in raw mode.
fn terminal() -> (OwnedFd, OwnedFd) {
    use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
    let pty = openpty(None, None).unwrap();
    let mut raw = tcgetattr(&pty.slave).unwrap();
    cfmakeraw(&mut raw);
    tcsetattr(&pty.slave, SetArg::TCSANOW, &raw).unwrap();
    (pty.master, pty.slave)
}

#[test]
fn a_terminal_is_read_and_written_and_keeps_its_flags_for_those_who_share_it() {
    let (master, slave) = terminal();
    let shared = slave.try_clone().unwrap();
    let before = flags(&shared);
    let fd = own(slave);
    for _ in 0..2 {
        // The descriptor outlives its loop.
        on_epoll(talk(&fd, master.try_clone().unwrap().into()));
        assert_eq!(flags(&shared), before);
    }
}

#[test]
fn the_other_side_of_a_terminal_is_read_and_written() {
    let (master, slave) = terminal();
    let fd = own(master);
    for _ in 0..2 {
        on_epoll(talk(&fd, slave.try_clone().unwrap().into()));
    }
}

#[test]
fn devices_that_have_no_events_are_always_ready() {
    on_real(async || {
        let open = |path| own(std::fs::File::options().read(true).write(true).open(path).unwrap());
        let (null, zero) = (open("/dev/null"), open("/dev/zero"));
        for _ in 0..3 {
            assert_eq!(submit(read(&null, 10)).await.unwrap(), b"");
            assert_eq!(submit(read(&zero, 10)).await.unwrap(), [0; 10]);
            assert_eq!(submit(write(&null, b"abc")).await.unwrap().len(), 3);
            assert_eq!(submit(write(&zero, b"abc")).await.unwrap().len(), 3);
            assert_eq!(submit(poll_in(&zero)).await.unwrap().len(), 1);
        }
    });
}

#[test]
fn a_file_is_written_and_read_to_its_end() {
    on_real(async || {
        let mut dir = std::env::temp_dir();
        dir.push(format!("corio-epoll-{}", std::process::id()));
        let file =
            std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&dir).unwrap();
        std::fs::remove_file(&dir).unwrap();
        let also = own(file.try_clone().unwrap());
        let fd = own(file);
        let data = pattern(100_000);
        assert_eq!(submit(write(&fd, &data)).await.unwrap().len(), data.len());
        unistd::lseek(also.as_fd().unwrap(), 0, unistd::Whence::SeekSet).unwrap();
        let mut got = Vec::new();
        loop {
            let some = submit(read(&fd, 30_000)).await.unwrap();
            if some.is_empty() {
                break;
            }
            got.extend(some);
        }
        assert!(got == data, "other bytes");
    });
}

#[test]
fn a_poll_tells_what_is_there_and_takes_nothing() {
    on_real(async || {
        let (fd, mut peer) = tcp_pair();
        for round in 0..3u8 {
            let (one, two) = (create_task(submit(poll_in(&fd))), create_task(submit(poll_in(&fd))));
            take_edges().await;
            assert!(!one.done() && !two.done());
            peer.write_all(&[round]).unwrap();
            assert_eq!((one.await.unwrap().unwrap().len(), two.await.unwrap().unwrap().len()), (1, 1));
            assert_eq!(submit(poll_in(&fd)).await.unwrap().len(), 1);
            assert_eq!(submit(recv(&fd, 10)).await.unwrap(), [round]);
        }
    });
}

// ---------------------------------------------------------------- sleeps, signals, wakes

#[test]
fn a_sleep_of_less_than_a_millisecond_is_not_rounded_up() {
    on_epoll(async {
        let mut least = Duration::MAX;
        let asked = Duration::from_micros(300);
        for _ in 0..200 {
            let begun = Instant::now();
            sleep(asked).await;
            let took = begun.elapsed();
            assert!(took >= asked, "it wakes early: {took:?}");
            least = least.min(took);
        }
        assert!(least < Duration::from_millis(1), "{least:?}");
    });
}

#[test]
fn a_storm_of_signals_costs_no_operation_and_no_time() {
    if !in_own_process("a_storm_of_signals_costs_no_operation_and_no_time") {
        return;
    }
    // A signal ends `epoll_wait` and `ppoll` whatever the flags of its handler.
    signal_hook::flag::register(libc::SIGALRM, Arc::default()).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let done = over.clone();
    let target = thread::spawn(move || {
        on_epoll(async {
            let (fd, mut peer) = tcp_pair();
            let echo = thread::spawn(move || {
                let mut byte = [0];
                while peer.read_exact(&mut byte).is_ok() {
                    thread::sleep(Duration::from_micros(300));
                    peer.write_all(&byte).unwrap();
                }
            });
            for round in 0..500u16 {
                let begun = Instant::now();
                let span = Duration::from_micros(u64::from(round) * 5);
                let sleeping = create_task(sleep(span));
                assert_eq!(submit(Send { fd: fd.clone(), data: vec![round as u8] }).await.unwrap(), 1);
                for _ in 0..10 {
                    let polling = submit(poll_in(&fd));
                    drop(timeout(Duration::from_micros(50), polling).await.map(|polled| polled.unwrap()));
                }
                assert_eq!(submit(poll_in(&fd)).await.unwrap().len(), 1);
                assert_eq!(submit(recv(&fd, 4)).await.unwrap(), [round as u8]);
                sleeping.await.unwrap();
                assert!(begun.elapsed() >= span);
            }
            fd.shutdown(Shutdown::Both).unwrap();
            echo.join().unwrap();
        });
        done.store(true, Ordering::SeqCst);
    });
    let id = std::os::unix::thread::JoinHandleExt::as_pthread_t(&target);
    while !over.load(Ordering::SeqCst) && !target.is_finished() {
        pthread_kill(id, Signal::SIGALRM).unwrap();
        thread::sleep(Duration::from_micros(50));
    }
    target.join().unwrap();
}

/// Calls into the loop from another thread repeatedly, each time after the last answer.
fn ask(handle: &Handle) {
    for n in 0..2000 {
        let mut answer = run_coroutine_threadsafe(handle, move || async move { n });
        assert_eq!(answer.result(Some(HANGS)).unwrap(), n);
    }
}

#[test]
fn a_wake_while_asleep() {
    on_epoll(async {
        let handle = handle();
        to_thread(move || ask(&handle)).await;
        // A wake ends one sleep.
        let before = metrics().ring.enters;
        to_thread(|| thread::sleep(Duration::from_millis(50))).await;
        let enters = metrics().ring.enters - before;
        assert!(enters < 10, "it spins: {enters} enters");
    });
}

#[test]
fn a_wake_while_awake() {
    on_epoll(async {
        let handle = handle();
        let asking = thread::spawn(move || ask(&handle));
        while !asking.is_finished() {
            yield_now().await;
        }
        asking.join().unwrap();
    });
}

/// Drives a loop by an edge-triggered epoll of the host, until `done`.
fn drive_by_edges(runner: &mut Runner, mut done: impl FnMut() -> bool) {
    let host = Epoll::new(EpollCreateFlags::empty()).unwrap();
    host.add(runner.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 1)).unwrap();
    while !done() {
        let left = runner.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
        let ms = left.map_or(20_000, |left| left.as_millis().min(999) as u16 + u16::from(!left.is_zero()));
        let told = host.wait(&mut [EpollEvent::empty()], EpollTimeout::from(ms)).unwrap();
        assert!(told > 0 || left.is_some(), "the host was not told");
        runner.turn(Some(Duration::ZERO)).unwrap();
    }
}

#[test]
fn a_wake_while_embedded() {
    let mut runner = on(Backend::Epoll);
    let handle = runner.handle();
    let over = Arc::new(AtomicBool::new(false));
    let is_over = over.clone();
    let asking = thread::spawn(move || {
        ask(&handle);
        is_over.store(true, Ordering::SeqCst);
        handle.call_soon_threadsafe(|| ()).unwrap();
    });
    drive_by_edges(&mut runner, || over.load(Ordering::SeqCst));
    asking.join().unwrap();
}

#[test]
fn a_host_that_is_told_by_edges_gets_all_of_many_events() {
    if !in_own_process("a_host_that_is_told_by_edges_gets_all_of_many_events") {
        return;
    }
    let mut runner = on(Backend::Epoll);
    let mut life = run_coroutine_threadsafe(&runner.handle(), || async {
        let mut pairs: Vec<_> = (0..400).map(|_| pair()).collect();
        for round in 0..3u8 {
            let waiting: Vec<_> = pairs.iter().map(|(fd, _)| create_task(submit(recv(fd, 4)))).collect();
            take_edges().await;
            for (_, peer) in &mut pairs {
                peer.write_all(&[round]).unwrap();
            }
            for task in waiting {
                assert_eq!(task.await.unwrap().unwrap(), [round]);
            }
        }
    });
    drive_by_edges(&mut runner, || life.done());
    life.result(Some(Duration::ZERO)).unwrap();
}

#[test]
fn a_host_that_is_told_by_edges_gets_all_of_one_edge() {
    let mut runner = on(Backend::Epoll);
    let mut life = run_coroutine_threadsafe(&runner.handle(), || async {
        let (fd, mut peer) = pair();
        let waiting: Vec<_> = (0..200).map(|_| create_task(submit(recv(&fd, 1)))).collect();
        take_edges().await;
        peer.write_all(&[7; 200]).unwrap();
        for task in waiting {
            assert_eq!(task.await.unwrap().unwrap(), [7]);
        }
    });
    drive_by_edges(&mut runner, || life.done());
    life.result(Some(Duration::ZERO)).unwrap();
}

#[test]
fn a_host_that_is_told_by_edges_gets_what_comes_behind_many_events_of_nobody() {
    if !in_own_process("a_host_that_is_told_by_edges_gets_what_comes_behind_many_events_of_nobody") {
        return;
    }
    let mut runner = on(Backend::Epoll);
    let (fds, mut peers): (Vec<_>, Vec<_>) = (0..=300).map(|_| pair()).unzip();
    let all_write =
        |peers: &mut Vec<UnixStream>| peers.iter_mut().for_each(|peer| peer.write_all(b"a").unwrap());
    let received = Rc::new(Cell::new(0));
    let receive_each = |fds: Vec<Fd>| {
        let count = received.clone();
        create_task(async move {
            for fd in fds {
                assert_eq!(submit(recv(&fd, 1)).await.unwrap(), b"a");
                count.set(count.get() + 1);
            }
        })
    };
    all_write(&mut peers);
    // From here on all sockets have events.
    let _all = runner.enter(|| receive_each(fds.clone()));
    drive_by_edges(&mut runner, || received.get() == 301);
    let _last = runner.enter(|| receive_each(vec![fds[300].clone()]));
    for _ in 0..3 {
        runner.turn(Some(Duration::ZERO)).unwrap();
    }
    all_write(&mut peers);
    drive_by_edges(&mut runner, || received.get() == 302);
}

// ---------------------------------------------------------------- several loops, foreign code

/// Accepts until told to stop, then sleeps until told to end; returns how often it entered the kernel meanwhile.
fn accepting_loop(listener: OwnedFd, stop: &AtomicBool, end: mpsc::Receiver<()>, count: &AtomicU64) -> u64 {
    on_epoll(async {
        let fd = Fd::from(listener);
        while !stop.load(Ordering::SeqCst) {
            if let Ok(accepted) = timeout(Duration::from_millis(1), submit(accept(&fd))).await {
                accepted.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
        until(|| metrics().operations == 0).await;
        let before = metrics().ring.enters;
        to_thread(move || end.recv()).await.unwrap();
        metrics().ring.enters - before
    })
}

#[test]
fn two_loops_share_a_listener_and_one_that_stops_hears_no_more_of_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let begin = || {
        let (stop, count, (end, ended)) = (Arc::new(AtomicBool::new(false)), count.clone(), mpsc::channel());
        let (listener, stopped) = (OwnedFd::from(listener.try_clone().unwrap()), stop.clone());
        (thread::spawn(move || accepting_loop(listener, &stopped, ended, &count)), stop, end)
    };
    let (one, two) = (begin(), begin());
    let mut clients = Vec::new();
    let mut all_accepted = |total: u64| {
        let hangs = Instant::now() + HANGS;
        // One after the other: each connection is an edge.
        for accepted in total - 99..=total {
            clients.push(TcpStream::connect(addr).unwrap());
            while count.load(Ordering::SeqCst) < accepted {
                assert!(Instant::now() < hangs, "connections are lost");
                thread::yield_now();
            }
        }
    };
    all_accepted(100);
    one.1.store(true, Ordering::SeqCst);
    // It has stopped after its deadline of a millisecond; otherwise it accepts too many.
    thread::sleep(Duration::from_millis(100));
    all_accepted(200);
    one.2.send(()).unwrap();
    let enters = one.0.join().unwrap();
    assert!(enters < 10, "{enters} enters for connections of the other loop");
    all_accepted(300);
    two.1.store(true, Ordering::SeqCst);
    two.2.send(()).unwrap();
    two.0.join().unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 300);
}

/// Its description panics from the call on that `at` names.
struct Panics {
    recv: common::Recv,
    described: u32,
    at: u32,
}

impl Operation for Panics {
    type Output = io::Result<Vec<u8>>;

    fn prepare(&mut self) -> Sqe<'_> {
        self.described += 1;
        assert!(self.described < self.at, "a description panics");
        self.recv.prepare()
    }

    fn complete(self: Box<Self>, done: Done) -> Self::Output {
        Box::new(self.recv).complete(done)
    }
}

#[test]
fn a_panic_in_a_later_description_ends_that_operation_alone() {
    on_epoll(async {
        for at in 2..=4 {
            let (fd, mut peer) = tcp_pair();
            let panics = Panics { recv: recv(&fd, 1), described: 0, at };
            let (first, second) = (create_task(submit(panics)), create_task(submit(recv(&fd, 1))));
            take_edges().await;
            peer.write_all(b"ab").unwrap();
            let (first, second) = (first.await.unwrap(), second.await.unwrap().unwrap());
            // The fourth call is late enough, unless the audit of debug builds also describes it.
            match first {
                Ok(data) => assert_eq!((data, second, at), (b"a".to_vec(), b"b".to_vec(), 4)),
                Err(e) => assert_eq!((e.raw_os_error(), second), (Some(libc::EFAULT), b"a".to_vec())),
            }
        }
    });
}

#[test]
fn a_panic_in_the_description_for_a_cancel_ends_the_operation() {
    on_epoll(async {
        let (fd, _peer) = tcp_pair();
        let mut waits = submit(Panics { recv: recv(&fd, 1), described: 0, at: 3 });
        assert!(poll_once(&mut waits).is_pending());
        take_edges().await;
        drop(waits);
        until(|| metrics().operations == 0).await;
        fd.try_into_owned().expect("the operation has it still");
    });
}
