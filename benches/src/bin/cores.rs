//! What passes between cores, and what a loop and a subprocess cost, beside tokio: `cores [ROUNDS]`. Prints the median
//! of the rounds, which are interleaved; the memory of a loop is measured once, before them.

use std::{
    collections::{BTreeMap, VecDeque},
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use corio::{Core, Cores, Runner, channel::channel, run_coroutine_threadsafe, run_per_core};

const MESSAGES: u64 = 4_000_000;
const BATCH: u64 = 256;
const CAPACITY: usize = 1024;
const ROUND_TRIPS: u32 = 20_000;
const SPAWNS: u32 = 300;
const LOOPS: usize = 100;

type Bench = fn() -> f64;

const BENCHES: [(&str, Bench); 12] = [
    ("channel, batched: corio, M messages/s", channel_corio_batched),
    ("channel, one by one: corio, M messages/s", channel_corio_single),
    ("channel, one by one in, batched out: tokio mpsc, M messages/s", channel_tokio),
    ("channel, one by one: flume, M messages/s", channel_flume),
    ("round trip between two idle cores, back to back: corio, µs", || round_trip(Between::Nothing)),
    ("round trip to a busy core: corio, µs", || round_trip(Between::Work)),
    ("round trip to a core that has slept for a millisecond: corio, µs", || round_trip(Between::Sleep)),
    ("round trip, back to back: tokio spawn + oneshot, µs", round_trip_tokio),
    ("round trip of two threads by park and unpark, back to back, µs", || {
        round_trip_of_threads(Between::Nothing)
    }),
    ("round trip of two threads, after a millisecond of sleep, µs", || {
        round_trip_of_threads(Between::Sleep)
    }),
    ("spawn /bin/true and wait: corio, per second", spawn_corio),
    ("spawn /bin/true and wait: tokio, per second", spawn_tokio),
];

fn main() {
    let rounds = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(5);
    println!("{:>10.2}  memory of a loop, of {LOOPS} at once: corio, KiB", loop_kib());
    let mut results: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        for (place, (_, bench)) in BENCHES.iter().enumerate() {
            results.entry(place).or_default().push(bench());
        }
    }
    for (place, mut values) in results {
        values.sort_by(f64::total_cmp);
        println!("{:>10.2}  {}", values[values.len() / 2], BENCHES[place].0);
    }
}

/// From core 0 to core 1: `send` on the one, `receive` on the other; the rate.
fn between_cores<S, R>(
    send: fn(corio::channel::Sender<u64>) -> S,
    receive: fn(corio::channel::Receiver<u64>) -> R,
) -> f64
where
    S: Future<Output = ()> + 'static,
    R: Future<Output = u64> + 'static,
{
    let times = run_per_core(Cores::Count(2), move |core: Core| async move {
        if core.index() == 1 {
            return Duration::ZERO;
        }
        let (sender, receiver) = channel(CAPACITY);
        let start = Instant::now();
        let receiving = run_coroutine_threadsafe(&core.handle(1), move || receive(receiver));
        send(sender).await;
        assert_eq!(receiving.await.expect("the sum"), MESSAGES * (MESSAGES - 1) / 2);
        start.elapsed()
    });
    rate(times[0])
}

fn rate(time: Duration) -> f64 {
    MESSAGES as f64 / time.as_secs_f64() / 1e6
}

fn channel_corio_batched() -> f64 {
    between_cores(
        |sender| async move {
            let mut values = VecDeque::new();
            for first in (0..MESSAGES).step_by(BATCH as usize) {
                values.extend(first..(first + BATCH).min(MESSAGES));
                sender.send_all(&mut values).await.expect("an open channel");
            }
        },
        |mut receiver| async move {
            let (mut sum, mut batch) = (0, Vec::new());
            while receiver.recv_many(&mut batch, CAPACITY).await > 0 {
                sum += batch.drain(..).sum::<u64>();
            }
            sum
        },
    )
}

fn channel_corio_single() -> f64 {
    between_cores(
        |sender| async move {
            for n in 0..MESSAGES {
                sender.send(n).await.expect("an open channel");
            }
        },
        |mut receiver| async move {
            let mut sum = 0;
            while let Some(n) = receiver.recv().await {
                sum += n;
            }
            sum
        },
    )
}

fn tokio_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Pins this thread to one of two cores, as the loops are.
fn pin(index: usize) {
    if let Some(id) = core_affinity::get_core_ids().unwrap_or_default().get(index) {
        core_affinity::set_for_current(*id);
    }
}

fn channel_tokio() -> f64 {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(CAPACITY);
    let start = Instant::now();
    let receiving = thread::spawn(move || {
        pin(1);
        tokio_runtime().block_on(async {
            let (mut sum, mut batch) = (0, Vec::new());
            while receiver.recv_many(&mut batch, CAPACITY).await > 0 {
                sum += batch.drain(..).sum::<u64>();
            }
            sum
        })
    });
    let sending = thread::spawn(move || {
        pin(0);
        tokio_runtime().block_on(async {
            for n in 0..MESSAGES {
                sender.send(n).await.expect("an open channel");
            }
        });
    });
    sending.join().expect("a sender");
    black_box(receiving.join().expect("a receiver"));
    rate(start.elapsed())
}

fn channel_flume() -> f64 {
    let (sender, receiver) = flume::bounded(CAPACITY);
    let start = Instant::now();
    let receiving = thread::spawn(move || {
        pin(1);
        tokio_runtime().block_on(async {
            let mut sum = 0u64;
            while let Ok(n) = receiver.recv_async().await {
                sum += n;
            }
            sum
        })
    });
    let sending = thread::spawn(move || {
        pin(0);
        tokio_runtime().block_on(async {
            for n in 0..MESSAGES {
                sender.send_async(n).await.expect("an open channel");
            }
        });
    });
    sending.join().expect("a sender");
    black_box(receiving.join().expect("a receiver"));
    rate(start.elapsed())
}

/// What a core does between two round trips.
#[derive(Clone, Copy, PartialEq)]
enum Between {
    Nothing,
    /// Both cores spin.
    Work,
    /// Both cores sleep.
    Sleep,
}

const PAUSE: Duration = Duration::from_millis(1);

impl Between {
    fn round_trips(self) -> u32 {
        if self == Between::Sleep { ROUND_TRIPS / 40 } else { ROUND_TRIPS }
    }
}

/// A call to the other core and back.
fn round_trip(between: Between) -> f64 {
    let times = run_per_core(Cores::Count(2), move |core: Core| async move {
        if core.index() == 1 {
            return 0.0;
        }
        let spinning = (between == Between::Work).then(|| {
            [0, 1].map(|index| {
                run_coroutine_threadsafe(&core.handle(index), || async {
                    loop {
                        corio::yield_now().await;
                    }
                })
            })
        });
        let mut time = Duration::ZERO;
        for _ in 0..between.round_trips() {
            if between == Between::Sleep {
                corio::sleep(PAUSE).await;
            }
            let start = Instant::now();
            run_coroutine_threadsafe(&core.handle(1), || std::future::ready(())).await.expect("an answer");
            time += start.elapsed();
        }
        for spinning in spinning.iter().flatten() {
            spinning.cancel();
        }
        time.as_secs_f64() * 1e6 / f64::from(between.round_trips())
    });
    times[0]
}

fn round_trip_tokio() -> f64 {
    let (tell, told) = std::sync::mpsc::channel();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let there = thread::spawn(move || {
        pin(1);
        tokio_runtime().block_on(async {
            tell.send(tokio::runtime::Handle::current()).expect("somebody who listens");
            let _ = ended.await;
        });
    });
    let here = thread::spawn(move || {
        pin(0);
        let handle = told.recv().expect("a handle");
        tokio_runtime().block_on(async {
            let start = Instant::now();
            for _ in 0..ROUND_TRIPS {
                handle.spawn(std::future::ready(())).await.expect("an answer");
            }
            start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUND_TRIPS)
        })
    });
    let time = here.join().expect("a time");
    let _ = end.send(());
    there.join().expect("an end");
    time
}

/// What the machine takes to wake a core that sleeps, and to be woken by it.
fn round_trip_of_threads(between: Between) -> f64 {
    let rounds = between.round_trips() as usize;
    let turn = Arc::new(AtomicUsize::new(0));
    let turned = turn.clone();
    let wait = |turn: &AtomicUsize, until: usize| {
        while turn.load(Ordering::SeqCst) < until {
            thread::park();
        }
    };
    let (tell, told) = std::sync::mpsc::channel::<thread::Thread>();
    // Both from this thread, which may run on any core.
    let there = thread::spawn(move || {
        pin(1);
        let here = told.recv().expect("a thread");
        for n in 0..rounds {
            wait(&turned, 2 * n + 1);
            turned.store(2 * n + 2, Ordering::SeqCst);
            here.unpark();
        }
    });
    let other = there.thread().clone();
    let here = thread::spawn(move || {
        pin(0);
        tell.send(thread::current()).expect("the other thread");
        let mut time = Duration::ZERO;
        for n in 0..rounds {
            if between == Between::Sleep {
                thread::sleep(PAUSE);
            }
            let start = Instant::now();
            turn.store(2 * n + 1, Ordering::SeqCst);
            other.unpark();
            wait(&turn, 2 * n + 2);
            time += start.elapsed();
        }
        time.as_secs_f64() * 1e6 / rounds as f64
    });
    let time = here.join().expect("a time");
    there.join().expect("an end");
    time
}

fn spawn_corio() -> f64 {
    let start = Instant::now();
    corio::run(async {
        for _ in 0..SPAWNS {
            let child = corio::create_subprocess_exec("/bin/true", [""; 0]).await.expect("a child");
            assert_eq!(child.wait().await.expect("a status"), 0);
        }
    });
    f64::from(SPAWNS) / start.elapsed().as_secs_f64()
}

fn spawn_tokio() -> f64 {
    let start = Instant::now();
    tokio_runtime().block_on(async {
        for _ in 0..SPAWNS {
            let mut child = tokio::process::Command::new("/bin/true").spawn().expect("a child");
            assert!(child.wait().await.expect("a status").success());
        }
    });
    f64::from(SPAWNS) / start.elapsed().as_secs_f64()
}

/// What the process grows by, per loop of those that have run and are all there. It must have had none before: memory
/// that was given back is in the process already, and what the allocator makes zeros of again is touched.
fn loop_kib() -> f64 {
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc");
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
        pages.expect("the resident pages") * 4.0
    };
    let before = resident();
    let loops = [(); LOOPS].map(|()| {
        let mut runner = Runner::new().expect("a loop");
        runner.run(corio::sleep(Duration::from_micros(1)));
        runner
    });
    let grown = resident() - before;
    drop(loops);
    grown / LOOPS as f64
}
