//! Micro benchmarks of the primitives and of many tasks together, beside their peers. Each benchmark is a round of one
//! operation; those that need a task's waker run inside the loop.

use std::{
    future::{Future, ready},
    hint::black_box,
    rc::Rc,
    time::{Duration, Instant},
};

use corio::{
    Event, Lock, Queue, Runner, Semaphore, create_task, gather, task_group, time::timeout, yield_now,
};
use criterion::{Criterion, criterion_group, criterion_main};

/// Times `count` rounds of `f` inside one run of corio's loop.
fn on_corio<F: AsyncFn()>(count: u64, f: F) -> Duration {
    Runner::new().expect("a loop").run(timed(count, f))
}

/// Times `count` rounds of `f` inside tokio's current-thread runtime, as a local task.
fn on_tokio<F: AsyncFn()>(count: u64, f: F) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, timed(count, f))
}

async fn timed<F: AsyncFn()>(count: u64, f: F) -> Duration {
    let start = Instant::now();
    for _ in 0..count {
        f().await;
    }
    start.elapsed()
}

fn uncontended(c: &mut Criterion) {
    let mut group = c.benchmark_group("uncontended");
    macro_rules! bench {
        ($name:literal, $f:expr) => {
            group.bench_function($name, |b| b.iter_custom(|count| on_corio(count, $f)));
        };
    }
    let (lock, tokio_lock, async_lock) =
        (Lock::new(0), tokio::sync::Mutex::new(0), async_lock::Mutex::new(0));
    bench!("lock/corio", async || *lock.acquire().await += 1);
    bench!("lock/tokio", async || *tokio_lock.lock().await += 1);
    bench!("lock/async-lock", async || *async_lock.lock().await += 1);

    let (semaphore, tokio_semaphore, async_semaphore) =
        (Semaphore::new(1), tokio::sync::Semaphore::new(1), async_lock::Semaphore::new(1));
    bench!("semaphore/corio", async || drop(semaphore.acquire().await));
    bench!("semaphore/tokio", async || drop(tokio_semaphore.acquire().await));
    bench!("semaphore/async-lock", async || drop(async_semaphore.acquire().await));

    let queue = Queue::new(16);
    let (tokio_send, tokio_receive) = tokio::sync::mpsc::channel(16);
    let tokio_receive = std::cell::RefCell::new(tokio_receive);
    let (flume_send, flume_receive) = flume::bounded(16);
    bench!("queue/corio", async || {
        let _ = queue.put_nowait(1);
        let _ = black_box(queue.get_nowait());
    });
    bench!("queue/tokio", async || {
        let _ = tokio_send.try_send(1);
        let _ = black_box(tokio_receive.borrow_mut().try_recv());
    });
    bench!("queue/flume", async || {
        let _ = flume_send.try_send(1);
        let _ = black_box(flume_receive.try_recv());
    });

    let event = Event::new();
    event.set();
    bench!("event wait when set/corio", async || event.wait().await);
    group.finish();
}

/// Two tasks that hand something over to each other, `count` times.
fn hand_over(c: &mut Criterion) {
    let mut group = c.benchmark_group("hand-over between two tasks");
    group.bench_function("lock/corio", |b| {
        b.iter_custom(|count| {
            Runner::new().expect("a loop").run(async {
                let lock = Rc::new(Lock::new(()));
                let start = Instant::now();
                let tasks = [(); 2].map(|()| {
                    let lock = lock.clone();
                    create_task(async move {
                        // The other one queues up meanwhile; from then on each waits for the other.
                        let first = lock.acquire().await;
                        yield_now().await;
                        drop(first);
                        for _ in 0..count / 2 {
                            drop(lock.acquire().await);
                        }
                    })
                });
                gather(tasks).await;
                start.elapsed()
            })
        });
    });
    group.bench_function("lock/tokio", |b| {
        b.iter_custom(|count| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            tokio::task::LocalSet::new().block_on(&runtime, async {
                let lock = Rc::new(tokio::sync::Mutex::new(()));
                let start = Instant::now();
                let tasks = [(); 2].map(|()| {
                    let lock = lock.clone();
                    tokio::task::spawn_local(async move {
                        let first = lock.lock().await;
                        tokio::task::yield_now().await;
                        drop(first);
                        for _ in 0..count / 2 {
                            drop(lock.lock().await);
                        }
                    })
                });
                for task in tasks {
                    let _ = task.await;
                }
                start.elapsed()
            })
        });
    });
    group.finish();
}

/// A thousand at once; the figure is for all of them.
fn thousand(c: &mut Criterion) {
    const COUNT: u32 = 1000;
    let mut group = c.benchmark_group("a thousand");
    group.bench_function("gather of ready futures/corio", |b| {
        b.iter_custom(|count| {
            on_corio(count, async || {
                black_box(gather((0..COUNT).map(ready)).await);
            })
        });
    });
    group.bench_function("gather of ready futures/futures", |b| {
        b.iter_custom(|count| {
            on_corio(count, async || {
                black_box(futures::future::join_all((0..COUNT).map(ready)).await);
            })
        });
    });
    group.bench_function("group of tasks/corio", |b| {
        b.iter_custom(|count| on_corio(count, || drop_output(corio_group(COUNT))));
    });
    group.bench_function("group of tasks/tokio JoinSet", |b| {
        b.iter_custom(|count| {
            on_tokio(count, async || {
                let mut set = tokio::task::JoinSet::new();
                (0..COUNT).for_each(|n| drop(set.spawn_local(ready(n))));
                while set.join_next().await.is_some() {}
            })
        });
    });
    group.bench_function("timeout around a ready future/corio", |b| {
        let minute = Duration::from_secs(60);
        b.iter_custom(|count| on_corio(count, || drop_output(timeout(minute, ready(1)))));
    });
    group.bench_function("timeout around a ready future/tokio", |b| {
        let minute = Duration::from_secs(60);
        b.iter_custom(|count| on_tokio(count, || drop_output(tokio::time::timeout(minute, ready(1)))));
    });
    group.finish();
}

async fn corio_group(count: u32) {
    let ended: Result<(), corio::TaskGroupError<()>> = task_group(async |group| {
        (0..count).for_each(|n| drop(group.create_task(ready(Ok(n)))));
        Ok(())
    })
    .await;
    assert!(ended.is_ok());
}

async fn drop_output(future: impl Future) {
    black_box(future.await);
}

criterion_group!(benches, uncontended, hand_over, thousand);
criterion_main!(benches);
