//! Timeouts and intervals, as asyncio's `timeout`.

mod common;

use std::{cell::Cell, rc::Rc, time::Duration};

use common::{Log, OnDrop, ms, on_every, turns, until};
use corio_runtime::{
    Backend, Runner, TaskError, create_task, current_task,
    time::{
        Deadline, Instant, MissedTickBehavior, interval, interval_at, now, sleep, timeout, timeout_at,
        timeout_scope,
    },
    with_cleanup, yield_now,
};

#[test]
fn to_01_to_07_to_08_the_time_is_up() {
    on_every(async || {
        for limit in [Duration::ZERO, ms(1)] {
            let seen = Rc::new(Cell::new((None, false)));
            struct See<'a>(&'a Deadline, Rc<Cell<(Option<Instant>, bool)>>);
            impl Drop for See<'_> {
                fn drop(&mut self) {
                    self.1.set((self.0.when(), self.0.expired()));
                }
            }
            let start = now();
            let result = timeout_scope(limit, async |deadline| {
                let _see = See(deadline, seen.clone());
                sleep(Duration::from_secs(10)).await;
            });
            assert_eq!(result.await.unwrap_err().to_string(), "deadline has elapsed");
            let (when, expired) = seen.get();
            assert!(expired && when.unwrap() >= start + limit && when.unwrap() <= now());
        }
        assert!(timeout(Duration::ZERO, yield_now()).await.is_err(), "at the first suspension");
        assert!(timeout_scope(Duration::ZERO, async |_| yield_now().await).await.is_err());
        assert_eq!(timeout_scope(Duration::ZERO, async |_| 7).await, Ok(7), "what is ready beats it");
        let moved = timeout_scope(Duration::MAX, async |deadline| {
            deadline.reschedule(now());
            yield_now().await;
        });
        assert!(moved.await.is_err());
    });
}

#[test]
fn to_03_two_deadlines_at_one_time_both_end_their_own() {
    on_every(async || {
        let at = now() + ms(1);
        let inner = Rc::new(Cell::new(false));
        let seen = inner.clone();
        let outer = timeout_at(at, async move {
            let result = timeout_at(at, sleep(Duration::from_secs(10))).await;
            seen.set(result.is_err());
            sleep(Duration::from_secs(10)).await;
        });
        assert!(outer.await.is_err());
        assert!(inner.get());
    });
}

#[test]
fn to_05_to_10_a_body_that_ends_in_time_gives_its_value() {
    on_every(async || {
        let result = timeout_scope(Duration::from_secs(10), async |deadline| {
            sleep(ms(1)).await;
            assert!(!deadline.expired() && deadline.when().unwrap() > now());
            Err::<(), _>("key error")
        });
        assert_eq!(result.await, Ok(Err("key error")));
        assert_eq!(timeout(Duration::MAX, async { 1 }).await, Ok(1));
        assert_eq!(timeout_scope(Duration::MAX, async |d| d.when()).await, Ok(None));
    });
}

#[test]
fn to_12_to_13_a_cancel_is_no_timeout_and_a_timeout_no_cancel() {
    on_every(async || {
        let task = create_task(timeout(Duration::from_secs(10), async {
            current_task().unwrap().cancel();
            yield_now().await;
        }));
        assert!(matches!(task.await, Err(TaskError::Cancelled)));
        let handled = create_task(async { timeout(ms(1), std::future::pending::<()>()).await.is_err() });
        assert!(handled.await.unwrap());
    });
}

#[test]
fn to_14_to_15_nested_deadlines_keep_apart_though_the_thread_was_blocked() {
    on_every(async || {
        let block = |time: Duration| {
            let until = Instant::now() + time;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        };
        let expired = Rc::new(Cell::new(None));
        let inner_expired = expired.clone();
        let outer = timeout(ms(2), async move {
            let inner = timeout(Duration::from_secs(10), async {
                block(ms(5));
                sleep(Duration::from_secs(1)).await;
            });
            inner_expired.set(Some(inner.await.is_err()));
        });
        assert!(outer.await.is_err());
        assert_eq!(expired.get(), None, "the outer deadline crossed the inner body");

        let log = Log::new();
        let theirs = log.clone();
        let outer = timeout(ms(10), async move {
            let inner = timeout(ms(1), async {
                block(ms(10));
                sleep(Duration::from_secs(10)).await;
            });
            theirs.push(inner.await.is_err());
            sleep(Duration::from_secs(10)).await;
        });
        assert!(outer.await.is_err());
        assert_eq!(log.get(), [true], "the inner one ended first, and the outer one after it");
    });
}

#[test]
fn to_16_a_deadline_can_be_moved_and_taken_away() {
    on_every(async || {
        let start = now();
        let moved = timeout_scope(Duration::from_secs(10), async |deadline| {
            // The scope already waits for the first deadline.
            yield_now().await;
            let at = now() + ms(2);
            deadline.reschedule(at);
            assert_eq!(deadline.when(), Some(at));
            std::future::pending::<()>().await;
        });
        assert!(moved.await.is_err());
        assert!(now() - start < Duration::from_secs(10));
        let never = create_task(timeout_scope(ms(1), async |deadline| {
            deadline.reschedule(None);
            assert_eq!(deadline.when(), None);
            std::future::pending::<()>().await;
        }));
        sleep(ms(5)).await;
        assert!(!never.done());
        never.cancel();
        assert!(matches!(never.await, Err(TaskError::Cancelled)));
    });
    // Once its timer runs.
    on_sim(async {
        for (first, then) in [(10, 20), (1000, 20)] {
            let start = now();
            let moved = timeout_scope(ms(first), async |deadline| {
                sleep(ms(5)).await;
                deadline.reschedule(start + ms(then));
                std::future::pending::<()>().await;
            });
            assert!(moved.await.is_err());
            assert_eq!(now() - start, ms(20));
        }
    });
}

#[test]
fn to_02_an_absolute_deadline_is_seen_and_kept() {
    on_every(async || {
        let at = now() + ms(2);
        assert!(timeout_at(at, std::future::pending::<()>()).await.is_err());
        assert!(now() >= at);
        let at = now() + ms(2);
        let ended = timeout_scope(Duration::MAX, async |deadline| {
            deadline.reschedule(at);
            assert_eq!(deadline.when(), Some(at));
            std::future::pending::<()>().await;
        });
        assert!(ended.await.is_err() && now() >= at);
    });
}

#[test]
fn to_06_without_a_deadline_the_body_has_all_the_time() {
    on_every(async || {
        let value = timeout_scope(Duration::MAX, async |deadline| {
            assert_eq!((deadline.when(), deadline.expired()), (None, false));
            sleep(ms(2)).await;
            assert!(!deadline.expired());
            7
        });
        assert_eq!(value.await, Ok(7));
        assert_eq!(timeout(Duration::MAX, async { 8 }).await, Ok(8));
    });
}

#[test]
fn to_09_a_deadline_in_the_past_beats_sleep_zero() {
    on_every(async || {
        let past = now() - Duration::from_secs(11);
        assert!(timeout_at(past, sleep(Duration::ZERO)).await.is_err());
        let reached = Cell::new(false);
        let ended = timeout_scope(Duration::from_secs(60), async |deadline| {
            deadline.reschedule(past);
            assert!(deadline.when() < Some(now()));
            sleep(Duration::ZERO).await;
            reached.set(true);
        });
        assert!(ended.await.is_err() && !reached.get());
    });
}

#[test]
fn to_18_a_cleanup_has_timeouts_of_its_own() {
    on_every(async || {
        let log = Log::new();
        let theirs = log.clone();
        let body = with_cleanup(std::future::pending::<()>(), move || async move {
            theirs.push(timeout(ms(1), std::future::pending::<()>()).await.is_err());
            theirs.push(timeout(Duration::ZERO, std::future::pending::<()>()).await.is_err());
        });
        assert!(timeout(ms(1), body).await.is_err());
        until(|| log.get() == [true, true]).await;
    });
}

#[test]
fn run_26_task_29_task_31_task_32_sleeps_are_long_enough_and_can_be_cancelled() {
    on_every(async || {
        let start = now();
        sleep(ms(1)).await;
        sleep(ms(1)).await;
        assert!(now() - start >= ms(2));
        let sleeper = create_task(sleep(Duration::from_secs(5000)));
        let cancel = sleeper.cancel_handle();
        let before = corio_runtime::metrics().timers;
        corio_runtime::call_later(ms(1), move || assert!(cancel.cancel()));
        assert!(matches!(sleeper.await, Err(TaskError::Cancelled)));
        assert!(corio_runtime::metrics().timers <= before, "no timer is left behind");
    });
}

/// On the simulator's clock, which stands still while a task runs.
fn on_sim(test: impl Future<Output = ()>) {
    Runner::builder().backend(Backend::Sim { seed: 3 }).build().unwrap().run(test);
}

#[test]
fn an_interval_ticks_at_once_and_then_every_period() {
    on_sim(async {
        let start = now();
        let mut ticks = interval(ms(10));
        for n in 0..5 {
            assert_eq!(ticks.tick().await, start + n * ms(10));
            assert_eq!(now() - start, n * ms(10));
        }
        assert!(timeout(ms(5), ticks.tick()).await.is_err());
        assert_eq!(ticks.tick().await, start + ms(50), "a dropped tick is not lost");
        ticks.reset();
        ticks.tick().await;
        assert_eq!(now() - start, ms(60));
        let mut later = interval_at(now() + ms(7), ms(10));
        later.tick().await;
        assert_eq!(now() - start, ms(67));
    });
}

#[test]
fn missed_ticks_come_in_a_burst_late_or_not_at_all() {
    on_sim(async {
        let after = |behavior, late: u64| async move {
            let start = now();
            let mut ticks = interval(ms(10));
            ticks.set_missed_tick_behavior(behavior);
            ticks.tick().await;
            sleep(ms(late)).await;
            let mut times = Vec::new();
            for _ in 0..4 {
                ticks.tick().await;
                times.push((now() - start).as_millis());
            }
            times
        };
        assert_eq!(after(MissedTickBehavior::Burst, 25).await, [25, 25, 30, 40]);
        assert_eq!(after(MissedTickBehavior::Delay, 25).await, [25, 35, 45, 55]);
        assert_eq!(after(MissedTickBehavior::Skip, 25).await, [25, 30, 40, 50]);
        assert_eq!(after(MissedTickBehavior::Skip, 30).await, [30, 40, 50, 60]);
    });
}

#[test]
fn an_interval_longer_than_time_ticks_once() {
    on_sim(async {
        let mut ticks = interval(Duration::MAX);
        ticks.tick().await;
        assert!(timeout(ms(10), ticks.tick()).await.is_err());
        ticks.reset();
        assert!(timeout(ms(10), ticks.tick()).await.is_err());
    });
}

#[test]
#[should_panic(expected = "must not be zero")]
fn an_interval_of_nothing_is_refused() {
    let _ = interval(Duration::ZERO);
}

#[test]
fn a_scope_that_is_dropped_drops_its_body_and_timer() {
    on_every(async || {
        let dropped = Rc::new(Cell::new(0));
        let guard = OnDrop(dropped.clone());
        let task = create_task(timeout_scope(Duration::from_secs(10), async move |_| {
            let _guard = guard;
            std::future::pending::<()>().await;
        }));
        turns(2).await;
        let timers = corio_runtime::metrics().timers;
        task.cancel();
        assert!(matches!(task.await, Err(TaskError::Cancelled)));
        assert_eq!((dropped.get(), corio_runtime::metrics().timers), (1, timers - 1));
    });
}
