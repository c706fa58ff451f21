//! Loops: the builder, embedding, several cores, the simulator's faults, operations.

use std::{
    cell::Cell,
    io,
    net::{Ipv4Addr, SocketAddr},
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use corio::{
    Backend, Builder, Cores, Runner,
    event_loop::{Faults, call_soon},
    op::{self, Arrivals, Done, Fd, LoopLocal, Operation, Payload, Receiver, Service, Sqe, TurnEnd},
};
use corio_runtime::{
    Arms,
    slab::{NONE, Place, Slab, smaller},
    socket::{ListenOptions, bind, listen},
};

use super::shared::kernels;
use super::table::{Extreme, Row, row, row2};

/// A loop with these settings runs, on every kernel.
fn runs(builder: Builder) -> io::Result<()> {
    for backend in kernels() {
        let mut runner = builder.clone().backend(backend).build()?;
        assert_eq!(runner.run(async { corio::create_task(async { 7 }).await.unwrap() }), 7);
        runner.close();
    }
    Ok(())
}

/// A message goes both ways in a simulation with these faults; they may break the connection.
fn survives(faults: Faults) -> io::Result<()> {
    let mut runner = Builder::default().backend(Backend::Sim { seed: 3 }).faults(faults).build()?;
    runner.run(async {
        let _ = corio::timeout(Duration::from_secs(60), super::net::echo_once()).await;
    });
    Ok(())
}

fn builder() -> Builder {
    Runner::builder()
}

/// A pair of sockets, one for operations.
fn pair() -> io::Result<(Fd, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    Ok((Fd::from(OwnedFd::from(ours)), theirs))
}

pub(crate) fn rows() -> Vec<Row> {
    [builders(), cores(), faults(), operations(), tables()].into_iter().flatten().collect()
}

fn builders() -> Vec<Row> {
    vec![
        row("Builder::entries", |n: u32| runs(builder().entries(n))),
        row("Builder::completion_entries", |n: u32| runs(builder().completion_entries(n))),
        row2("Builder::buffers", |count: u16, size: usize| runs(builder().buffers(count, size))),
        row("Builder::buffers", |LargeBuffers(count, size)| runs(builder().buffers(count, size))),
        row("Builder::pin", |core: usize| runs(builder().pin(core))),
        row("Builder::slow_callback", |limit: Duration| runs(builder().slow_callback(limit))),
        row2("Builder::linger", |total: Duration, idle: Duration| runs(builder().linger(total, idle))),
        row("budget::spend", |n: usize| {
            corio::run(async move {
                corio_runtime::budget::spend(n);
                super::net::echo_once().await
            })
        }),
        row("Builder::thread_join_timeout", |limit: Duration| {
            let mut runner = builder().thread_join_timeout(limit).build()?;
            assert_eq!(runner.run(corio::to_thread(|| 7)), 7);
            Ok(())
        }),
        row("Backend::Sim", |seed: u64| {
            let mut runner = builder().backend(Backend::Sim { seed }).build()?;
            runner.run(async { super::net::echo_once().await })
        }),
        row("Runner::turn", |wait: Option<Duration>| {
            let mut runner = Runner::new()?;
            // It ends a wait of any length.
            let handle = runner.handle();
            let waker = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(5));
                handle.call_soon_threadsafe(|| ())
            });
            runner.enter(|| call_soon(|| ()));
            assert_eq!(runner.turn(wait)?.ran(), 1);
            let mut turns = 0;
            while runner.turn(wait)?.ran() == 0 {
                turns += 1;
            }
            let short = wait.is_some_and(|wait| wait < Duration::from_secs(1));
            assert!(short || turns < 100, "a wait of {wait:?} took {turns} turns");
            waker.join().unwrap().unwrap();
            Ok(())
        }),
    ]
}

/// Each in its range, and much together.
#[derive(Clone, Copy)]
struct LargeBuffers(u16, usize);

impl std::fmt::Debug for LargeBuffers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}", self.0, self.1)
    }
}

impl Extreme for LargeBuffers {
    fn extremes() -> Vec<LargeBuffers> {
        vec![LargeBuffers(32768, 1 << 20), LargeBuffers(1, 1 << 20), LargeBuffers(32768, 1)]
    }
}

/// How many loops, or which core.
#[derive(Clone, Copy)]
enum Some {
    Count(usize),
    Id(usize),
}

impl std::fmt::Debug for Some {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Some::Count(n) | Some::Id(n)) = self;
        n.fmt(f)
    }
}

impl Extreme for Some {
    fn extremes() -> Vec<Some> {
        let ids = [usize::MAX / 2, usize::MAX].map(Some::Id);
        [0, 1, 5000, usize::MAX / 2, usize::MAX].map(Some::Count).into_iter().chain(ids).collect()
    }
}

impl Some {
    fn cores(self) -> Cores {
        match self {
            Some::Count(n) => Cores::Count(n),
            Some::Id(n) => Cores::Ids(vec![n]),
        }
    }
}

/// They return no `Result`: what `Builder::build` refuses is a documented panic there, which has the same text.
fn cores() -> Vec<Row> {
    let not_one = |value: &str| value != "1";
    vec![
        row("run_per_core", |some: Some| {
            assert_eq!(corio::run_per_core(some.cores(), |core| async move { core.index() }), [0]);
            Ok(())
        })
        .panics(not_one, "cannot start"),
        row("Builder::run_per_core", |some: Some| {
            assert_eq!(builder().run_per_core(some.cores(), |core| async move { core.index() }), [0]);
            Ok(())
        })
        .panics(not_one, "cannot start"),
        row("run_on_cores", |some: Some| {
            assert_eq!(corio::run_on_cores(some.cores(), async { 7 }), 7);
            Ok(())
        })
        .panics(not_one, "cannot start"),
        // An index that is out of bounds, as of a slice.
        row("Core::handle", |index: usize| {
            corio::run_per_core(Cores::Count(1), move |core| async move { core.handle(index).number() });
            Ok(())
        })
        .panics(|value| value != "0", "there is no core at index"),
    ]
}

fn faults() -> Vec<Row> {
    vec![
        row("Faults::short_transfers", |p: f64| survives(Faults::default().short_transfers(p))),
        row("Faults::success_after_cancel", |p: f64| survives(Faults::default().success_after_cancel(p))),
        row("Faults::lose_more", |p: f64| survives(Faults::default().lose_more(p))),
        row("Faults::lose_hang_ups", |p: f64| survives(Faults::default().lose_hang_ups(p))),
        row("Faults::enobufs", |p: f64| survives(Faults::default().enobufs(p))),
        row("Faults::delay", |most: Duration| survives(Faults::default().delay(most))),
        row("Faults::cq_capacity", |n: usize| survives(Faults::default().cq_capacity(n))),
        row("Faults::window", |n: usize| survives(Faults::default().window(n))),
        row2("Faults::fail_nth", |n: u64, errno: i32| survives(Faults::default().fail_nth(n, errno))),
    ]
}

/// Of one buffer.
struct Sent(Vec<u8>);

impl Payload for Sent {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn sent(self: Box<Self>, _: u32, result: i32) {
        assert_eq!(result, 3);
    }
}

/// Sends at the end of the turn.
struct SendsOne(Cell<Option<(Fd, u32)>>);

static SENDS: LoopLocal<SendsOne> = LoopLocal::new(|| SendsOne(Cell::new(None)));

impl Service for SendsOne {
    fn before_submit(&self, end: TurnEnd<'_>) {
        if let Some((fd, token)) = self.0.take() {
            end.sends().send(&fd, Box::new(Sent(vec![1; 3])), token);
        }
    }
}

static ENDED: AtomicUsize = AtomicUsize::new(0);
static RECEIVER: Receiver = Receiver { data: arrived, end: ended };

fn arrived(arrivals: &mut Arrivals<'_>) {
    arrivals.each(|_, _, _| None);
}

fn ended(_: u32, _: Done) {
    ENDED.fetch_add(1, Ordering::SeqCst);
}

/// A buffer of any size is received into, or sent: of more than the kernel takes at once, a part.
struct OneByte {
    fd: Fd,
    buf: Vec<u8>,
}

impl Operation for OneByte {
    type Output = io::Result<usize>;

    fn prepare(&mut self) -> Sqe<'_> {
        Sqe::recv(&self.fd, &mut self.buf)
    }

    fn complete(self: Box<Self>, done: Done) -> io::Result<usize> {
        done.count()
    }
}

/// A size of a buffer: memory that nobody writes to costs nothing.
#[derive(Clone, Copy, Debug)]
struct Size(usize);

impl Extreme for Size {
    fn extremes() -> Vec<Size> {
        [0, 1, u32::MAX as usize, u32::MAX as usize + 1].map(Size).to_vec()
    }
}

fn operations() -> Vec<Row> {
    vec![
        row2("op::receive", |cap: u32, token: u32| {
            corio::run(async move {
                let (fd, theirs) = pair()?;
                let before = ENDED.load(Ordering::SeqCst);
                op::receive(&fd, cap, token, &RECEIVER);
                io::Write::write_all(&mut &theirs, b"abc")?;
                drop(theirs);
                while ENDED.load(Ordering::SeqCst) == before {
                    corio::sleep(Duration::from_millis(1)).await;
                }
                Ok(())
            })
        }),
        row("Sqe::recv_multi", |cap: u32| {
            corio::run(async move {
                let (fd, theirs) = pair()?;
                let key = op::receive(&fd, cap, 0, &RECEIVER);
                drop(theirs);
                while op::is_in_flight(key) {
                    corio::sleep(Duration::from_millis(1)).await;
                }
                Ok(())
            })
        }),
        row("op::send", |token: u32| {
            corio::run(async move {
                let (fd, _theirs) = pair()?;
                let key = op::send(&fd, Box::new(Sent(vec![1; 3])), token);
                while op::is_in_flight(key) {
                    corio::sleep(Duration::from_millis(1)).await;
                }
                Ok(())
            })
        }),
        row("Sends::send", |token: u32| {
            corio::run(async move {
                let (fd, theirs) = pair()?;
                theirs.set_nonblocking(true)?;
                SENDS.with(|sends| sends.0.set(Some((fd, token))));
                let mut got = [0; 3];
                while io::Read::read(&mut &theirs, &mut got).is_err() {
                    corio::sleep(Duration::from_millis(1)).await;
                }
                assert_eq!(got, [1; 3]);
                Ok(())
            })
        }),
        row("Sqe::recv", |Size(size)| {
            corio::run(async move {
                let (fd, theirs) = pair()?;
                io::Write::write_all(&mut &theirs, b"a")?;
                let received = op::submit(OneByte { fd, buf: vec![0; size] }).await?;
                assert_eq!(received, size.min(1));
                Ok(())
            })
        }),
        row("socket::listen", |backlog: u32| {
            runs_with(|| {
                let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                let (reuse_addr, reuse_port, nodelay, v6_only) = (true, false, true, false);
                listen(addr, ListenOptions { backlog, reuse_addr, reuse_port, nodelay, v6_only }).map(drop)
            })
        }),
        row("socket::bind", |backlog: u32| runs_with(|| bound(backlog).map(drop))),
        row("Fd::listen", |backlog: u32| runs_with(|| bound(1)?.listen(backlog))),
        row("Fd::set_keepalive", |idle: Duration| runs_with(|| bound(1)?.set_keepalive(idle))),
    ]
}

fn bound(backlog: u32) -> io::Result<Fd> {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    bind(addr, ListenOptions { backlog, reuse_addr: true, reuse_port: false, nodelay: true, v6_only: false })
}

fn runs_with(f: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    corio::run(async { f() })
}

/// A place of a table, free for good.
struct Nothing;

impl Place for Nothing {
    fn generation(&self) -> u32 {
        0
    }
    fn is_free(&self) -> bool {
        true
    }
    fn next_free(&self) -> u32 {
        NONE
    }
    fn set_next_free(&mut self, _: u32) {}
}

/// One with a place at 0.
fn table() -> Slab<Nothing> {
    let mut table = Slab::new(|| ());
    table.take(|_, _| Nothing);
    table
}

/// Each bit of `arms` is named once.
fn each_once(arms: u64, named: Arms) -> io::Result<()> {
    let named: Vec<u32> = named.collect();
    assert_eq!(named.len(), arms.count_ones() as usize);
    assert_eq!(named.iter().fold(0, |bits, arm| bits | (1 << arm)), arms);
    Ok(())
}

fn tables() -> Vec<Row> {
    vec![
        row("Arms::in_order", |arms: u64| each_once(arms, Arms::in_order(arms))),
        row2("Arms::from", |first: u32, arms: u64| each_once(arms, Arms::from(first, arms))),
        row("Arms::shuffled", |arms: u64| each_once(arms, Arms::shuffled(arms))),
        row("Slab::get", |index: usize| {
            assert_eq!(table().get(index).is_some(), index == 0);
            Ok(())
        }),
        row("Slab::get_mut", |index: usize| {
            assert_eq!(table().get_mut(index).is_some(), index == 0);
            Ok(())
        }),
        row("Slab::give_back", |index: usize| {
            let mut table = table();
            assert_eq!(table.give_back(index, |_, _| Some(())).is_some(), index == 0);
            assert_eq!(table.used(), usize::from(index > 0));
            Ok(())
        }),
        row2("smaller", |capacity: usize, len: usize| {
            for size in [0, 1, 8, usize::MAX] {
                assert!(smaller(capacity, len, size).is_none_or(|to| to >= len && to < capacity));
            }
            Ok(())
        }),
    ]
}
