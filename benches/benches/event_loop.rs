//! Micro benchmarks of the loop, beside tokio's current-thread runtime.

use std::{
    future::{Future, poll_fn},
    hint::black_box,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use corio::{
    Runner,
    event_loop::call_soon,
    op::{Done, Operation, Sqe, submit},
};
use criterion::{Criterion, criterion_group, criterion_main};

struct Nop;

impl Operation for Nop {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        Sqe::nop()
    }

    fn complete(self: Box<Self>, done: Done) {
        drop(done);
    }
}

/// Times `count` rounds of `f` inside one run of the loop.
fn timed<F: AsyncFn()>(runner: &mut Runner, count: u64, f: F) -> Duration {
    runner.run(async {
        let start = Instant::now();
        for _ in 0..count {
            f().await;
        }
        start.elapsed()
    })
}

async fn once(future: impl Future) {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let _ = future.as_mut().poll(cx);
        Poll::Ready(())
    })
    .await;
}

fn corio(c: &mut Criterion) {
    let mut runner = Runner::new().expect("a loop");
    let mut group = c.benchmark_group("corio");
    macro_rules! bench {
        ($name:literal, $f:expr) => {
            group.bench_function($name, |b| b.iter_custom(|count| timed(&mut runner, count, $f)));
        };
    }
    bench!("spawn+join", async || {
        let _ = black_box(corio::create_task(async { 1 }).await);
    });
    bench!("1000 spawned, then joined", async || {
        let tasks: Vec<_> = (0..1000).map(|_| corio::create_task(async { 1 })).collect();
        for task in tasks {
            let _ = black_box(task.await);
        }
    });
    bench!("yield", async || corio::yield_now().await);
    bench!("sleep create+cancel", async || once(corio::sleep(Duration::from_secs(3600))).await);
    bench!("timeout around a ready future", async || {
        let _ = black_box(corio::timeout(Duration::from_secs(1), async { 1 }).await);
    });
    bench!("call_soon", async || {
        call_soon(|| {});
        corio::yield_now().await;
    });
    bench!("nop through the ring", async || submit(Nop).await);
    group.finish();
}

fn tokio(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let mut group = c.benchmark_group("tokio");
    macro_rules! bench {
        ($name:literal, $f:expr) => {
            group.bench_function($name, |b| {
                b.iter_custom(|count| {
                    let work = async move {
                        let start = Instant::now();
                        for _ in 0..count {
                            ($f)().await;
                        }
                        start.elapsed()
                    };
                    runtime.block_on(async { tokio::spawn(work).await.expect("the benchmark") })
                })
            });
        };
    }
    bench!("spawn+join", || async {
        let _ = black_box(tokio::spawn(async { 1 }).await);
    });
    bench!("yield", tokio::task::yield_now);
    bench!("sleep create+cancel", || once(tokio::time::sleep(Duration::from_secs(3600))));
    group.finish();
}

criterion_group!(benches, corio, tokio);
criterion_main!(benches);
