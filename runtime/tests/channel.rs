//! The channel between threads: order, bounds, ends, fairness, and no lost wake-up.

mod common;

use std::{
    cell::Cell,
    collections::VecDeque,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    thread,
};

use common::{CountWakes, poll_once, poll_with, turns, until};
use corio_runtime::{
    ConcurrentError, Core, Cores, Handle, Runner,
    channel::{SendError, TryRecvError, TrySendError, channel},
    create_task, gather, handle, run, run_coroutine_threadsafe, run_per_core,
    time::{Duration, sleep, timeout},
    yield_now,
};
use futures_core::Stream;

#[test]
fn messages_arrive_in_order_and_never_more_than_the_capacity_wait() {
    run(async {
        let (sender, mut receiver) = channel(3);
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        for n in 0..3 {
            sender.try_send(n).unwrap();
        }
        assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
        // Taken as one batch, but read one by one: each makes room for one.
        assert_eq!(receiver.recv().await, Some(0));
        sender.try_send(3).unwrap();
        assert_eq!(sender.try_send(4), Err(TrySendError::Full(4)));
        let mut rest = Vec::new();
        assert_eq!(receiver.recv_many(&mut rest, 1).await, 1);
        assert_eq!(receiver.recv_many(&mut rest, 10).await, 1);
        assert_eq!(receiver.recv_many(&mut rest, 10).await, 1);
        assert_eq!(rest, [1, 2, 3]);
        sender.try_send(4).unwrap();
        drop(sender);
        assert_eq!((receiver.recv().await, receiver.recv().await), (Some(4), None));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
        assert_eq!(receiver.recv_many(&mut rest, 10).await, 0);
    });
}

#[test]
fn send_all_waits_for_room_and_keeps_what_it_did_not_send() {
    run(async {
        let (sender, mut receiver) = channel(4);
        let mut values: VecDeque<u32> = (0..10).collect();
        assert!(timeout(Duration::from_millis(1), sender.send_all(&mut values)).await.is_err());
        assert_eq!(values, [4, 5, 6, 7, 8, 9]);
        let receiving = create_task(async move {
            let mut all = Vec::new();
            while let Some(n) = receiver.recv().await {
                all.push(n);
                if n == 8 {
                    receiver.close();
                }
            }
            all
        });
        sender.send_all(&mut values).await.unwrap();
        assert!(values.is_empty());
        assert_eq!(receiving.await.unwrap(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        sender.send(10).await.unwrap_err();
        let mut refused = VecDeque::from([1, 2]);
        assert_eq!(sender.send_all(&mut refused).await, Err(SendError(())));
        assert_eq!(refused, [1, 2]);
    });
}

#[test]
fn those_who_wait_for_room_are_served_in_order_and_a_newcomer_waits_behind_them() {
    run(async {
        let (sender, mut receiver) = channel(1);
        sender.try_send(0).unwrap();
        let senders: Vec<_> = (1..=5)
            .map(|n| {
                let sender = sender.clone();
                create_task(async move { sender.send(n).await })
            })
            .collect();
        turns(2).await;
        // Room, but it is the first one's: it was told, and has not run yet.
        assert_eq!(receiver.try_recv(), Ok(0));
        assert_eq!(sender.try_send(9), Err(TrySendError::Full(9)));
        for n in 1..=5 {
            assert_eq!(receiver.recv().await, Some(n));
        }
        assert!(gather(senders).await.into_iter().all(|sent| sent.unwrap().is_ok()));
        sender.try_send(9).unwrap();
    });
}

#[test]
fn a_cancelled_sender_passes_its_room_on_and_its_message_is_not_sent() {
    let (sender, mut receiver) = channel(1);
    sender.try_send(0).unwrap();
    let mut first = Box::pin(sender.send(1));
    let mut second = Box::pin(sender.send(2));
    let (woken_first, woken_second) = (Arc::new(CountWakes::default()), Arc::new(CountWakes::default()));
    assert!(poll_with(&mut first, &woken_first.clone().into()).is_pending());
    assert!(poll_with(&mut second, &woken_second.clone().into()).is_pending());
    assert_eq!(receiver.try_recv(), Ok(0));
    assert_eq!((woken_first.count(), woken_second.count()), (1, 0));
    drop(first);
    assert_eq!(woken_second.count(), 1);
    assert_eq!(poll_once(&mut second), Poll::Ready(Ok(())));
    assert_eq!(receiver.try_recv(), Ok(2));
    // One that only waited leaves no trace.
    sender.try_send(3).unwrap();
    let mut third = Box::pin(sender.send(4));
    assert!(poll_once(&mut third).is_pending());
    drop(third);
    assert_eq!(receiver.try_recv(), Ok(3));
    sender.try_send(5).unwrap();
}

#[test]
fn a_batch_wakes_the_receiver_once() {
    let (sender, mut receiver) = channel(100);
    let woken = Arc::new(CountWakes::default());
    let mut many = Vec::new();
    {
        let mut receiving = pin!(receiver.recv_many(&mut many, 100));
        assert!(poll_with(&mut receiving, &woken.clone().into()).is_pending());
        for n in 0..50 {
            sender.try_send(n).unwrap();
        }
        assert_eq!(woken.count(), 1);
        assert_eq!(poll_once(&mut receiving), Poll::Ready(50));
    }
    assert_eq!(many, (0..50).collect::<Vec<_>>());
}

/// Counts its drops.
struct Counted(Arc<AtomicU64>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn the_end_of_either_side_wakes_the_other_and_drops_what_is_left() {
    run(async {
        let dropped = Arc::new(AtomicU64::new(0));
        let (sender, mut receiver) = channel::<u32>(2);
        let receiving = create_task(async move { (receiver.recv().await.is_none(), receiver) });
        turns(2).await;
        let clone = sender.clone();
        drop(sender);
        turns(2).await;
        assert!(!receiving.done());
        drop(clone);
        let (ended, receiver) = receiving.await.unwrap();
        assert!(ended);
        drop(receiver);
        let (sender, receiver) = channel(1);
        sender.send(Counted(dropped.clone())).await.unwrap();
        let blocked = sender.clone();
        let value = Counted(dropped.clone());
        let sending = create_task(async move { blocked.send(value).await.is_err() });
        turns(2).await;
        assert!(!sender.is_closed());
        drop(receiver);
        assert!(sending.await.unwrap() && sender.is_closed());
        assert_eq!(dropped.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn it_is_a_stream_and_works_under_any_executor() {
    let (sender, receiver) = channel(2);
    let sending = thread::spawn(move || {
        futures::executor::block_on(async {
            for n in 0..1000 {
                sender.send(n).await.unwrap();
            }
        })
    });
    let mut receiver = pin!(receiver);
    let sum: u32 = futures::executor::block_on(async {
        let mut sum = 0;
        while let Some(n) = std::future::poll_fn(|cx| receiver.as_mut().poll_next(cx)).await {
            sum += n;
        }
        sum
    });
    sending.join().unwrap();
    assert_eq!(sum, 499_500);
}

#[test]
fn ends_and_futures_are_send() {
    fn send<T: Send>(_: &T) {}
    let (sender, mut receiver) = channel::<Cell<u32>>(1);
    send(&sender);
    send(&sender.send(Cell::new(1)));
    send(&receiver);
    send(&receiver.recv());
    assert!(std::panic::catch_unwind(|| channel::<u32>(0)).is_err());
}

/// Every core sends to every core, and sums up what it gets; the sum of all.
fn all_to_all(cores: usize, per_pair: u64, capacity: usize) -> u64 {
    let sums = run_per_core(Cores::Count(cores), move |core: Core| async move {
        if core.index() > 0 {
            return 0;
        }
        let (mut senders, mut receiving) = (Vec::new(), Vec::new());
        for index in 0..core.count() {
            let (sender, mut receiver) = channel::<u64>(capacity);
            senders.push(sender);
            receiving.push(run_coroutine_threadsafe(&core.handle(index), move || async move {
                let (mut sum, mut batch) = (0, Vec::new());
                while receiver.recv_many(&mut batch, 1000).await > 0 {
                    sum += batch.drain(..).sum::<u64>();
                }
                sum
            }));
        }
        let sending: Vec<_> = (0..core.count())
            .map(|index| {
                let senders = senders.clone();
                run_coroutine_threadsafe(&core.handle(index), move || async move {
                    let batch = 100.min(per_pair);
                    for first in (0..per_pair).step_by(batch as usize) {
                        for sender in &senders {
                            let mut values: VecDeque<u64> = (first..(first + batch).min(per_pair)).collect();
                            sender.send_all(&mut values).await.unwrap();
                        }
                    }
                })
            })
            .collect();
        drop(senders);
        assert!(gather(sending).await.into_iter().all(|sent| sent.is_ok()));
        gather(receiving).await.into_iter().map(Result::unwrap).sum::<u64>()
    });
    sums[0]
}

#[test]
fn f2_soak_ten_million_messages_among_cores_arrive_once() {
    for (cores, per_pair, capacity) in [(2, 2_400_000, 1024), (3, 40_000, 7), (2, 20_000, 1)] {
        let pairs = (cores * cores) as u64;
        assert_eq!(all_to_all(cores, per_pair, capacity), pairs * (per_pair * (per_pair - 1) / 2));
    }
}

/// Loops that start, are called from other threads all the time, and close: each call has one answer.
#[test]
fn f5_soak_a_million_calls_to_cores_that_start_and_stop_are_each_answered_once() {
    const CALLS: u64 = 1_000_000;
    let (asked, answered, ran) = (AtomicU64::new(0), AtomicU64::new(0), Arc::new(AtomicU64::new(0)));
    let current = std::sync::Mutex::new(None);
    thread::scope(|scope| {
        let loops = scope.spawn(|| {
            while asked.load(Ordering::SeqCst) < CALLS {
                let before = ran.load(Ordering::SeqCst);
                run(async {
                    *current.lock().unwrap() = Some(handle());
                    sleep(Duration::from_millis(20)).await;
                    // However slow the machine is, some calls find it open.
                    until(|| ran.load(Ordering::SeqCst) > before || asked.load(Ordering::SeqCst) >= CALLS)
                        .await;
                });
            }
        });
        let caller = || {
            let mut runner = Runner::new().unwrap();
            runner.run(async {
                while asked.load(Ordering::SeqCst) < CALLS {
                    let open = current.lock().unwrap().filter(|there: &Handle| !there.is_closed());
                    let Some(there) = open else {
                        yield_now().await;
                        continue;
                    };
                    asked.fetch_add(500, Ordering::SeqCst);
                    let calls = (0..500).map(|_| {
                        let ran = ran.clone();
                        run_coroutine_threadsafe(
                            &there,
                            move || async move { ran.fetch_add(1, Ordering::SeqCst) },
                        )
                    });
                    for answer in gather(calls).await {
                        match answer {
                            Ok(_) => answered.fetch_add(1, Ordering::SeqCst),
                            Err(ConcurrentError::LoopClosed | ConcurrentError::Cancelled) => {
                                answered.fetch_add(1, Ordering::SeqCst)
                            }
                            Err(e) => panic!("{e}"),
                        };
                    }
                }
            });
        };
        let callers = [scope.spawn(caller), scope.spawn(caller)];
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        loops.join().unwrap();
    });
    assert_eq!(asked.load(Ordering::SeqCst), answered.load(Ordering::SeqCst));
    assert!(ran.load(Ordering::SeqCst) <= answered.load(Ordering::SeqCst));
    assert!(ran.load(Ordering::SeqCst) > 0);
}
