//! `to_thread` and `run_coroutine_threadsafe`, as asyncio's.

mod common;

use std::{
    cell::Cell,
    rc::Rc,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use common::{ms, on_every, reports, turns, until};
use corio_runtime::{
    Backend, ConcurrentError, Handle, Runner, TaskError, TaskLocal, create_task, gather, handle, run,
    run_coroutine_threadsafe,
    time::{sleep, timeout},
    to_thread, yield_now,
};

#[test]
fn thr_01_thr_02_values_and_panics_come_back() {
    on_every(async || {
        assert_eq!(to_thread(|| 40 + 2).await, 42);
        let task = create_task(to_thread(|| panic!("in the thread")));
        assert!(matches!(task.await, Err::<(), _>(TaskError::Panicked(p)) if p.message() == "in the thread"));
        assert_eq!(to_thread(|| 1).await, 1, "the pool goes on");
    });
}

static SPAN: TaskLocal<String> = TaskLocal::propagated();
static SECOND: TaskLocal<u32> = TaskLocal::propagated();
static STAYS: TaskLocal<u32> = TaskLocal::new();

#[test]
fn thr_05_a_propagated_value_is_visible_in_the_thread() {
    on_every(async || {
        SPAN.set("parrot".to_owned());
        assert_eq!(to_thread(|| SPAN.get()).await.as_deref(), Some("parrot"));
        // Each task has its own, as of its call.
        let tasks = ["cat", "dog"].map(|name| {
            create_task(async move {
                SPAN.set(name.to_owned());
                SECOND.set(name.len() as u32);
                let call = to_thread(|| (SPAN.with(String::clone), SECOND.get()));
                assert_eq!(call.await, (Some(name.to_owned()), Some(3)));
            })
        });
        gather(Vec::from(tasks)).await.into_iter().for_each(Result::unwrap);
        assert_eq!(to_thread(|| (SPAN.get(), SECOND.get())).await, (Some("parrot".to_owned()), None));
    });
}

#[test]
fn thr_05_the_thread_keeps_nothing_for_the_next_call_and_others_stay_at_home() {
    run(async {
        for _ in 0..3 {
            create_task(async {
                SPAN.set("parrot".to_owned());
                STAYS.set(1);
                assert_eq!(to_thread(|| (SPAN.get(), STAYS.get())).await, (Some("parrot".to_owned()), None));
                let panics = create_task(to_thread(|| {
                    assert!(SPAN.get().is_some());
                    panic!("in the thread");
                }));
                assert!(matches!(panics.await, Err::<(), _>(TaskError::Panicked(_))));
            })
            .await
            .unwrap();
            assert_eq!(to_thread(|| SPAN.get()).await, None);
        }
    });
}

/// Counts its copies that live.
static COPIES: AtomicUsize = AtomicUsize::new(0);

struct Counted;

impl Counted {
    fn new() -> Counted {
        COPIES.fetch_add(1, Ordering::SeqCst);
        Counted
    }
}

impl Clone for Counted {
    fn clone(&self) -> Counted {
        Counted::new()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        COPIES.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn thr_05_a_copy_lives_as_long_as_its_call() {
    static COUNTED: TaskLocal<Counted> = TaskLocal::propagated();
    run(async {
        COUNTED.set(Counted::new());
        assert_eq!(to_thread(|| COUNTED.with(|_| COPIES.load(Ordering::SeqCst))).await, Some(2));
        assert_eq!(COPIES.load(Ordering::SeqCst), 1, "gone when the answer is there");
        drop(to_thread(|| ()));
        assert_eq!(COPIES.load(Ordering::SeqCst), 1);
    });
    assert_eq!(COPIES.load(Ordering::SeqCst), 0);
}

#[test]
fn fut_10_thr_06_the_loop_runs_meanwhile_and_the_thread_is_another() {
    run(async {
        let here = thread::current().id();
        let (send, receive) = mpsc::channel();
        let blocked = create_task(to_thread(move || {
            receive.recv().unwrap();
            thread::current().id()
        }));
        turns(3).await;
        assert!(!blocked.done());
        send.send(()).unwrap();
        assert_ne!(blocked.await.unwrap(), here);
    });
}

#[test]
fn thr_07_a_call_that_has_begun_runs_to_its_end_though_nobody_awaits_it() {
    run(async {
        let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (send, receive) = mpsc::channel();
        let counts = (begun.clone(), ended.clone());
        let running = create_task(to_thread(move || {
            counts.0.fetch_add(1, Ordering::SeqCst);
            receive.recv().unwrap();
            counts.1.fetch_add(1, Ordering::SeqCst);
        }));
        while begun.load(Ordering::SeqCst) == 0 {
            sleep(ms(1)).await;
        }
        running.cancel();
        assert!(matches!(running.await, Err(TaskError::Cancelled)));
        assert_eq!(ended.load(Ordering::SeqCst), 0);
        send.send(()).unwrap();
        while ended.load(Ordering::SeqCst) == 0 {
            sleep(ms(1)).await;
        }
    });
}

/// Threads of a pool at most, as asyncio's default.
fn pool_size() -> usize {
    (thread::available_parallelism().unwrap().get() + 4).min(32)
}

#[test]
fn fut_11_thr_07_a_cancelled_call_that_has_not_begun_never_does() {
    run(async {
        let begun = Arc::new(AtomicUsize::new(0));
        let barrier = Arc::new(Barrier::new(pool_size() + 1));
        let busy: Vec<_> = (0..pool_size())
            .map(|_| {
                let barrier = barrier.clone();
                create_task(to_thread(move || barrier.wait().is_leader()))
            })
            .collect();
        turns(1).await;
        let count = begun.clone();
        let late = create_task(to_thread(move || count.fetch_add(1, Ordering::SeqCst)));
        turns(1).await;
        assert!(late.cancel());
        assert!(matches!(late.await, Err(TaskError::Cancelled)));
        barrier.wait();
        gather(busy).await;
        // The pool serves in order: what comes behind it has run when this has.
        to_thread(|| ()).await;
        assert_eq!(begun.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn thr_03_thr_04_each_of_ten_concurrent_calls_runs_once() {
    on_every(async || {
        let calls = Arc::new(AtomicUsize::new(0));
        let sum = gather((0..10).map(|_| {
            let calls = calls.clone();
            to_thread(move || {
                calls.fetch_add(1, Ordering::SeqCst);
                1
            })
        }));
        assert_eq!(sum.await.into_iter().sum::<u32>(), 10);
        assert_eq!(calls.load(Ordering::SeqCst), 10);
    });
}

#[test]
fn thr_07_thr_08_the_end_waits_no_longer_than_its_limit_for_a_thread() {
    let mut runner = Runner::builder().thread_join_timeout(ms(10)).build().unwrap();
    let (send, receive) = mpsc::channel::<()>();
    let (done, wait) = mpsc::channel();
    let heard = runner.run(async move {
        let heard = reports();
        let begun = Arc::new(AtomicUsize::new(0));
        let begins = begun.clone();
        drop(create_task(to_thread(move || {
            begins.store(1, Ordering::SeqCst);
            assert!(receive.recv().is_err());
            // The loop is gone: nothing is left to be told of this end.
            done.send(()).unwrap();
        })));
        until(|| begun.load(Ordering::SeqCst) == 1).await;
        heard
    });
    drop(runner);
    assert_eq!(heard.borrow().len(), 1, "{heard:?}");
    assert!(heard.borrow()[0].contains("did not end within 10ms"), "{heard:?}");
    drop(send);
    wait.recv().unwrap();
    run(async { assert_eq!(to_thread(|| 1).await, 1) });
}

#[test]
fn thr_09_the_pool_is_bounded_and_serves_in_the_end() {
    run(async {
        let most = pool_size();
        let (now, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let all_busy = Arc::new(Barrier::new(most));
        let calls = (0..5 * most).map(|n| {
            let (now, peak, all_busy) = (now.clone(), peak.clone(), all_busy.clone());
            to_thread(move || {
                peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                all_busy.wait();
                assert_eq!(thread::current().name(), Some("corio-blocking"));
                now.fetch_sub(1, Ordering::SeqCst);
                n
            })
        });
        assert_eq!(gather(calls).await, (0..5 * most).collect::<Vec<_>>());
        assert_eq!(peak.load(Ordering::SeqCst), most);
    });
}

/// A result that nobody takes, and whose destructor panics with what panics again.
struct DoubleBomb;

struct Again;

impl Drop for DoubleBomb {
    fn drop(&mut self) {
        std::panic::panic_any(Again);
    }
}

impl Drop for Again {
    fn drop(&mut self) {
        panic!("and again");
    }
}

#[test]
fn thr_09_a_destructor_that_panics_again_and_again_costs_the_pool_no_thread() {
    run(async {
        for _ in 0..pool_size() {
            let ((begun, begins), (go, goes)) = (mpsc::channel(), mpsc::channel::<()>());
            let call = create_task(to_thread(move || {
                begun.send(()).unwrap();
                goes.recv().unwrap();
                DoubleBomb
            }));
            while begins.try_recv().is_err() {
                yield_now().await;
            }
            call.cancel();
            assert!(matches!(call.await, Err(TaskError::Cancelled)));
            go.send(()).unwrap();
        }
        timeout(Duration::from_secs(20), to_thread(|| ())).await.expect("there are threads left");
    });
}

#[test]
fn run_24_the_end_of_run_waits_for_a_thread_that_needs_the_loop() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = ended.clone();
    run(async move {
        let home = handle();
        let barrier = Arc::new(Barrier::new(2));
        let theirs = barrier.clone();
        drop(create_task(to_thread(move || {
            theirs.wait();
            thread::sleep(ms(5));
            // The loop is closing, but still turns.
            home.call_soon_threadsafe(|| ()).unwrap();
            count.fetch_add(1, Ordering::SeqCst);
        })));
        turns(2).await;
        barrier.wait();
    });
    assert_eq!(ended.load(Ordering::SeqCst), 1);
}

#[test]
fn the_simulator_runs_the_call_on_the_loop_in_the_next_turn() {
    let mut runner = Runner::builder().backend(Backend::Sim { seed: 1 }).build().unwrap();
    runner.run(async {
        let here = thread::current().id();
        assert_eq!(to_thread(move || thread::current().id()).await, here);
    });
}

/// Runs `ask` on a thread while the loop turns.
async fn on_thread<T: Send + 'static>(ask: impl FnOnce(Handle) -> T + Send + 'static) -> T {
    let home = handle();
    let thread = thread::spawn(move || ask(home));
    while !thread.is_finished() {
        sleep(Duration::from_micros(100)).await;
    }
    thread.join().unwrap()
}

#[test]
fn thr_10_thr_11_thr_13_a_thread_gets_the_value_the_panic_or_the_cancel() {
    run(async {
        let sum = on_thread(|home| {
            // Not Send: it is made on the loop.
            run_coroutine_threadsafe(&home, || async { Rc::new(Cell::new(3)).get() }).result(None)
        });
        assert!(matches!(sum.await, Ok(3)));
        let failed = on_thread(|home| {
            let fail = || async { panic!("Fail!") };
            run_coroutine_threadsafe::<_, _, ()>(&home, fail).result(None)
        });
        assert!(matches!(failed.await, Err(ConcurrentError::Panicked(p)) if p.message() == "Fail!"));
        let cancelled = on_thread(|home| {
            let task = async {
                corio_runtime::current_task().unwrap().cancel();
                corio_runtime::yield_now().await;
            };
            run_coroutine_threadsafe(&home, || task).result(None)
        });
        assert!(matches!(cancelled.await, Err(ConcurrentError::Cancelled)));
    });
}

#[test]
fn thr_14_a_task_that_cannot_be_made_is_told_to_the_thread_and_to_the_handler() {
    run(async {
        let heard = reports();
        let made = on_thread(|home| {
            let make = || -> std::future::Ready<()> { panic!("in the making") };
            run_coroutine_threadsafe(&home, make).result(None)
        });
        assert!(matches!(made.await, Err(ConcurrentError::Panicked(p)) if p.message() == "in the making"));
        assert_eq!(heard.borrow().len(), 1, "{heard:?}");
        assert!(heard.borrow()[0].contains("panicked: in the making"), "{heard:?}");
    });
}

#[test]
fn fut_12_an_answer_that_is_there_is_kept_by_a_late_cancel() {
    run(async {
        let outcome = on_thread(|home| {
            let mut answer = run_coroutine_threadsafe(&home, || async { 42 });
            while !answer.done() {
                thread::yield_now();
            }
            assert!(!answer.cancel());
            answer.result(None)
        });
        assert!(matches!(outcome.await, Ok(42)));
    });
}

#[test]
fn thr_12_a_timeout_leaves_the_task_and_cancel_ends_it() {
    run(async {
        let outcome = on_thread(|home| {
            let mut pending = run_coroutine_threadsafe(&home, std::future::pending::<()>);
            assert!(matches!(pending.result(Some(Duration::ZERO)), Err(ConcurrentError::TimedOut)));
            assert!(matches!(pending.result(Some(ms(1))), Err(ConcurrentError::TimedOut)));
            assert!(!pending.done() && pending.cancel());
            let outcome = pending.result(None);
            assert!(!pending.cancel());
            outcome
        });
        assert!(matches!(outcome.await, Err(ConcurrentError::Cancelled)));
        turns(1).await;
        assert_eq!(corio_runtime::all_tasks().len(), 1);
    });
}

#[test]
fn every_submission_is_answered_while_loops_end() {
    for round in 0..200u64 {
        let (send, receive) = mpsc::channel();
        let thread = thread::spawn(move || {
            let home: Handle = receive.recv().unwrap();
            let mut outcomes = [0; 3];
            for n in 0..100 {
                let mut future = run_coroutine_threadsafe(&home, move || async move {
                    if n % 3 == 0 {
                        std::future::pending::<()>().await;
                    }
                });
                if n % 7 == 0 {
                    future.cancel();
                }
                // One that never ends is answered by the end of the loop.
                outcomes[match future.result(Some(Duration::from_secs(60))) {
                    Ok(()) => 0,
                    Err(ConcurrentError::Cancelled) => 1,
                    Err(ConcurrentError::LoopClosed) => 2,
                    Err(other) => panic!("{other}"),
                }] += 1;
            }
            outcomes
        });
        run(async {
            send.send(handle()).unwrap();
            sleep(Duration::from_micros(50 * round % 2000)).await;
        });
        assert_eq!(thread.join().unwrap().iter().sum::<u32>(), 100);
    }
}

#[test]
fn it_is_awaitable_on_another_loop_on_tokio_and_by_a_plain_executor() {
    let (send, receive) = mpsc::channel();
    let (end, wait) = mpsc::channel::<()>();
    let server = thread::spawn(move || {
        run(async move {
            send.send(handle()).unwrap();
            to_thread(move || wait.recv()).await.unwrap_err();
        });
    });
    let home: Handle = receive.recv().unwrap();
    let ask = || run_coroutine_threadsafe(&home, || async { 7 });
    assert!(matches!(run(ask()), Ok(7)));
    let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(matches!(tokio.block_on(ask()), Ok(7)));
    assert!(matches!(futures::executor::block_on(ask()), Ok(7)));
    run(async {
        let pending = run_coroutine_threadsafe(&home, std::future::pending::<()>);
        assert!(timeout(ms(1), pending).await.is_err());
    });
    drop(end);
    server.join().unwrap();
    assert!(matches!(ask().result(None), Err(ConcurrentError::LoopClosed)));
}

#[test]
fn a_loop_does_not_wait_for_itself() {
    run(async {
        let task = create_task(async {
            let mut own = run_coroutine_threadsafe(&handle(), || async {});
            own.result(None)
        });
        assert!(task.await.unwrap_err().to_string().contains("would block the loop"));
        let own = run_coroutine_threadsafe(&handle(), || async { 1 });
        assert!(matches!(own.await, Ok(1)));
    });
}
