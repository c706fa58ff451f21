//! A loop per core: pinning, the effect of one core's end or panic on the others, and core numbers.

mod common;

use std::{
    future::{pending, ready},
    io::{self, Write},
    panic::catch_unwind,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use common::{pair, recv, until};
use corio_runtime::{
    Backend, ConcurrentError, Core, Cores, Faults, Runner, create_task, current_core, handle, metrics,
    op::submit,
    run, run_coroutine_threadsafe, run_on_cores, run_per_core,
    time::{Duration, sleep, timeout},
    with_cleanup, yield_now,
};
use nix::{
    sched::{CpuSet, sched_getaffinity},
    unistd::Pid,
};

fn mask() -> Vec<usize> {
    let mask = sched_getaffinity(Pid::from_raw(0)).unwrap();
    (0..CpuSet::count()).filter(|core| mask.is_set(*core).unwrap()).collect()
}

#[test]
fn every_core_has_a_pinned_loop_of_its_own_and_the_caller_its_mask_back() {
    let before = mask();
    let cores = run_per_core(Cores::All, |core: Core| async move {
        assert_eq!(mask(), [core.id()]);
        assert_eq!(core.handle(core.index()), handle());
        let current = current_core().unwrap();
        assert_eq!((current.id(), current.index()), (core.id(), core.index()));
        if core.index() > 0 {
            assert_eq!(thread::current().name().unwrap(), format!("corio-{}", core.index()));
        }
        (core.index(), core.id(), thread::current().id())
    });
    let indexes: Vec<_> = cores.iter().map(|core| core.0).collect();
    let ids: Vec<_> = cores.iter().map(|core| core.1).collect();
    assert_eq!((indexes, ids), ((0..before.len()).collect(), before.clone()));
    let mut threads: Vec<_> = cores.iter().map(|core| format!("{:?}", core.2)).collect();
    threads.sort();
    threads.dedup();
    assert_eq!(threads.len(), before.len());
    assert_eq!(cores[0].2, thread::current().id());
    assert_eq!(mask(), before);
    assert!(current_core().is_none());
}

#[test]
fn a_loop_whose_settings_are_refused_leaves_its_thread_where_it_was() {
    thread::spawn(|| {
        let pinned = || Runner::builder().pin(mask()[0]);
        let before = mask();
        for refused in [
            pinned().entries(0),
            pinned().buffers(3, 4096),
            pinned().backend(Backend::Sim { seed: 1 }).faults(Faults::default().fail_nth(0, 1)),
        ] {
            assert_eq!(refused.build().unwrap_err().kind(), io::ErrorKind::InvalidInput);
            assert_eq!(mask(), before);
        }
    })
    .join()
    .unwrap();
}

#[test]
fn the_mask_is_that_of_the_process_also_on_a_pinned_thread() {
    let all = run_per_core(Cores::All, |core| async move { core.count() })[0];
    let again = thread::spawn(move || {
        let _pinned = Runner::builder().pin(mask()[0]).build().unwrap();
        run_per_core(Cores::All, |core| async move { core.count() })[0]
    });
    assert_eq!(again.join().unwrap(), all);
}

#[test]
fn more_loops_than_cores_share_them() {
    let count = 2 * mask().len() + 1;
    let ids = run_per_core(Cores::Count(count), |core| async move { core.id() });
    assert_eq!(ids, mask().into_iter().cycle().take(count).collect::<Vec<_>>());
}

#[test]
fn thr_a_core_whose_main_is_over_answers_until_all_are() {
    let answers = run_per_core(Cores::Count(3), |core: Core| async move {
        if core.index() > 0 {
            return 0;
        }
        sleep(Duration::from_millis(20)).await;
        let mut sum = 0;
        for other in 1..3 {
            let there = run_coroutine_threadsafe(&core.handle(other), || async {
                yield_now().await;
                current_core().unwrap().index()
            });
            sum += there.await.unwrap();
        }
        sum
    });
    assert_eq!(answers, [3, 0, 0]);
}

#[test]
fn thr_calls_to_loops_that_close_together_are_all_answered() {
    for _ in 0..20 {
        let answered = Arc::new(AtomicUsize::new(0));
        let counted = answered.clone();
        run_per_core(Cores::Count(3), move |core: Core| {
            let answered = counted.clone();
            async move {
                // Left behind: the end of the loops cuts into it.
                for n in 0..100 {
                    let other = core.handle((core.index() + 1 + n % 2) % 3);
                    let answered = answered.clone();
                    drop(create_task(async move {
                        let asked = run_coroutine_threadsafe(&other, || async {
                            sleep(Duration::from_micros(50)).await
                        });
                        let count = CountOnDrop(answered);
                        match asked.await {
                            Ok(()) | Err(ConcurrentError::LoopClosed | ConcurrentError::Cancelled) => {
                                drop(count)
                            }
                            Err(e) => panic!("{e}"),
                        }
                    }));
                }
                sleep(Duration::from_micros(100 * core.index() as u64)).await;
            }
        });
        assert_eq!(answered.load(Ordering::SeqCst), 300);
    }
}

struct CountOnDrop(Arc<AtomicUsize>);

impl Drop for CountOnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Runs two cores, one of which panics; what the panic said.
fn panic_on(index: usize, at_once: bool) -> String {
    let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = ended.clone();
    let caught = catch_unwind(|| {
        run_per_core(Cores::Count(3), move |core: Core| {
            assert!(!(at_once && core.index() == index), "core {index} panics at once");
            let (begun, ended) = (begun.clone(), counted.clone());
            async move {
                if core.index() == index {
                    until(|| begun.load(Ordering::SeqCst) == 2).await;
                    panic!("core {index} panics");
                }
                begun.fetch_add(1, Ordering::SeqCst);
                let _count = CountOnDrop(ended.clone());
                // Cleanups are awaited although the core is cancelled.
                let cleanup = || async move {
                    sleep(Duration::from_millis(2)).await;
                    drop(CountOnDrop(ended));
                };
                with_cleanup(pending::<()>(), cleanup).await;
            }
        })
    });
    // With a panic at once the others may not have begun.
    let ended = ended.load(Ordering::SeqCst);
    assert!(ended == 4 || at_once, "{ended}: both others were cancelled, and have cleaned up");
    let payload = caught.unwrap_err();
    payload.downcast_ref::<String>().cloned().unwrap()
}

#[test]
fn a_panic_on_one_core_ends_the_others_in_order_and_goes_on_in_the_caller() {
    for index in 0..3 {
        assert_eq!(panic_on(index, false), format!("core {index} panics"));
        assert_eq!(panic_on(index, true), format!("core {index} panics at once"));
    }
}

#[test]
fn loops_that_cannot_be_started_say_why_and_run_nothing() {
    let refused = |cores: Cores| {
        let caught = catch_unwind(|| run_per_core(cores, |_| async { panic!("it must not run") }));
        caught.unwrap_err().downcast_ref::<String>().cloned().unwrap()
    };
    assert!(refused(Cores::Count(0)).contains("Count(0) names no core"));
    assert!(refused(Cores::Ids(vec![])).contains("names no core"));
    let text = refused(Cores::Ids(vec![mask()[0], 4095, mask()[0]]));
    assert!(text.contains("core 4095"), "{text}");
    let nested = catch_unwind(|| run(async { run_per_core(Cores::Count(1), |_| async {}) })).unwrap_err();
    assert!(
        nested.downcast_ref::<String>().is_some_and(|text| text.contains("running event loop"))
            || nested.downcast_ref::<&str>().is_some_and(|text| text.contains("running event loop"))
    );
}

#[test]
fn settings_hold_for_the_loop_of_every_core() {
    let buffers = Runner::builder()
        .buffers(16, 1024)
        .run_per_core(Cores::Count(2), |_| async { metrics().buffers_available });
    assert_eq!(buffers, [16, 16]);
}

#[test]
fn one_main_and_a_loop_on_every_core() {
    let value = run_on_cores(Cores::Count(3), async {
        let core = current_core().unwrap();
        assert_eq!((core.index(), core.count()), (0, 3));
        // Not `Send`: it stays on its core.
        let here = std::rc::Rc::new(7);
        let mut sum = 0;
        for index in 1..3 {
            sum += run_coroutine_threadsafe(&core.handle(index), move || async move { index }).await.unwrap();
        }
        sum + *here
    });
    assert_eq!(value, 10);
}

#[test]
fn numbers_of_a_loop_are_read_from_elsewhere_while_it_sleeps_and_while_it_is_busy() {
    let was_seen = Arc::new(AtomicBool::new(false));
    let seen = run_per_core(Cores::Count(2), move |core: Core| {
        let was_seen = was_seen.clone();
        async move {
            if core.index() == 1 {
                let _tasks = [(); 3].map(|()| create_task(pending::<()>()).cancel_on_drop());
                let _timer = corio_runtime::call_later(Duration::from_secs(3600), || ());
                let (idle, _peer) = common::pair();
                let mut read = std::pin::pin!(corio_runtime::op::submit(common::recv(&idle, 8)));
                assert!(common::poll_once(&mut read).is_pending());
                while !was_seen.load(Ordering::SeqCst) {
                    sleep(Duration::from_millis(1)).await;
                }
                return metrics();
            }
            let other = core.handle(1);
            loop {
                let seen = other.metrics();
                // Not all of them need be of the same moment.
                let counted = seen.turns > 0 && seen.ring.enters > 0 && seen.operations >= 1;
                if counted && seen.tasks == 5 && seen.timers >= 1 {
                    assert_eq!(seen.connections, 0);
                    was_seen.store(true, Ordering::SeqCst);
                    return seen;
                }
                yield_now().await;
            }
        }
    });
    let busy = run_per_core(Cores::Count(2), |core: Core| async move {
        let turns = || core.handle(1).metrics().turns;
        if core.index() == 0 {
            // It never sleeps while it is looked at.
            while turns() < 3000 {
                thread::sleep(Duration::from_millis(1));
            }
            return metrics();
        }
        let mut ended = run_coroutine_threadsafe(&core.handle(0), || std::future::ready(()));
        while ended.result(Some(Duration::ZERO)).is_err() && metrics().turns < 5_000_000 {
            yield_now().await;
        }
        metrics()
    });
    assert!(busy[1].busy > Duration::ZERO && seen[1].idle > Duration::ZERO);
}

#[test]
fn what_completes_while_a_loop_stays_awake_for_messages_is_served() {
    run_per_core(Cores::Count(2), |core: Core| async move {
        if core.index() == 1 {
            return;
        }
        let (fd, peer) = pair();
        let peer = Arc::new(peer);
        for n in 0..=255 {
            let exchange = async {
                for _ in 0..10 {
                    run_coroutine_threadsafe(&core.handle(1), || ready(())).await.unwrap();
                }
                let peer = peer.clone();
                let write = move || {
                    // The receive is armed, and its loop waits awake.
                    thread::sleep(Duration::from_micros(5));
                    (&*peer).write_all(&[n]).unwrap();
                };
                core.handle(1).call_soon_threadsafe(write).unwrap();
                assert_eq!(submit(recv(&fd, 1)).await.unwrap(), [n]);
            };
            timeout(Duration::from_secs(60), exchange).await.expect("the test hangs");
        }
    });
}

#[test]
fn a_clone_that_panics_goes_on_in_the_caller_and_leaves_no_thread_waiting() {
    /// The third clone panics.
    struct Reluctant(usize, Arc<AtomicUsize>);
    impl Clone for Reluctant {
        fn clone(&self) -> Reluctant {
            assert!(self.1.fetch_add(1, Ordering::SeqCst) < 2, "no more of these");
            Reluctant(self.0, self.1.clone())
        }
    }
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let reluctant = Reluctant(7, Arc::default());
        let run = move || {
            run_per_core(Cores::Count(3), move |_| {
                let reluctant = &reluctant;
                std::future::ready(reluctant.0)
            })
        };
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err();
        tell.send(panicked).unwrap();
    });
    assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(true));
}
