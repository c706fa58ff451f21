//! Loops and threads: wakers, handles and calls from other threads, before, during and after a loop's life.

mod common;

use std::{
    cell::Cell,
    future::{Ready, pending, poll_fn, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    task::{Poll, Waker},
    thread,
};

use common::{Nop, poll_once, poll_with, reports};
use corio_runtime::{
    CallHandle, ConcurrentError, Handle, LoopClosed, PanicPayload, Runner, Task, TaskError, TaskInfo,
    call_at, call_later, call_soon, create_task, current_task, handle, metrics,
    op::{Op, submit},
    run, run_coroutine_threadsafe,
    signals::{SignalKind, add_signal_handler},
    time::{Duration, Sleep, Timeout, now, sleep, timeout},
    to_thread, yield_now,
};

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

#[test]
fn handles_are_plain_data_whatever_they_stand_for() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<Task<Rc<()>>>();
    send::<Op<Nop>>();
    send::<Op<common::Recv>>();
    send::<Sleep>();
    sync::<Sleep>();
    send::<Handle>();
    sync::<Handle>();
    send::<Timeout<Ready<()>>>();
    sync::<Timeout<Ready<()>>>();
    send::<Timeout<Task<Rc<()>>>>();
    send::<CallHandle>();
    send::<corio_runtime::TimerHandle>();
    send::<TaskError>();
    sync::<TaskError>();
    send::<PanicPayload>();
    sync::<PanicPayload>();
    send::<TaskInfo>();
    sync::<TaskInfo>();
    send::<LoopClosed>();
}

/// A waker of a task of the running loop that never ends.
async fn some_waker() -> Waker {
    let (tx, rx) = mpsc::channel();
    drop(create_task(poll_fn(move |cx| {
        tx.send(cx.waker().clone()).unwrap();
        Poll::<()>::Pending
    })));
    yield_now().await;
    rx.try_recv().unwrap()
}

#[test]
fn f1_a_million_wakes_from_each_of_sixteen_threads_are_not_lost() {
    const THREADS: usize = 16;
    const WAKES: usize = 1_000_000;
    let total = Arc::new(AtomicUsize::new(0));
    run(async {
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let threads: Vec<_> = (0..THREADS)
            .map(|seed| {
                let (total, waker) = (total.clone(), waker.clone());
                thread::spawn(move || {
                    let mut random = 0x9e37_79b9u32.wrapping_mul(seed as u32 + 1);
                    for _ in 0..WAKES {
                        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        total.fetch_add(1, Ordering::SeqCst);
                        waker.wake_by_ref();
                        // Lets the loop get to sleep, at another point each time.
                        match random >> 24 {
                            0..=2 => thread::yield_now(),
                            3 => (0..random % 2000).for_each(|_| std::hint::spin_loop()),
                            _ => {}
                        }
                    }
                })
            })
            .collect();
        let mut polls = 0u64;
        poll_fn(|_| {
            polls += 1;
            if total.load(Ordering::SeqCst) == THREADS * WAKES { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        assert!(polls > 1);
        threads.into_iter().for_each(|t| t.join().unwrap());
    });
}

#[test]
fn f1_a_ping_pong_with_a_sleeping_loop_never_stalls() {
    run(async {
        let place = Arc::new(Mutex::new((0u32, None::<Waker>)));
        let theirs = place.clone();
        let thread = thread::spawn(move || {
            for n in 1..=20_000 {
                let waker = loop {
                    // Waits until the loop has taken the number before.
                    let mut place = theirs.lock().unwrap();
                    if let Some(waker) = place.1.take() {
                        place.0 = n;
                        break waker;
                    }
                    drop(place);
                    thread::yield_now();
                };
                waker.wake();
            }
        });
        for n in 1..=20_000 {
            poll_fn(|cx| {
                let mut place = place.lock().unwrap();
                if place.0 == n {
                    return Poll::Ready(());
                }
                place.1 = Some(cx.waker().clone());
                Poll::Pending
            })
            .await;
        }
        thread.join().unwrap();
    });
}

#[test]
fn f2_waking_under_a_mutex_that_the_task_takes_never_blocks() {
    const WAKES: usize = 200_000;
    run(async {
        let count = Arc::new(Mutex::new(0));
        let theirs = count.clone();
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let thread = thread::spawn(move || {
            for _ in 0..WAKES {
                let mut count = theirs.lock().unwrap();
                *count += 1;
                waker.wake_by_ref();
            }
        });
        poll_fn(|_| if *count.lock().unwrap() == WAKES { Poll::Ready(()) } else { Poll::Pending }).await;
        thread.join().unwrap();
    });
}

#[test]
fn f3_wakers_outlive_their_loop_on_other_threads() {
    let wakers = Arc::new(Mutex::new(Vec::<Waker>::new()));
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (wakers, stop) = (wakers.clone(), stop.clone());
            thread::spawn(move || {
                let mut kept = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    kept.extend(wakers.lock().unwrap().iter().rev().take(20).cloned());
                    kept.iter().for_each(Waker::wake_by_ref);
                    kept.drain(..kept.len() / 2).for_each(Waker::wake);
                    thread::yield_now();
                }
                kept
            })
        })
        .collect();
    for _ in 0..200 {
        run(async {
            for _ in 0..5 {
                let waker = some_waker().await;
                wakers.lock().unwrap().push(waker);
            }
            sleep(Duration::from_micros(100)).await;
        });
    }
    stop.store(true, Ordering::SeqCst);
    let kept: Vec<Waker> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    let waker = wakers.lock().unwrap()[0].clone();
    (0..70_000).for_each(|_| std::mem::forget(waker.clone()));
    kept.into_iter().for_each(Waker::wake);
    wakers.lock().unwrap().drain(..).for_each(Waker::wake);
}

#[test]
fn f3_a_waker_wakes_its_loop_before_it_first_runs_and_between_runs() {
    let mut runner = Runner::new().unwrap();
    let waker = runner.run(some_waker());
    let other = waker.clone();
    thread::spawn(move || other.wake()).join().unwrap();
    waker.wake();
    assert_eq!(runner.run(async { 1 }), 1);
}

#[test]
fn f3_a_task_dropped_on_another_thread_is_released_at_home() {
    struct Home(thread::ThreadId, Rc<Cell<u32>>);
    impl Drop for Home {
        fn drop(&mut self) {
            assert_eq!(thread::current().id(), self.0);
            self.1.set(self.1.get() + 1);
        }
    }
    run(async {
        let drops = Rc::new(Cell::new(0));
        let home = || Home(thread::current().id(), drops.clone());
        let value = home();
        let done = create_task(async move { value });
        let held = home();
        let running = create_task(async move { drop((held, pending::<()>().await)) });
        yield_now().await;
        thread::spawn(move || {
            running.cancel();
            drop((done, running));
        })
        .join()
        .unwrap();
        assert_eq!(drops.get(), 0);
        while drops.get() < 2 {
            yield_now().await;
        }
        assert_eq!(metrics().tasks, 1);
    });
}

#[test]
fn f3_a_sleep_and_an_operation_dropped_elsewhere_are_released_at_home() {
    run(async {
        let (fd, _peer) = common::pair();
        let mut op = submit(common::recv(&fd, 8));
        let mut sleeper = sleep(LONG);
        let timer = call_later(LONG, || unreachable!());
        assert!(poll_once(&mut op).is_pending() && poll_once(&mut sleeper).is_pending());
        yield_now().await;
        assert_eq!((metrics().operations, metrics().timers), (1, 2));
        thread::spawn(move || {
            timer.cancel();
            drop((op, sleeper));
        })
        .join()
        .unwrap();
        while metrics().operations > 0 || metrics().timers > 0 {
            yield_now().await;
        }
    });
}

#[test]
fn f4_task_08_a_task_awaited_elsewhere_says_so() {
    let (tx, rx) = mpsc::channel::<Task<Rc<()>>>();
    let (alive, ended) = mpsc::channel::<()>();
    let home = thread::spawn(move || {
        run(async move {
            for _ in 0..3 {
                tx.send(create_task(async { Rc::new(()) })).unwrap();
            }
            while let Err(mpsc::TryRecvError::Empty) = ended.try_recv() {
                yield_now().await;
            }
        });
    });
    let (mut first, second, third) = (rx.recv().unwrap(), rx.recv().unwrap(), rx.recv().unwrap());
    // On no loop, and on another; the text is asyncio's.
    assert!(matches!(poll_once(&mut first), Poll::Ready(Err(TaskError::WrongLoop))));
    run(async move {
        let error = second.await.unwrap_err();
        assert!(matches!(error, TaskError::WrongLoop));
        assert!(error.to_string().contains("attached to a different loop"));
    });
    assert!(!third.done() && !third.cancelled());
    drop(alive);
    home.join().unwrap();
    // And after its loop has ended.
    assert!(third.done());
    run(async move { assert!(matches!(third.await, Err(TaskError::WrongLoop))) });
}

#[test]
fn f4_a_sleep_or_operation_used_elsewhere_panics_with_the_reason() {
    let (mut sleeper, mut op) = run(async {
        let mut sleeper = sleep(LONG);
        assert!(poll_once(&mut sleeper).is_pending());
        (sleeper, submit(Nop))
    });
    run(async move {
        let sleeping = create_task(async move { poll_with(&mut sleeper, Waker::noop()).is_ready() });
        let operating = create_task(async move { poll_with(&mut op, Waker::noop()).is_ready() });
        for task in [sleeping, operating] {
            let Err(TaskError::Panicked(panic)) = task.await else { panic!("it did not panic") };
            assert!(panic.message().contains("attached to a different loop"), "{}", panic.message());
        }
    });
}

#[test]
fn f4_cancel_reaches_a_task_from_another_thread() {
    run(async {
        let task = create_task(pending::<()>());
        let (tx, rx) = mpsc::channel();
        let thread = thread::spawn(move || {
            assert!(task.cancel());
            tx.send(task).unwrap();
        });
        thread.join().unwrap();
        let task = rx.recv().unwrap();
        assert!(matches!(timeout(LONG, task).await.unwrap(), Err(TaskError::Cancelled)));
    });
}

/// Tells of its end: called, or dropped without.
struct Ticket<'a>(&'a Counts, bool);

struct Counts {
    called: AtomicUsize,
    dropped: AtomicUsize,
}

impl Ticket<'_> {
    fn call(mut self) {
        self.1 = true;
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let count = if self.1 { &self.0.called } else { &self.0.dropped };
        count.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn f5_calls_that_race_with_the_end_of_loops_are_run_or_dropped() {
    const LOOPS: usize = 300;
    static COUNTS: Counts = Counts { called: AtomicUsize::new(0), dropped: AtomicUsize::new(0) };
    let counts = &COUNTS;
    let handles = Arc::new(Mutex::new(Vec::<Handle>::new()));
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (handles, stop) = (handles.clone(), stop.clone());
            thread::spawn(move || {
                let (mut taken, mut refused) = (0, 0);
                while !stop.load(Ordering::SeqCst) {
                    let Some(handle) = handles.lock().unwrap().last().copied() else { continue };
                    for _ in 0..20 {
                        let ticket = Ticket(counts, false);
                        match handle.call_soon_threadsafe(move || ticket.call()) {
                            Ok(()) => taken += 1,
                            Err(LoopClosed) => refused += 1,
                        }
                    }
                    thread::yield_now();
                }
                (taken, refused)
            })
        })
        .collect();
    for n in 0..LOOPS {
        let mut runner = Runner::new().unwrap();
        handles.lock().unwrap().push(runner.handle());
        runner.run(sleep(Duration::from_micros(n as u64 % 7 * 50)));
        runner.close();
    }
    stop.store(true, Ordering::SeqCst);
    let (mut taken, mut refused) = (0, 0);
    for thread in threads {
        let (t, r) = thread.join().unwrap();
        taken += t;
        refused += r;
    }
    // A stale call in the inbox of a later loop, perhaps another test's, is dropped by that in its next turn.
    let ended = || (counts.called.load(Ordering::SeqCst), counts.dropped.load(Ordering::SeqCst));
    for _ in 0..10_000 {
        if ended().0 + ended().1 == taken + refused {
            break;
        }
        thread::sleep(MS);
    }
    let (called, dropped) = ended();
    assert_eq!(called + dropped, taken + refused, "every closure came to an end");
    assert!(called <= taken && dropped >= refused, "a refused call is not run");
    assert!(called > 0 && taken > 0);
}

#[test]
fn loop_14_calls_from_a_thread_wake_a_sleeping_loop_in_order() {
    run(async {
        let handle = handle();
        let (tx, rx) = mpsc::channel();
        let woken = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let thread = thread::spawn(move || {
            thread::sleep(10 * MS);
            for word in ["hello", "world"] {
                let (tx, waker) = (tx.clone(), woken.clone());
                let call = move || {
                    tx.send(word).unwrap();
                    waker.wake();
                };
                handle.call_soon_threadsafe(call).unwrap();
            }
        });
        let mut words = Vec::new();
        poll_fn(|_| {
            words.extend(rx.try_iter());
            if words.len() == 2 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        assert_eq!(words, ["hello", "world"]);
        thread.join().unwrap();
    });
}

#[test]
fn loop_15_calls_from_the_same_thread_keep_their_order_too() {
    run(async {
        let (tx, rx) = mpsc::channel();
        for n in 0..10 {
            let tx = tx.clone();
            handle().call_soon_threadsafe(move || tx.send(n).unwrap()).unwrap();
        }
        let mut seen = Vec::new();
        while seen.len() < 10 {
            yield_now().await;
            seen.extend(rx.try_iter());
        }
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
    });
}

#[test]
fn loop_27_after_the_end_every_way_to_give_the_loop_work_is_refused() {
    fn refused<R>(what: &str, f: impl FnOnce() -> R) {
        let panicked = catch_unwind(AssertUnwindSafe(f)).err();
        let payload = panicked.unwrap_or_else(|| panic!("{what} was taken"));
        let text = payload.downcast_ref::<&str>().copied().unwrap_or_default();
        assert!(text.contains("no running event loop"), "{what}: {text}");
    }
    let called = Arc::new(AtomicUsize::new(0));
    let count = || {
        let called = called.clone();
        move || {
            called.fetch_add(1, Ordering::SeqCst);
        }
    };
    let (old, at) = run(async { (handle(), now()) });
    refused("call_soon", || call_soon(count()));
    refused("call_later", || call_later(Duration::ZERO, count()));
    refused("call_at", || call_at(at, count()));
    refused("create_task", || drop(create_task(async {})));
    refused("add_signal_handler", || add_signal_handler(SignalKind::USER_DEFINED1, count()));
    refused("to_thread", || poll_once(&mut Box::pin(to_thread(count()))));
    assert_eq!(old.call_soon_threadsafe(count()), Err(LoopClosed));
    assert_eq!(old.stop(), Err(LoopClosed));
    let mut answer = run_coroutine_threadsafe(&old, || async {});
    assert!(matches!(answer.result(None), Err(ConcurrentError::LoopClosed)));
    // Nothing of it is for the next loop either.
    run(async { sleep(Duration::from_millis(2)).await });
    assert_eq!(called.load(Ordering::SeqCst), 0);
}

#[test]
fn loop_27_a_closed_loop_takes_no_calls_and_the_next_on_its_index_does_not_see_them() {
    let old = run(async { handle() });
    for _ in 0..50 {
        run(async {
            assert!(!handle().is_closed() && handle().is_current());
            assert!(old.is_closed() && !old.is_current());
            assert_eq!(old.call_soon_threadsafe(|| unreachable!()), Err(LoopClosed));
            yield_now().await;
        });
    }
    assert_eq!(LoopClosed.to_string(), "event loop is closed");
}

#[test]
fn g1_a_panic_in_a_call_from_another_thread_stays_inside() {
    run(async {
        let heard = reports();
        let handle = handle();
        let call = move || handle.call_soon_threadsafe(|| panic!("from elsewhere")).unwrap();
        thread::spawn(call).join().unwrap();
        while heard.borrow().is_empty() {
            yield_now().await;
        }
        assert!(heard.borrow()[0].contains("from elsewhere"));
        assert!(current_task().is_some());
    });
}

#[test]
fn a_loop_on_each_of_eight_threads_minds_its_own_business() {
    let threads: Vec<_> = (0..8)
        .map(|n| {
            thread::spawn(move || {
                run(async move {
                    let tasks: Vec<_> = (0..100)
                        .map(|m| {
                            create_task(async move {
                                sleep(Duration::from_micros(m * 10)).await;
                                submit(Nop).await.unwrap();
                                ready(n * 1000 + m).await
                            })
                        })
                        .collect();
                    let mut sum = 0;
                    for task in tasks {
                        sum += task.await.unwrap();
                    }
                    sum
                })
            })
        })
        .collect();
    for (n, thread) in (0..).zip(threads) {
        assert_eq!(thread.join().unwrap(), n * 100_000 + 4950);
    }
}
