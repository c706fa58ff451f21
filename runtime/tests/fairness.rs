//! A task that is always ready does not starve timers, I/O and other tasks.

mod common;

use std::{
    cell::Cell,
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    thread,
};

use common::{ms, on_every, pair, recv, turns};
use corio_runtime::{
    Runner,
    channel::{Receiver, Sender, channel},
    create_eager_task, create_task, gather, handle, op, run,
    signals::{SignalKind, signal},
    time::{Duration, MissedTickBehavior, interval, sleep, timeout, timeout_scope},
    yield_now,
};
use futures::Stream;
use nix::{
    sys::signal::{Signal, raise},
    unistd::write,
};

/// What a step of a task takes at most.
const SHARE: usize = 128;

/// Counts results, and knows the most that came between two steps of another task.
#[derive(Clone, Default)]
struct Taken {
    all: Rc<Cell<usize>>,
    most: Rc<Cell<usize>>,
}

impl Taken {
    fn add(&self, results: usize) {
        self.all.set(self.all.get() + results);
    }

    /// Runs `source` beside a task that looks on in each turn.
    async fn watch(&self, source: impl Future<Output = ()> + 'static) -> usize {
        let (taken, most) = (self.clone(), self.most.clone());
        let looks_on = create_task(async move {
            loop {
                let before = taken.all.get();
                yield_now().await;
                taken.most.set(taken.most.get().max(taken.all.get() - before));
            }
        });
        create_task(source).await.unwrap();
        looks_on.cancel();
        most.get()
    }
}

fn full(messages: usize) -> (Sender<usize>, Receiver<usize>) {
    let (sender, receiver) = channel(messages);
    (0..messages).for_each(|n| sender.try_send(n).unwrap());
    (sender, receiver)
}

/// One way to receive, until the end.
type Way = fn(Receiver<usize>, Taken) -> Pin<Box<dyn Future<Output = ()>>>;

const WAYS: [Way; 4] = [
    |mut receiver, taken| {
        Box::pin(async move {
            while receiver.recv().await.is_some() {
                taken.add(1);
            }
        })
    },
    |mut receiver, taken| {
        Box::pin(async move {
            let mut some = Vec::new();
            while receiver.recv_many(&mut some, 50).await > 0 {
                taken.add(some.drain(..).len());
            }
        })
    },
    |mut receiver, taken| {
        Box::pin(async move {
            while poll_fn(|cx| receiver.poll_recv(cx)).await.is_some() {
                taken.add(1);
            }
        })
    },
    |mut receiver, taken| {
        Box::pin(async move {
            while poll_fn(|cx| Pin::new(&mut receiver).poll_next(cx)).await.is_some() {
                taken.add(1);
            }
        })
    },
];

#[test]
fn a_step_takes_its_share_of_a_full_channel_and_loses_nothing() {
    on_every(async || {
        for way in WAYS {
            let (sender, receiver) = full(1000);
            drop(sender);
            let taken = Taken::default();
            let most = taken.watch(way(receiver, taken.clone())).await;
            assert_eq!(taken.all.get(), 1000);
            // What is taken many at a time ends with the one that uses it up.
            assert!((SHARE..SHARE + 50).contains(&most), "{most} in a step");
        }
    });
}

#[test]
fn a_step_sends_its_share_into_a_channel_with_room() {
    on_every(async || {
        let (sender, mut receiver) = channel(1000);
        let taken = Taken::default();
        let sent = taken.clone();
        let most = taken.watch(async move {
            for n in 0..500 {
                sender.send(n).await.unwrap();
                sent.add(1);
            }
            let mut rest: VecDeque<_> = (500..1000).collect();
            sender.send_all(&mut rest).await.unwrap();
        });
        assert_eq!(most.await, SHARE);
        for n in 0..1000 {
            assert_eq!(receiver.recv().await, Some(n));
        }
    });
}

#[test]
fn parts_of_one_task_share_its_steps() {
    on_every(async || {
        let taken = Taken::default();
        let parts = taken.clone();
        let most = taken.watch(async move {
            let part = |_| {
                let (sender, receiver) = full(200);
                drop(sender);
                WAYS[0](receiver, parts.clone())
            };
            gather((0..20).map(part)).await;
        });
        assert_eq!((most.await, taken.all.get()), (SHARE, 4000));
    });
}

#[test]
fn an_eager_task_has_what_its_creator_has_left() {
    on_every(async || {
        let (_sender, mut receiver) = full(1000);
        let taken = Taken::default();
        let received = taken.clone();
        let most = taken.watch(async move {
            for _ in 0..500 {
                receiver.recv().await.unwrap();
                received.add(1);
                create_eager_task(async {}).await.unwrap();
            }
        });
        assert_eq!(most.await, SHARE);
    });
}

/// Sends as long as somebody receives.
fn flood() -> (Receiver<u32>, thread::JoinHandle<()>) {
    let (sender, receiver) = channel(1 << 14);
    let thread = thread::spawn(move || {
        let mut batch = VecDeque::new();
        let sending = async {
            loop {
                batch.resize(1 << 14, 0);
                if sender.send_all(&mut batch).await.is_err() {
                    return;
                }
            }
        };
        futures::executor::block_on(sending);
    });
    (receiver, thread)
}

#[test]
fn timers_io_calls_and_time_outs_go_on_beside_a_flood_of_messages() {
    run(async {
        let (mut receiver, thread) = flood();
        let (fd, theirs) = pair();
        let progress = create_task(async move {
            for _ in 0..10 {
                sleep(ms(1)).await;
                write(&theirs, b"x").unwrap();
                assert_eq!(op::submit(recv(&fd, 1)).await.unwrap(), b"x");
                let home = handle();
                corio_runtime::to_thread(move || home.call_soon_threadsafe(|| ()).unwrap()).await;
            }
        });
        let receiving = create_task(async move {
            // The time-out ends a future that is never pending by itself.
            assert!(timeout(ms(5), async { while receiver.recv().await.is_some() {} }).await.is_err());
            let scoped = timeout_scope(ms(5), async |_| while receiver.recv().await.is_some() {});
            assert!(scoped.await.is_err());
            while receiver.recv().await.is_some() && !progress.done() {}
            progress.await.unwrap();
        });
        receiving.await.unwrap();
        thread.join().unwrap();
    });
}

#[test]
fn what_is_ready_beats_a_deadline_also_at_the_end_of_a_share() {
    on_every(async || {
        for share in [SHARE - 1, SHARE, SHARE + 1] {
            yield_now().await;
            let (_sender, mut receiver) = full(1000);
            for _ in 0..share {
                receiver.recv().await.unwrap();
            }
            for _ in 0..300 {
                assert!(timeout(Duration::ZERO, receiver.recv()).await.unwrap().is_some());
            }
            for _ in 0..300 {
                assert!(timeout_scope(Duration::ZERO, async |_| receiver.recv().await).await.is_ok());
            }
        }
        // Never ready, and the share is over: it ends all the same.
        let (_sender, mut receiver) = full(SHARE);
        yield_now().await;
        for _ in 0..SHARE {
            receiver.recv().await.unwrap();
        }
        assert!(timeout(Duration::ZERO, receiver.recv()).await.is_err());
    });
}

#[test]
fn other_executors_have_no_share_and_make_way() {
    let (sender, mut receiver) = full(10_000);
    let (_inner_sender, mut inner) = full(10_000);
    let all = |receiver: &mut Receiver<usize>, count: usize| {
        let mut left = count;
        let mut receiving = pin!(async {
            while left > 0 {
                receiver.recv().await.unwrap();
                left -= 1;
            }
        });
        futures::executor::block_on(receiving.as_mut());
    };
    // Inside a step, where nobody could renew its share; then without a loop, where the step's is not to be found.
    run(async move {
        all(&mut inner, 5000);
        corio_runtime::call_soon(move || all(&mut inner, 5000));
        turns(2).await;
    });
    let mut polls = 0;
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    while receiver.poll_recv(&mut context) != Poll::Ready(Some(4999)) {
        polls += 1;
    }
    assert_eq!(polls, 4999, "none is refused");
    drop(sender);
}

#[test]
fn a_loop_that_a_step_drives_leaves_the_step_its_share() {
    let mut inner = Runner::new().unwrap();
    run(async move {
        let (_sender, mut receiver) = full(1000);
        let taken = Taken::default();
        let received = taken.clone();
        let most = taken.watch(async move {
            for _ in 0..400 {
                receiver.recv().await.unwrap();
                received.add(1);
                drop(inner.enter(|| create_task(async {})));
                inner.turn(Some(Duration::ZERO)).unwrap();
            }
        });
        assert_eq!(most.await, SHARE);
    });
}

#[test]
fn a_flood_of_calls_from_other_threads_leaves_the_loop_its_turns() {
    on_every(async || {
        let home = handle();
        let called = Arc::new(AtomicBool::new(false));
        for n in 0..2000 {
            let called = called.clone();
            home.call_soon_threadsafe(move || called.store(n == 1999, Ordering::SeqCst)).unwrap();
        }
        let mut turns = 0;
        while !called.load(Ordering::SeqCst) {
            yield_now().await;
            turns += 1;
        }
        assert!(turns >= 2000 / 256, "all of them in {turns} turns");
    });
    // Each call makes the next two, so there are ever more.
    run(async {
        fn more(home: corio_runtime::Handle, ends: Arc<AtomicBool>) {
            if !ends.load(Ordering::SeqCst) {
                for _ in 0..2 {
                    let ends = ends.clone();
                    let _ = home.call_soon_threadsafe(move || more(home, ends));
                }
            }
        }
        let ends = Arc::new(AtomicBool::new(false));
        more(handle(), ends.clone());
        for _ in 0..10 {
            sleep(ms(1)).await;
        }
        ends.store(true, Ordering::SeqCst);
    });
}

#[test]
fn an_interval_that_is_behind_takes_a_turn_for_each_tick() {
    on_every(async || {
        let taken = Taken::default();
        let ticked = taken.clone();
        let mut ticks = interval(Duration::from_micros(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        sleep(ms(2)).await;
        let most = taken.watch(async move {
            for _ in 0..1000 {
                ticks.tick().await;
                ticked.add(1);
            }
        });
        assert!(most.await <= 2);
    });
}

#[test]
fn a_step_takes_its_share_of_signals() {
    run(async {
        let mut listeners: Vec<_> =
            (0..SHARE + 22).map(|_| signal(SignalKind::USER_DEFINED2).unwrap()).collect();
        raise(Signal::SIGUSR2).unwrap();
        // By now each has its own.
        turns(10).await;
        sleep(ms(5)).await;
        let taken = Taken::default();
        let received = taken.clone();
        let most = taken.watch(async move {
            for listener in &mut listeners {
                listener.recv().await;
                received.add(1);
            }
        });
        assert_eq!((most.await, taken.all.get()), (SHARE, SHARE + 22));
    });
}
