//! Costs of tasks, timers and wake-ups, one JSON line each, to be set beside other runtimes'.

use std::{
    cell::{Cell, RefCell},
    future::{Future, pending, poll_fn},
    pin::pin,
    rc::Rc,
    sync::mpsc,
    task::{Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};

fn main() {
    pin(0);
    corio::run(async {
        spawn_and_join().await;
        yields().await;
        ping_pong().await;
        sleepers().await;
        cancelled_sleeps().await;
        round_trips().await;
        idle_tasks().await;
    });
}

fn report(bench: &str, value: f64) {
    println!("{{\"rt\":\"corio\",\"bench\":\"{bench}\",\"v\":{value:.2}}}");
}

fn per(bench: &str, since: Instant, count: u32) {
    report(bench, since.elapsed().as_nanos() as f64 / f64::from(count));
}

fn pin(index: usize) {
    if let Some(core) = core_affinity::get_core_ids().unwrap_or_default().get(index) {
        core_affinity::set_for_current(*core);
    }
}

async fn spawn_and_join() {
    const COUNT: u32 = 200_000;
    for measured in [false, true] {
        let start = Instant::now();
        for _ in 0..COUNT {
            let _ = corio::create_task(async { 1 }).await;
        }
        if measured {
            per("spawn_join_ns", start, COUNT);
        }
    }
    let start = Instant::now();
    for _ in 0..COUNT / 1000 {
        let tasks: Vec<_> = (0..1000).map(|_| corio::create_task(async { 1 })).collect();
        for task in tasks {
            let _ = task.await;
        }
    }
    per("spawn1000_join_ns", start, COUNT);
}

async fn yields() {
    const COUNT: u32 = 1_000_000;
    let start = Instant::now();
    for _ in 0..COUNT {
        corio::yield_now().await;
    }
    per("yield_ns", start, COUNT);
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

/// Ten thousand tasks that sleep for a millisecond, ten times.
async fn sleepers() {
    let cpu = || clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from);
    let (start, before) = (Instant::now(), cpu());
    for _ in 0..10 {
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
    const COUNT: u32 = 200_000;
    let start = Instant::now();
    for _ in 0..COUNT {
        let mut sleep = pin!(corio::sleep(Duration::from_secs(3600)));
        poll_fn(|cx| {
            let _ = sleep.as_mut().poll(cx);
            Poll::Ready(())
        })
        .await;
    }
    per("sleep_cancel_ns", start, COUNT);
}

/// Another core asks through a channel and blocks for the answer.
async fn round_trips() {
    let (ask, asked) = async_channel::unbounded::<mpsc::SyncSender<()>>();
    let client = thread::spawn(move || {
        pin(1);
        let (answer, answered) = mpsc::sync_channel(1);
        let mut times: Vec<f64> = Vec::new();
        for n in 0..22_000 {
            let start = Instant::now();
            if ask.try_send(answer.clone()).is_err() || answered.recv().is_err() {
                break;
            }
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
    let _ = client.join();
}

/// A million tasks of 32 bytes that wait for ever.
async fn idle_tasks() {
    const COUNT: u32 = 1_000_000;
    let (start, before) = (Instant::now(), resident_bytes());
    for n in 0..u64::from(COUNT) {
        drop(corio::create_task(async move {
            let held = [n; 4];
            pending::<()>().await;
            std::hint::black_box(held);
        }));
        if n % 1000 == 0 {
            corio::yield_now().await;
        }
    }
    corio::yield_now().await;
    report("mem_per_task_b", (resident_bytes() - before) / f64::from(COUNT));
    per("spawn1M_ns_per_task", start, COUNT);
}

fn resident_bytes() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0.0);
    pages * 4096.0
}
