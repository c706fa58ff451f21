//! Micro benchmarks of the primitives and of many tasks together, beside their peers. Each benchmark is a round of one
//! operation. What needs no runtime of its own runs inside corio's loop.

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
use local_sync::semaphore::Semaphore as LocalSemaphore;
use tokio::task::{spawn_local, yield_now as tokio_yield_now};

/// Times `count` rounds of `f` inside one run of corio's loop.
fn on_corio<F: AsyncFnMut()>(count: u64, f: F) -> Duration {
    in_corio(timed(count, f))
}

/// Times `count` rounds of `f` inside tokio's current-thread runtime, as a local task.
fn on_tokio<F: AsyncFnMut()>(count: u64, f: F) -> Duration {
    in_tokio(timed(count, f))
}

fn in_corio<F: Future>(main: F) -> F::Output {
    Runner::new().expect("a loop").run(main)
}

fn in_tokio<F: Future>(main: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, main)
}

async fn timed<F: AsyncFnMut()>(count: u64, mut f: F) -> Duration {
    let start = Instant::now();
    for _ in 0..count {
        f().await;
    }
    start.elapsed()
}

/// A benchmark for each name: rounds of the function inside corio's loop.
macro_rules! rounds {
    ($group:ident: $($name:literal, $f:expr;)+) => {
        $($group.bench_function($name, |b| b.iter_custom(|count| on_corio(count, $f)));)+
    };
}

fn locks(c: &mut Criterion) {
    let mut group = c.benchmark_group("uncontended");
    let (lock, tokio_lock) = (Lock::new(0), tokio::sync::Mutex::new(0));
    let (async_lock, futures_lock) = (async_lock::Mutex::new(0), futures::lock::Mutex::new(0));
    rounds! { group:
        "lock/corio", async || *lock.acquire().await += 1;
        "lock/tokio", async || *tokio_lock.lock().await += 1;
        "lock/async-lock", async || *async_lock.lock().await += 1;
        "lock/futures", async || *futures_lock.lock().await += 1;
    }
    let (semaphore, tokio_semaphore) = (Semaphore::new(1), tokio::sync::Semaphore::new(1));
    let (async_semaphore, local_semaphore) = (async_lock::Semaphore::new(1), LocalSemaphore::new(1));
    rounds! { group:
        "semaphore/corio", async || drop(semaphore.acquire().await);
        "semaphore/tokio", async || drop(tokio_semaphore.acquire().await);
        "semaphore/async-lock", async || drop(async_semaphore.acquire().await);
        "semaphore/local-sync", async || drop(local_semaphore.acquire().await);
    }
    group.finish();
}

/// One value in, one out.
macro_rules! in_and_out {
    ($in:expr, $out:expr) => {
        async || {
            let _ = $in;
            let _ = black_box($out);
        }
    };
}

fn queues(c: &mut Criterion) {
    let mut group = c.benchmark_group("uncontended");
    let queue = Queue::new(16);
    let (tokio_in, mut tokio_out) = tokio::sync::mpsc::channel(16);
    let (flume_in, flume_out) = flume::bounded(16);
    let (mut futures_in, mut futures_out) = futures::channel::mpsc::channel(16);
    let (local_in, mut local_out) = local_sync::mpsc::bounded::channel(16);
    rounds! { group:
        "queue/corio", in_and_out!(queue.put_nowait(1), queue.get_nowait());
        "queue/tokio", in_and_out!(tokio_in.try_send(1), tokio_out.try_recv());
        "queue/flume", in_and_out!(flume_in.try_send(1), flume_out.try_recv());
        "queue/futures", in_and_out!(futures_in.try_send(1), futures_out.try_recv());
        // It has no `try_send`.
        "queue/local-sync", in_and_out!(local_in.send(1).await, local_out.try_recv());
    }
    let queue = Queue::new(0);
    let (tokio_in, mut tokio_out) = tokio::sync::mpsc::unbounded_channel();
    let (flume_in, flume_out) = flume::unbounded();
    let (futures_in, mut futures_out) = futures::channel::mpsc::unbounded();
    let (local_in, mut local_out) = local_sync::mpsc::unbounded::channel();
    rounds! { group:
        "unbounded queue/corio", in_and_out!(queue.put_nowait(1), queue.get_nowait());
        "unbounded queue/tokio", in_and_out!(tokio_in.send(1), tokio_out.try_recv());
        "unbounded queue/flume", in_and_out!(flume_in.try_send(1), flume_out.try_recv());
        "unbounded queue/futures", in_and_out!(futures_in.unbounded_send(1), futures_out.try_recv());
        "unbounded queue/local-sync", in_and_out!(local_in.send(1), local_out.try_recv());
    }
    group.finish();
}

/// A channel made, its value sent and received.
macro_rules! once {
    ($channel:path) => {
        async || {
            let (sender, receiver) = $channel();
            let _ = sender.send(1);
            let _ = black_box(receiver.await);
        }
    };
}

fn oneshots(c: &mut Criterion) {
    let mut group = c.benchmark_group("uncontended");
    rounds! { group:
        "oneshot/corio", once!(corio::sync::oneshot::channel);
        "oneshot/tokio", once!(tokio::sync::oneshot::channel);
        "oneshot/futures", once!(futures::channel::oneshot::channel);
        "oneshot/local-sync", once!(local_sync::oneshot::channel);
    }
    group.finish();
}

fn events(c: &mut Criterion) {
    let mut group = c.benchmark_group("uncontended");
    let event = Event::new();
    event.set();
    // Of the peers' only this one can be cleared again.
    let mut watch = tokio::sync::watch::Sender::new(true).subscribe();
    let tokio_once = tokio::sync::SetOnce::new_with(Some(()));
    let async_once = async_lock::OnceCell::from(());
    rounds! { group:
        "event wait when set/corio", async || event.wait().await;
        "event wait when set/tokio watch", async || drop(watch.wait_for(|set| *set).await);
        "event wait when set/tokio SetOnce", async || _ = black_box(tokio_once.wait().await);
        "event wait when set/async-lock OnceCell", async || _ = black_box(async_once.wait().await);
    }
    // These peers wait for the next event only.
    let (event, notify) = (Event::new(), tokio::sync::Notify::new());
    let listened = event_listener::Event::new();
    rounds! { group:
        "event set, wait and clear/corio", async || {
            event.set();
            event.wait().await;
            event.clear();
        };
        "event set, wait and clear/tokio Notify", async || {
            notify.notify_one();
            notify.notified().await;
        };
        "event set, wait and clear/event-listener", async || {
            event_listener::listener!(listened => listener);
            listened.notify(1);
            listener.await;
        };
    }
    group.finish();
}

/// A benchmark for each name: two tasks that hand a lock over to each other. With `pauses`, each lets the other one run
/// before and after a release.
macro_rules! hand_overs {
    ($group:ident, pauses: $pauses:literal,
        $($name:literal, $run:ident($create_task:ident, $yield_now:ident), $lock:expr, $acquire:ident;)+
    ) => {
        $($group.bench_function($name, |b| {
            b.iter_custom(|count| {
                $run(async {
                    let lock = Rc::new($lock);
                    let start = Instant::now();
                    let tasks = [(); 2].map(|()| {
                        let lock = lock.clone();
                        $create_task(async move {
                            // The other one queues up meanwhile; from then on each waits for the other.
                            let first = lock.$acquire().await;
                            $yield_now().await;
                            drop(first);
                            for _ in 0..count / 2 {
                                let guard = lock.$acquire().await;
                                if $pauses {
                                    $yield_now().await;
                                }
                                drop(guard);
                                if $pauses {
                                    $yield_now().await;
                                }
                            }
                        })
                    });
                    for task in tasks {
                        let _ = task.await;
                    }
                    start.elapsed()
                })
            });
        });)+
    };
}

fn hand_over(c: &mut Criterion) {
    let mut group = c.benchmark_group("hand-over between two tasks");
    hand_overs! { group, pauses: false,
        "lock/corio", in_corio(create_task, yield_now), Lock::new(()), acquire;
        "lock/tokio", in_tokio(spawn_local, tokio_yield_now), tokio::sync::Mutex::new(()), lock;
        "lock/local-sync semaphore", in_tokio(spawn_local, tokio_yield_now), LocalSemaphore::new(1), acquire;
    }
    // Those of async-lock and futures would else stay with the task that runs.
    hand_overs! { group, pauses: true,
        "lock, with pauses/corio", in_corio(create_task, yield_now), Lock::new(()), acquire;
        "lock, with pauses/tokio", in_corio(create_task, yield_now), tokio::sync::Mutex::new(()), lock;
        "lock, with pauses/async-lock", in_corio(create_task, yield_now), async_lock::Mutex::new(()), lock;
        "lock, with pauses/futures", in_corio(create_task, yield_now), futures::lock::Mutex::new(()), lock;
    }
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

criterion_group!(benches, locks, queues, oneshots, events, hand_over, thousand);
criterion_main!(benches);
