//! Operations on the real kernel: dropped in flight, by the thousand, in small rings, under signals.

mod common;

use std::{
    cell::Cell,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{net::UnixStream, thread::JoinHandleExt},
    },
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use common::{Connect, Nop, Send, ShutDown, kernels, on, open_fds, pair, poll_once, recv};
use corio_runtime::{
    Backend, Builder, Runner, backend, create_task,
    fd::Fd,
    metrics,
    op::{self, Done, Multishot, OpKey, Operation, PeerAddr, SockAddr, Sqe, submit},
    run,
    socket::{ListenOptions, connector, listen},
    time::{Duration, Instant, sleep},
    yield_now,
};

const KIB: usize = 1024;

/// How many operations were freed, and how many completed for somebody.
#[derive(Clone, Default)]
struct Ledger(Rc<Cell<usize>>);

impl Ledger {
    fn freed(&self) -> usize {
        self.0.get()
    }
}

#[derive(Clone, Copy, Debug)]
enum What {
    Read,
    Write,
    Recv,
    Send,
    SendVectored,
    PollReadable,
    Shutdown,
    Nop,
    Connect,
}

const ALL: [What; 9] = [
    What::Read,
    What::Write,
    What::Recv,
    What::Send,
    What::SendVectored,
    What::PollReadable,
    What::Shutdown,
    What::Nop,
    What::Connect,
];

/// An operation of any kind. Scribbles over its memory as it is freed, and enters that in the ledger.
struct Probed {
    what: What,
    fd: Fd,
    buf: Vec<u8>,
    addr: SockAddr,
    ledger: Ledger,
}

impl Probed {
    /// Receives wait, for the peer never sends; sends wait, for they are larger than what a socket takes.
    fn new(what: What, fd: &Fd, ledger: &Ledger) -> Probed {
        let size = match what {
            What::Write | What::Send | What::SendVectored => 512 * KIB,
            _ => 4 * KIB,
        };
        // Nobody listens on the discard port.
        let addr = SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 9)));
        Probed { what, fd: fd.clone(), buf: vec![0x11; size], addr, ledger: ledger.clone() }
    }
}

impl Operation for Probed {
    type Output = io::Result<usize>;

    fn prepare(&mut self) -> Sqe<'_> {
        match self.what {
            What::Read => Sqe::read(&self.fd, &mut self.buf),
            What::Write => Sqe::write(&self.fd, &self.buf),
            What::Recv => Sqe::recv(&self.fd, &mut self.buf),
            What::Send => Sqe::send(&self.fd, &self.buf),
            What::SendVectored => Sqe::send_vectored(&self.fd, self.buf.chunks(KIB).collect()),
            What::PollReadable => Sqe::poll_readable(&self.fd),
            What::Shutdown => Sqe::shutdown(&self.fd, Shutdown::Read),
            What::Nop => Sqe::nop(),
            What::Connect => Sqe::connect(&self.fd, &self.addr),
        }
    }

    fn complete(self: Box<Self>, done: Done) -> Self::Output {
        done.count()
    }
}

impl Drop for Probed {
    fn drop(&mut self) {
        self.buf.fill(0xA5);
        self.ledger.0.set(self.ledger.0.get() + 1);
    }
}

/// A multishot receive that counts what came.
struct Many {
    fd: Fd,
    items: Rc<Cell<usize>>,
    ended: Rc<Cell<usize>>,
}

impl Multishot for Many {
    fn prepare(&self) -> Sqe<'_> {
        Sqe::recv_multi(&self.fd, 0)
    }

    fn item(&self, done: Done) {
        self.items.set(self.items.get() + usize::from(done.errno().is_none()));
    }

    fn end(&self, done: Done) {
        self.item(done);
        self.ended.set(self.ended.get() + 1);
    }
}

/// An accept that counts what came.
struct Accept {
    fd: Fd,
    peer: PeerAddr,
    items: Rc<Cell<usize>>,
    ended: Rc<Cell<usize>>,
}

impl Operation for Accept {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        Sqe::accept(&self.fd, &mut self.peer)
    }

    fn complete(self: Box<Self>, done: Done) {
        self.items.set(self.items.get() + usize::from(done.into_fd().is_ok()));
        self.ended.set(self.ended.get() + 1);
    }
}

/// Starts an accept on `fd`.
fn accept(fd: &Fd, items: &Rc<Cell<usize>>, ended: &Rc<Cell<usize>>) -> OpKey {
    let (fd, items, ended) = (fd.clone(), items.clone(), ended.clone());
    op::start(Box::new(Accept { fd, peer: PeerAddr::new(), items, ended }))
}

/// Lets the loop run until only its own wake-up read is left in the kernel.
async fn kernel_is_empty() {
    while metrics().operations > 0 {
        sleep(Duration::from_micros(100)).await;
    }
}

/// Memory of the sizes that operations use; nobody may write to it.
fn canaries() -> Vec<Vec<u8>> {
    [4 * KIB, 4 * KIB, 512 * KIB].map(|size| vec![0xA5; size]).into()
}

fn assert_intact(canaries: &[Vec<u8>]) {
    static EXPECTED: [u8; 512 * KIB] = [0xA5; 512 * KIB];
    for canary in canaries {
        assert!(canary[..] == EXPECTED[..canary.len()], "the kernel wrote to freed memory");
    }
}

fn listener() -> Fd {
    let options =
        ListenOptions { backlog: 128, reuse_addr: true, reuse_port: false, nodelay: true, v6_only: false };
    listen(SocketAddr::from(([127, 0, 0, 1], 0)), options).unwrap()
}

fn tiny() -> Builder {
    Runner::builder().entries(4).completion_entries(8)
}

#[test]
fn b1_an_operation_of_any_kind_dropped_mid_flight_is_freed_once_at_its_end() {
    if !common::in_own_process("b1_an_operation_of_any_kind_dropped_mid_flight_is_freed_once_at_its_end") {
        return;
    }
    run(async {
        let fds = open_fds();
        for what in ALL {
            let ledger = Ledger::default();
            for round in 0..200 {
                let (fd, mut peer) = pair();
                let mut op = submit(Probed::new(what, &fd, &ledger));
                let _ = poll_once(&mut op);
                // Dropped before it was submitted, right after, and later.
                for _ in 0..round % 3 {
                    yield_now().await;
                }
                drop(op);
                let canaries = canaries();
                let _ = peer.write_all(b"too late, or not");
                yield_now().await;
                assert_intact(&canaries);
            }
            kernel_is_empty().await;
            assert_eq!(ledger.freed(), 200, "{what:?}");
        }
        assert_eq!(metrics().ring.strays, 0);
        assert_eq!(open_fds(), fds);
    });
}

#[test]
fn b1_the_memory_stays_until_the_final_completion() {
    run(async {
        let (ledger, (fd, _peer)) = (Ledger::default(), pair());
        let op = submit(Probed::new(What::Recv, &fd, &ledger));
        yield_now().await;
        drop(op);
        assert_eq!((ledger.freed(), metrics().operations), (0, 1), "the kernel still has it");
        kernel_is_empty().await;
        assert_eq!(ledger.freed(), 1);
        // A result that nobody collects is freed by the claim's drop, not twice.
        let mut op = submit(Probed::new(What::Nop, &fd, &ledger));
        yield_now().await;
        yield_now().await;
        assert_eq!(ledger.freed(), 1);
        assert!(poll_once(&mut op).is_ready());
        assert_eq!(ledger.freed(), 2);
        drop(op);
        assert_eq!(ledger.freed(), 2);
    });
}

#[test]
fn b2_ten_thousand_loops_dropped_with_operations_in_flight() {
    if !common::in_own_process("b2_ten_thousand_loops_dropped_with_operations_in_flight") {
        return;
    }
    const LOOPS: usize = 10_000;
    const OPS: usize = 5;
    run(async {});
    let fds = open_fds();
    let ledger = Ledger::default();
    for round in 0..LOOPS {
        let (fd, mut peer) = pair();
        let mut runner = Runner::builder().entries(8).buffers(8, 256).build().unwrap();
        runner.run(async {
            for n in 0..OPS {
                let mut op = submit(Probed::new(ALL[(round + n) % ALL.len()], &fd, &ledger));
                match (round + n) % 3 {
                    // Held by a task that the close cancels, by nobody, and dropped in the last turn.
                    0 => drop(create_task(op)),
                    1 => {
                        let _ = poll_once(&mut op);
                        std::mem::forget(op);
                    }
                    _ => drop(op),
                }
            }
            if round % 2 == 0 {
                yield_now().await;
            }
        });
        drop(runner);
        assert_eq!(ledger.freed(), (round + 1) * OPS);
        let canaries = canaries();
        let _ = peer.write_all(b"written after the loop's end");
        assert_intact(&canaries);
    }
    assert_eq!(open_fds(), fds);
}

#[test]
fn b2_a_loop_dropped_with_an_armed_accept_and_receive() {
    if !common::in_own_process("b2_a_loop_dropped_with_an_armed_accept_and_receive") {
        return;
    }
    run(async {});
    let fds = open_fds();
    let (items, ended) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    for round in 0..200 {
        run(async {
            let (fd, mut peer) = pair();
            let listening = listener();
            let addr = listening.local_addr().unwrap();
            accept(&listening, &items, &ended);
            op::start_multishot(Many { fd, items: items.clone(), ended: ended.clone() });
            if round % 2 == 0 {
                yield_now().await;
            }
            peer.write_all(b"bytes").unwrap();
            let _client = TcpStream::connect(addr).unwrap();
            if round % 3 == 0 {
                yield_now().await;
            }
        });
    }
    assert_eq!(ended.get(), 400);
    assert_eq!(open_fds(), fds);
}

#[test]
fn a1_no_connection_is_lost_when_accepts_are_cancelled() {
    if !common::in_own_process("a1_no_connection_is_lost_when_accepts_are_cancelled") {
        return;
    }
    run(async {
        let fds = open_fds();
        let listening = listener();
        let addr = listening.local_addr().unwrap();
        let (items, ended) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        const CLIENTS: usize = 300;
        for round in 0..CLIENTS {
            let key = accept(&listening, &items, &ended);
            if round % 3 > 0 {
                yield_now().await;
            }
            // The ring is not entered between the two, in either order.
            if round % 2 == 0 {
                op::cancel(key);
            }
            let client = TcpStream::connect(addr).unwrap();
            op::cancel(key);
            op::cancel(key);
            while ended.get() <= round {
                yield_now().await;
            }
            drop(client);
        }
        // One each.
        let waiting = CLIENTS - items.get();
        for _ in 0..waiting {
            accept(&listening, &items, &ended);
        }
        kernel_is_empty().await;
        assert_eq!((items.get(), ended.get()), (CLIENTS, CLIENTS + waiting));
        drop(listening);
        assert_eq!(open_fds(), fds, "an accepted descriptor that nobody wanted was closed");
    });
}

#[test]
fn b4_buffers_come_back_from_cancelled_receives() {
    run(async {
        let before = metrics().buffers_available;
        let (items, ended) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        for round in 0..1000 {
            let (fd, mut peer) = pair();
            let (items, ended) = (items.clone(), ended.clone());
            let key = op::start_multishot(Many { fd, items, ended });
            peer.write_all(&[7; 5000]).unwrap();
            for _ in 0..round % 3 {
                yield_now().await;
            }
            match round % 2 {
                0 => op::cancel(key),
                _ => drop(peer),
            }
        }
        kernel_is_empty().await;
        assert_eq!(ended.get(), 1000);
        assert!(items.get() > 0);
        assert_eq!(metrics().buffers_available, before);
    });
}

#[test]
fn c1_a_receive_without_a_free_buffer_ends_and_is_counted() {
    // Epoll fills one buffer at a time: it does not run dry.
    if !kernels().contains(&Backend::Uring) {
        return eprintln!("SKIPPED: io_uring is refused here");
    }
    let mut runner = Runner::builder().backend(Backend::Uring).buffers(1, 64).build().unwrap();
    runner.run(async {
        let (fd, mut peer) = pair();
        let (items, ended) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        peer.write_all(&[7; 1000]).unwrap();
        op::start_multishot(Many { fd, items: items.clone(), ended: ended.clone() });
        kernel_is_empty().await;
        assert_eq!((items.get(), ended.get()), (1, 1));
        assert_eq!((metrics().ring.enobufs, metrics().buffers_available), (1, 1));
    });
}

#[test]
fn a6_a_late_cancel_never_hits_the_next_operation_in_its_slot() {
    run(async {
        let pairs: Vec<_> = (0..8).map(|_| pair()).collect();
        for round in 0..2000u32 {
            // Cancelled ones and wanted ones take the same slots in turn.
            let (cancelled, _idle) = pair();
            drop(submit(recv(&cancelled, 8)));
            let mut ops = Vec::new();
            for (n, (fd, peer)) in pairs.iter().enumerate() {
                let mut peer: &UnixStream = peer;
                let unwanted = submit(recv(&cancelled, 8));
                ops.push(submit(recv(fd, 8)));
                drop(unwanted);
                peer.write_all(&(round * 8 + n as u32).to_le_bytes()).unwrap();
            }
            for (n, op) in ops.into_iter().enumerate() {
                assert_eq!(op.await.unwrap(), (round * 8 + n as u32).to_le_bytes());
            }
        }
        kernel_is_empty().await;
        assert_eq!(metrics().ring.strays, 0);
    });
}

#[test]
fn a7_a_thousand_cancels_in_one_turn_of_a_tiny_ring_are_all_effective() {
    let mut runner = tiny().build().unwrap();
    for submitted_first in [true, false] {
        let ledger = Ledger::default();
        runner.run(async {
            let (fd, _peer) = pair();
            let ops: Vec<_> = (0..1000).map(|_| submit(Probed::new(What::Recv, &fd, &ledger))).collect();
            if submitted_first {
                yield_now().await;
            }
            assert_eq!(metrics().operations, 1000);
            drop(ops);
            kernel_is_empty().await;
            assert_eq!(metrics().ring.strays, 0);
        });
        assert_eq!(ledger.freed(), 1000);
    }
}

#[test]
fn a7_a_tiny_ring_closes_with_a_thousand_operations_in_flight() {
    let ledger = Ledger::default();
    let mut runner = tiny().build().unwrap();
    runner.run(async {
        let (fd, _peer) = pair();
        for _ in 0..1000 {
            std::mem::forget(submit(Probed::new(What::Recv, &fd, &ledger)));
        }
        yield_now().await;
    });
    drop(runner);
    assert_eq!(ledger.freed(), 1000);
}

/// Its end takes a while, as on a machine that is short of time.
struct Slow {
    fd: Fd,
    buf: [u8; 8],
    ended: Rc<Cell<usize>>,
}

impl Operation for Slow {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        Sqe::recv(&self.fd, &mut self.buf)
    }

    fn complete(self: Box<Self>, _: Done) {
        thread::sleep(Duration::from_millis(20));
        self.ended.set(self.ended.get() + 1);
    }
}

#[test]
fn a7_a_closing_loop_waits_as_long_as_the_kernel_gives_operations_back() {
    const OPERATIONS: usize = 100;
    let ended = Rc::new(Cell::new(0));
    let mut runner = tiny().build().unwrap();
    runner.run(async {
        let (fd, _peer) = pair();
        for _ in 0..OPERATIONS {
            op::start(Box::new(Slow { fd: fd.clone(), buf: [0; 8], ended: ended.clone() }));
        }
        yield_now().await;
    });
    // They come a few at a time, through the small queue, and take two seconds.
    drop(runner);
    assert_eq!(ended.get(), OPERATIONS);
}

#[test]
fn d1_d2_a_thousand_ready_sockets_complete_on_a_tiny_ring() {
    let mut runner = tiny().build().unwrap();
    runner.run(async {
        let mut pairs: Vec<_> = (0..1000).map(|_| pair()).collect();
        // Ready before they are submitted, and all at once after.
        for ready_first in [true, false] {
            let feed = |pairs: &mut Vec<(Fd, UnixStream)>| {
                for (n, (_, peer)) in pairs.iter_mut().enumerate() {
                    peer.write_all(&(n as u32).to_le_bytes()).unwrap();
                }
            };
            if ready_first {
                feed(&mut pairs);
            }
            let ops: Vec<_> = pairs.iter().map(|(fd, _)| submit(recv(fd, 8))).collect();
            let tasks: Vec<_> = ops.into_iter().map(create_task).collect();
            if !ready_first {
                yield_now().await;
                feed(&mut pairs);
            }
            for (n, task) in tasks.into_iter().enumerate() {
                assert_eq!(task.await.unwrap().unwrap(), (n as u32).to_le_bytes());
            }
        }
        let counters = metrics().ring;
        assert!(counters.cqes >= 2000 && counters.sqes >= 2000, "{counters:?}");
        // Epoll has no queue to overflow.
        let overflows = counters.overflows > 0 || backend().backend() != Backend::Uring;
        assert!(overflows, "the queue of 8 was never found overflown: {counters:?}");
        assert_eq!(counters.strays, 0);
        kernel_is_empty().await;
    });
}

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count_signal(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

/// A handler without SA_RESTART.
fn handle_alarms() {
    // SAFETY: all zeroes is a valid sigaction: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = count_signal as *const () as usize;
    // SAFETY: the handler only touches an atomic; the old action is not asked for.
    let set = unsafe { libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut()) };
    assert_eq!(set, 0);
}

#[test]
fn d3_a_storm_of_signals_costs_no_operation_and_no_time() {
    if !common::in_own_process("d3_a_storm_of_signals_costs_no_operation_and_no_time") {
        return;
    }
    handle_alarms();
    let ended = Arc::new(AtomicBool::new(false));
    let done = ended.clone();
    let target = thread::spawn(move || {
        run(async {
            let (fd, mut peer) = pair();
            let echo = thread::spawn(move || {
                let mut byte = [0];
                while peer.read_exact(&mut byte).is_ok() {
                    thread::sleep(Duration::from_micros(300));
                    peer.write_all(&byte).unwrap();
                }
            });
            for round in 0..200u8 {
                let start = Instant::now();
                let sleeping = create_task(sleep(Duration::from_millis(2)));
                assert_eq!(submit(Send { fd: fd.clone(), data: vec![round] }).await.unwrap(), 1);
                assert_eq!(submit(recv(&fd, 4)).await.unwrap(), [round]);
                sleeping.await.unwrap();
                assert!(start.elapsed() >= Duration::from_millis(2));
            }
            // Enough signals for sure, however slow the machine is.
            while SIGNALS.load(Ordering::Relaxed) < 200 {
                sleep(Duration::from_millis(1)).await;
            }
            submit(ShutDown { fd, how: Shutdown::Both }).await.unwrap();
            echo.join().unwrap();
        });
        done.store(true, Ordering::SeqCst);
    });
    let thread_id = target.as_pthread_t();
    while !ended.load(Ordering::SeqCst) && !target.is_finished() {
        // SAFETY: the thread was not joined yet, so its id is valid.
        unsafe { libc::pthread_kill(thread_id, libc::SIGALRM) };
        thread::sleep(Duration::from_micros(200));
    }
    target.join().unwrap();
    assert!(SIGNALS.load(Ordering::Relaxed) >= 200);
}

#[test]
fn every_kind_of_operation_does_its_work() {
    run(async {
        let ledger = Ledger::default();
        let with = |what, fd: &Fd, data: &[u8]| {
            let mut op = Probed::new(what, fd, &ledger);
            op.buf = data.to_vec();
            submit(op)
        };
        let (fd, mut peer) = pair();
        for what in [What::Write, What::Send] {
            assert_eq!(with(what, &fd, b"hello").await.unwrap(), 5);
            let mut got = [0; 5];
            peer.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"hello");
        }
        let long: Vec<u8> = (0..100 * KIB).map(|n| (n % 251) as u8).collect();
        assert_eq!(with(What::SendVectored, &fd, &long).await.unwrap(), long.len());
        let mut got = vec![0; long.len()];
        peer.read_exact(&mut got).unwrap();
        assert!(got == long);
        let mut readable = with(What::PollReadable, &fd, b"");
        yield_now().await;
        assert!(poll_once(&mut readable).is_pending());
        peer.write_all(b"12345678").unwrap();
        assert_eq!(readable.await.unwrap(), libc::POLLIN as usize);
        assert_eq!(with(What::Read, &fd, &[0; 3]).await.unwrap(), 3);
        assert_eq!(submit(recv(&fd, 64)).await.unwrap(), b"45678");
        submit(Nop).await.unwrap();
        submit(ShutDown { fd: fd.clone(), how: Shutdown::Write }).await.unwrap();
        assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
        drop(peer);
        assert_eq!(submit(recv(&fd, 8)).await.unwrap(), b"", "the end of the stream");
        let error = with(What::Send, &fd, b"nobody").await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
    });
}

#[test]
fn connect_reaches_a_listener_and_reports_a_refusal() {
    run(async {
        let listening = listener();
        let addr = listening.local_addr().unwrap();
        let fd = connector(addr, None).unwrap();
        struct Accept(Fd, PeerAddr);
        impl Operation for Accept {
            type Output = (Fd, Option<SocketAddr>);
            fn prepare(&mut self) -> Sqe<'_> {
                Sqe::accept(&self.0, &mut self.1)
            }
            fn complete(self: Box<Self>, done: Done) -> Self::Output {
                (done.into_fd().unwrap(), self.1.get())
            }
        }
        let accept = create_task(submit(Accept(listening, PeerAddr::new())));
        submit(Connect { fd: fd.clone(), addr: addr.into() }).await.unwrap();
        assert_eq!(fd.peer_addr().unwrap(), addr);
        let (peer, known) = accept.await.unwrap();
        assert_eq!(peer.peer_addr().unwrap(), fd.local_addr().unwrap());
        assert_eq!(known, fd.local_addr().ok());
        submit(Send { fd, data: b"over tcp".to_vec() }).await.unwrap();
        assert_eq!(submit(recv(&peer, 64)).await.unwrap(), b"over tcp");
        kernel_is_empty().await;
        let again = connector(addr, None).unwrap();
        let error = submit(Connect { fd: again, addr: addr.into() }).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn e2_a_descriptor_is_closed_once_when_the_last_operation_lets_go() {
    run(async {
        let (fd, mut peer) = pair();
        let number = fd.as_fd().unwrap().as_raw_fd();
        let op = submit(recv(&fd, 8));
        yield_now().await;
        drop(fd);
        assert!(std::path::Path::new(&format!("/proc/self/fd/{number}")).exists(), "the receive holds it");
        drop(op);
        // The other end sees the close once the kernel has given the operation back.
        kernel_is_empty().await;
        assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
        let (shared, _peer) = pair();
        let again = shared.clone();
        let shared = shared.try_into_owned().expect_err("it has two owners");
        drop(again);
        let _owned: OwnedFd = shared.try_into_owned().expect("it has one");
    });
}

#[test]
fn c3_a_panic_in_an_operations_own_code_costs_only_that_operation() {
    struct Bad;
    impl Operation for Bad {
        type Output = ();
        fn prepare(&mut self) -> Sqe<'_> {
            Sqe::nop()
        }
        fn complete(self: Box<Self>, _: Done) {
            panic!("an operation panics");
        }
    }
    run(async {
        for _ in 0..10 {
            op::start(Box::new(Bad));
        }
        let claimed = create_task(submit(Bad));
        submit(Nop).await.unwrap();
        kernel_is_empty().await;
        assert!(claimed.await.is_err());
    });
}

#[test]
fn a_busy_loop_looks_at_the_kernel_every_few_polls_however_many_a_turn_has() {
    // io_uring's flags tell without a call whether there is something; epoll has to be asked.
    for (kernel, polls) in [(Backend::Uring, 8), (Backend::Epoll, 64)] {
        if kernels().contains(&kernel) {
            a_busy_loop_looks_after(kernel, polls);
        }
    }
}

fn a_busy_loop_looks_after(kernel: Backend, polls: usize) {
    for others in 0..5 {
        for before in 0..4 {
            on(kernel).run(async {
                let (ours, mut theirs) = pair();
                let mut received = submit(recv(&ours, 1));
                for _ in 0..8 {
                    assert!(poll_once(&mut received).is_pending());
                    yield_now().await;
                }
                for _ in 0..before {
                    yield_now().await;
                }
                let busy = async || {
                    loop {
                        yield_now().await;
                    }
                };
                let _others: Vec<_> = (0..others).map(|_| create_task(busy())).collect();
                theirs.write_all(&[1]).unwrap();
                let mut turns = 0;
                while poll_once(&mut received).is_pending() {
                    yield_now().await;
                    turns += 1;
                    assert!(turns <= polls, "{others} others, {before} polls before");
                }
            });
        }
    }
}
