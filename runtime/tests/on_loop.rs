//! `OnLoop` and `on_loop`: values and futures of a loop, by names that may go anywhere.

use std::{
    cell::{Cell, RefCell},
    future::{Future, pending, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use corio_runtime::{
    OnLoop, OnLoopFuture, TaskError, all_tasks, catch_cancel, create_task, current_task, gather, handle,
    on_loop,
    time::{Duration, sleep, timeout},
    with_cleanup, yield_now,
};

mod common;
use common::*;

/// What `f` says when it panics.
fn panic_in<R>(f: impl FnOnce() -> R) -> String {
    let Err(payload) = catch_unwind(AssertUnwindSafe(f)) else { panic!("it should have panicked") };
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref().cloned()).expect("a text")
}

const ELSEWHERE: &str = "attached to a different loop";

#[test]
fn names_are_copy_send_and_sync_whatever_the_value_is() {
    fn is_plain<T: Copy + std::marker::Send + Sync + Unpin + 'static>() {}
    fn is_send<T: std::marker::Send + Unpin>() {}
    is_plain::<OnLoop<Rc<Cell<u32>>>>();
    is_plain::<OnLoop<*const u8>>();
    is_send::<OnLoopFuture<Rc<Cell<u32>>>>();
}

#[test]
fn a_value_is_used_cloned_and_taken_on_its_loop() {
    on_every(async || {
        let list = OnLoop::new(RefCell::new(vec![1]));
        create_task(async move { list.with(|list| list.borrow_mut().push(2)) }).await.unwrap();
        assert_eq!(list.get().into_inner(), [1, 2]);
        assert_eq!(list.remove().unwrap().into_inner(), [1, 2]);
        assert!(list.remove().is_none());
        assert!(panic_in(|| list.with(|_| ())).contains("was removed"));
        let other = OnLoop::new(RefCell::new(vec![3]));
        assert!(list.remove().is_none(), "it takes no value that came into its place");
        assert_eq!(other.get().into_inner(), [3]);
    });
}

#[test]
fn a_value_in_use_stays() {
    on_every(async || {
        let name = OnLoop::new(String::from("Ada"));
        name.with(|text| {
            assert!(name.remove().is_none());
            assert_eq!((text.as_str(), name.get().as_str()), ("Ada", "Ada"));
        });
        assert_eq!(name.remove().as_deref(), Some("Ada"));
    });
}

#[test]
fn elsewhere_and_later_it_panics_clearly() {
    for backend in kernels() {
        let mut runner = on(backend);
        let name = runner.run(async { OnLoop::new(7) });
        assert!(panic_in(|| name.get()).contains(ELSEWHERE), "outside of any run");
        let on_a_thread = std::thread::spawn(move || panic_in(|| name.with(|n| *n)));
        assert!(on_a_thread.join().unwrap().contains(ELSEWHERE));
        on(backend).run(async {
            assert!(panic_in(|| name.get()).contains(ELSEWHERE));
            assert!(panic_in(|| name.remove()).contains(ELSEWHERE));
        });
        assert_eq!(runner.run(async { name.get() }), 7, "another run of its loop");
        runner.close();
        on(backend).run(async { assert!(panic_in(|| name.get()).contains(ELSEWHERE), "later") });
    }
}

#[test]
#[should_panic(expected = "no running event loop")]
fn a_value_needs_a_loop() {
    OnLoop::new(1);
}

#[test]
fn values_are_dropped_at_the_end_of_the_loop_after_all_tasks() {
    struct Says(Log<&'static str>, &'static str);
    impl Drop for Says {
        fn drop(&mut self) {
            assert!(handle().metrics().turns > 0, "its loop runs");
            self.0.push(self.1);
        }
    }
    for backend in kernels() {
        let log = Log::new();
        let theirs = log.clone();
        on(backend).run(async move {
            let value = OnLoop::new(Says(theirs.clone(), "value"));
            let task = Says(theirs.clone(), "task");
            create_task(with_cleanup(pending::<()>(), move || async move {
                sleep(Duration::from_millis(1)).await;
                value.with(|value| value.0.push("used by a cleanup"));
                drop(task);
            }))
            .detach();
            yield_now().await;
        });
        assert_eq!(log.get(), ["used by a cleanup", "task", "value"]);
    }
}

#[test]
fn a_destructor_at_the_end_may_start_a_cleanup_and_may_panic() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("in a destructor at the end");
        }
    }
    for backend in kernels() {
        let cleaned = Rc::new(Cell::new(false));
        let flag = cleaned.clone();
        let heard = on(backend).run(async move {
            let mut cleans = Box::pin(with_cleanup(pending::<()>(), || async move {
                yield_now().await;
                flag.set(true);
            }));
            poll_fn(|cx| {
                assert!(cleans.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            OnLoop::new(Panics);
            OnLoop::new(cleans);
            reports()
        });
        assert!(cleaned.get());
        assert!(heard.borrow().iter().any(|text| text.contains("in a destructor at the end")), "{heard:?}");
    }
}

#[test]
fn ten_thousand_values_leave_no_memory_behind() {
    on_every(async || {
        let before = handle().metrics().memory.calls_bytes;
        let names: Vec<_> = (0..100_000).map(|n| OnLoop::new(n)).collect();
        for (n, name) in names.iter().enumerate() {
            assert_eq!(name.get(), n);
        }
        names.iter().for_each(|name| assert!(name.remove().is_some()));
        until(|| corio_runtime::metrics().memory.calls_bytes <= before + (64 << 10)).await;
    });
}

#[test]
fn a_future_on_its_loop_gives_its_output_which_need_not_be_send() {
    on_every(async || {
        let shared = Rc::new(7);
        let theirs = shared.clone();
        let future = on_loop(async move {
            yield_now().await;
            theirs
        });
        assert!(Rc::ptr_eq(&future.await, &shared));
        let nested = on_loop(async { on_loop(async { 1 }).await + 1 });
        assert_eq!(gather([nested]).await, [2]);
    });
}

#[test]
fn a_drop_cancels_also_one_that_was_never_polled() {
    on_every(async || {
        let (dropped, begun) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let endless = || {
            let (guard, begun) = (OnDrop(dropped.clone()), begun.clone());
            on_loop(async move {
                begun.set(begun.get() + 1);
                let _guard = guard;
                pending::<()>().await;
            })
        };
        drop(endless());
        turns(2).await;
        assert_eq!((dropped.get(), begun.get(), all_tasks().len()), (1, 0, 1), "before its first step");
        let unpolled = endless();
        turns(2).await;
        drop(unpolled);
        turns(2).await;
        assert_eq!((dropped.get(), begun.get(), all_tasks().len()), (2, 1, 1));
        assert!(timeout(ms(1), endless()).await.is_err());
        assert_eq!((dropped.get(), begun.get(), all_tasks().len()), (3, 2, 1));
    });
}

#[test]
fn who_ends_the_caller_waits_for_the_cleanup_of_its_task() {
    on_every(async || {
        let cleaned = Rc::new(Cell::new(false));
        let flag = cleaned.clone();
        let caller = on_loop(with_cleanup(pending::<()>(), || async move {
            turns(5).await;
            flag.set(true);
        }));
        assert!(timeout(ms(1), caller).await.is_err());
        assert!(cleaned.get());
    });
}

#[test]
fn a_panic_goes_on_in_the_caller() {
    on_every(async || {
        let reports = reports();
        let caller = create_task(async {
            on_loop(async {
                yield_now().await;
                panic!("in a future on its loop")
            })
            .await
        });
        let Err(TaskError::Panicked(payload)) = caller.await else { panic!("it panicked") };
        assert_eq!(payload.message(), "in a future on its loop");
        assert!(reports.borrow().is_empty(), "{reports:?}");
    });
}

/// A future on the loop that others cancel after a few turns.
fn cancelled_by_others() -> OnLoopFuture<()> {
    on_loop(async {
        let own = current_task().unwrap();
        create_task(async move {
            turns(2).await;
            own.cancel();
        })
        .detach();
        pending().await
    })
}

#[test]
fn who_awaits_a_cancelled_one_is_cancelled_too_and_may_catch_it() {
    on_every(async || {
        let caller = create_task(cancelled_by_others());
        assert!(matches!(caller.await, Err(TaskError::Cancelled)));
        let catches = create_task(async { catch_cancel(cancelled_by_others()).await.is_err() });
        assert!(catches.await.unwrap());
    });
}

#[test]
fn a_main_future_that_awaits_a_cancelled_one_ends_its_run() {
    for backend in kernels() {
        let text = panic_in(|| on(backend).run(async { cancelled_by_others().await }));
        assert!(text.contains("the main future was cancelled"), "{text}");
        let cancelled = on(backend).try_run(async { cancelled_by_others().await });
        assert_eq!(cancelled, Err(corio_runtime::RunError::Cancelled));
    }
}

#[test]
fn a_cancel_of_the_caller_goes_through_it() {
    on_every(async || {
        let caller = create_task(on_loop(async {
            let caught = catch_cancel(pending::<()>()).await.is_err();
            yield_now().await;
            caught
        }));
        turns(3).await;
        caller.cancel();
        assert!(caller.await.unwrap(), "the inner one catches it, and the caller goes on with its value");
    });
}

#[test]
fn away_from_its_loop_it_panics_clearly() {
    for backend in kernels() {
        let runner = on(backend);
        let mut future = runner.enter(|| on_loop(pending::<()>()));
        let poll = |future: &mut OnLoopFuture<()>| {
            Pin::new(future).poll(&mut Context::from_waker(Waker::noop())).is_pending()
        };
        assert!(panic_in(|| poll(&mut future)).contains(ELSEWHERE), "outside of any run");
        let mut second = runner.enter(|| on_loop(pending::<()>()));
        on(backend).run(async { assert!(panic_in(|| poll(&mut second)).contains(ELSEWHERE)) });
        let mut third = runner.enter(|| on_loop(pending::<()>()));
        let on_a_thread = std::thread::spawn(move || panic_in(|| poll(&mut third)));
        assert!(on_a_thread.join().unwrap().contains(ELSEWHERE));
    }
}

#[test]
fn its_task_ends_with_its_loop() {
    for backend in kernels() {
        let dropped = Rc::new(Cell::new(0));
        let guard = OnDrop(dropped.clone());
        let mut runner = on(backend);
        let future = runner.enter(|| {
            on_loop(async move {
                let _guard = guard;
                pending::<()>().await;
            })
        });
        runner.run(yield_now());
        assert_eq!(dropped.get(), 0);
        runner.close();
        assert_eq!(dropped.get(), 1);
        drop(future);
    }
}
