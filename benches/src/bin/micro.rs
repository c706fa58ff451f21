//! Costs of tasks, timers and wake-ups, one JSON line each, to be set beside other runtimes'.
//! Like theirs, all but the client thread runs inside a task on the first core, warmed up before it is timed.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    hint::black_box,
    pin::{Pin, pin},
    rc::Rc,
    sync::mpsc,
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use core_affinity::CoreId;
use nix::{
    time::{ClockId, clock_gettime},
    unistd::{SysconfVar, sysconf},
};

fn main() {
    // Read before anything is pinned: a thread sees, and inherits, its creator's mask.
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let (own, clients) = (cores.first().copied(), cores.get(1).copied());
    pin(own);
    if clients.is_none() {
        eprintln!("note: only one core is allowed here: xthread_* is a round trip on that core");
    }
    let done = corio::run(async move {
        let all = corio::create_task(async move {
            spawn_and_join().await;
            yields().await;
            ping_pong().await;
            sleepers().await;
            cancelled_sleeps().await;
            round_trips(clients.or(own)).await;
            idle_tasks().await;
        });
        all.await
    });
    done.expect("the benchmarks");
}

fn report(bench: &str, value: f64) {
    println!("{{\"rt\":\"corio\",\"bench\":\"{bench}\",\"v\":{value:.2}}}");
}

fn per(bench: &str, since: Instant, count: u32) {
    report(bench, since.elapsed().as_nanos() as f64 / f64::from(count));
}

fn pin(core: Option<CoreId>) {
    if !core.is_some_and(core_affinity::set_for_current) {
        eprintln!("note: a thread could not be pinned; it moves between cores");
    }
}

/// Ready at once.
struct Trivial;

impl Future for Trivial {
    type Output = u32;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u32> {
        Poll::Ready(1)
    }
}

async fn spawn_and_join() {
    const COUNT: u32 = 200_000;
    for (count, measured) in [(COUNT / 10, false), (COUNT, true)] {
        let start = Instant::now();
        for _ in 0..count {
            let _ = corio::create_task(Trivial).await;
        }
        if measured {
            per("spawn_join_ns", start, count);
        }
    }
    let start = Instant::now();
    for _ in 0..COUNT / 1000 {
        let tasks: Vec<_> = (0..1000).map(|_| corio::create_task(Trivial)).collect();
        for task in tasks {
            let _ = task.await;
        }
    }
    per("spawn1000_join_ns", start, COUNT);
}

/// Pending once, having woken its own task: what any runtime's yield comes down to.
#[derive(Default)]
struct Yield {
    woken: bool,
}

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.woken, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

async fn yields() {
    for (count, measured) in [(20_000, false), (1_000_000, true)] {
        let start = Instant::now();
        for _ in 0..count {
            Yield::default().await;
        }
        if measured {
            per("yield_ns", start, count);
        }
    }
}

/// An event of one thread: set, and one waiter.
#[derive(Default)]
struct Flag {
    set: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Flag {
    fn set(&self) {
        self.set.set(true);
        if let Some(waker) = &*self.waiter.borrow() {
            waker.wake_by_ref();
        }
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            if self.set.take() {
                return Poll::Ready(());
            }
            let mut waiter = self.waiter.borrow_mut();
            if !waiter.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                *waiter = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

async fn ping_pong() {
    const COUNT: u32 = 300_000;
    let (ping, pong) = (Rc::new(Flag::default()), Rc::new(Flag::default()));
    let start = Instant::now();
    let asks = {
        let (ping, pong) = (ping.clone(), pong.clone());
        corio::create_task(async move {
            for _ in 0..COUNT {
                ping.set();
                pong.wait().await;
            }
        })
    };
    let answers = corio::create_task(async move {
        for _ in 0..COUNT {
            ping.wait().await;
            pong.set();
        }
    });
    let _ = (asks.await, answers.await);
    per("pingpong_raw_ns_rt", start, COUNT);
}

/// Ten thousand tasks that sleep for a millisecond: once to warm up, then ten times.
async fn sleepers() {
    let cpu = || clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).expect("the clock");
    let (mut start, mut before) = (Instant::now(), cpu());
    for round in 0..11 {
        if round == 1 {
            (start, before) = (Instant::now(), cpu());
        }
        let sleep = |_| corio::create_task(corio::sleep(Duration::from_millis(1)));
        let tasks: Vec<_> = (0..10_000).map(sleep).collect();
        for task in tasks {
            let _ = task.await;
        }
    }
    report("sleep10k_1ms_wall_ms", start.elapsed().as_secs_f64() * 1e3 / 10.0);
    report("sleep10k_1ms_cpu_ns_per_timer", (cpu() - before).as_nanos() as f64 / 1e5);
}

async fn cancelled_sleeps() {
    for (count, measured) in [(10_000, false), (200_000, true)] {
        let start = Instant::now();
        for _ in 0..count {
            let mut sleep = pin!(corio::sleep(Duration::from_secs(3600)));
            poll_fn(|cx| {
                let _ = sleep.as_mut().poll(cx);
                Poll::Ready(())
            })
            .await;
        }
        if measured {
            per("sleep_cancel_ns", start, count);
        }
    }
}

/// Another core asks through a channel and blocks for the answer.
async fn round_trips(core: Option<CoreId>) {
    let (ask, asked) = async_channel::unbounded::<mpsc::SyncSender<()>>();
    let client = thread::spawn(move || {
        pin(core);
        let (answer, answered) = mpsc::sync_channel(1);
        let mut times: Vec<f64> = Vec::new();
        for n in 0..22_000 {
            let start = Instant::now();
            ask.try_send(answer.clone()).expect("the loop takes questions");
            answered.recv().expect("the loop answers");
            if n >= 2000 {
                times.push(start.elapsed().as_nanos() as f64 / 1e3);
            }
        }
        times.sort_by(f64::total_cmp);
        report("xthread_rtt_p50_us", times[times.len() / 2]);
        report("xthread_rtt_p99_us", times[times.len() * 99 / 100]);
    });
    while let Ok(answer) = asked.recv().await {
        let _ = answer.try_send(());
    }
    client.join().expect("the client");
}

/// Pending for ever, and exactly 32 bytes large.
struct Never([u64; 4]);

impl Future for Never {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        black_box(&self.0);
        Poll::Pending
    }
}

async fn idle_tasks() {
    const COUNT: u32 = 1_000_000;
    let (start, before) = (Instant::now(), resident_bytes());
    for n in 0..u64::from(COUNT) {
        drop(corio::create_task(Never([n; 4])));
        if n % 1000 == 0 {
            Yield::default().await;
        }
    }
    // Once for the last tasks to start, once for good measure.
    Yield::default().await;
    Yield::default().await;
    report("mem_per_task_b", (resident_bytes() - before) / f64::from(COUNT));
    per("spawn1M_ns_per_task", start, COUNT);
}

fn resident_bytes() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc");
    let pages: f64 =
        statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).expect("a page count");
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().expect("the page size");
    pages * page as f64
}
