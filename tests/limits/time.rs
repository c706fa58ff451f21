//! Sleeping, timeouts, intervals, callbacks.

use std::{
    cell::Cell,
    future::{Future, pending},
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use corio::{
    event_loop::{call_at, call_later, metrics},
    sync::Condition,
    task::{ReturnWhen, create_task, wait, wait_try},
    time::{
        MissedTickBehavior, interval, interval_at, now, sleep, sleep_until, timeout, timeout_at,
        timeout_scope, wait_for,
    },
};

use crate::shared;

use super::table::{Row, row, row2};

/// What is longer than this does not end here.
const LONG: Duration = Duration::from_millis(20);
const HOUR: Duration = Duration::from_secs(3600);

/// Runs `main` on every kernel. Whatever it waits for, the loop sleeps meanwhile.
fn on_every<F: Future<Output = ()>>(main: impl Fn() -> F) -> io::Result<()> {
    shared::on_every(async || {
        let before = metrics().turns;
        main().await;
        // In the simulator a busy turn takes time, too.
        let turns = metrics().turns - before;
        assert!(turns < 1000, "the loop spins: {turns} turns");
    });
    Ok(())
}

/// Whether `future` ends soon must be whether `short`.
async fn ends_soon(short: bool, future: impl Future) {
    assert_eq!(timeout(LONG, future).await.is_ok(), short);
}

fn is_short(duration: Duration) -> bool {
    duration < LONG
}

/// Whether `at` is in the past, or comes soon.
fn comes(at: Instant) -> bool {
    at < now() + LONG
}

pub(crate) fn rows() -> Vec<Row> {
    [sleeps(), timeouts(), repeated(), waits()].into_iter().flatten().collect()
}

fn sleeps() -> Vec<Row> {
    vec![
        row("sleep", |d: Duration| on_every(|| async move { ends_soon(is_short(d), sleep(d)).await })),
        // Alone: the loop's own sleep is as long.
        row("sleep", |d: Duration| {
            corio::run(async move {
                let sleeper = create_task(sleep(d));
                let before = metrics().ring.enters;
                corio::to_thread(|| std::thread::sleep(LONG)).await;
                let enters = metrics().ring.enters - before;
                assert_eq!(sleeper.done(), is_short(d));
                assert!(enters < 100, "the loop spins: it entered the kernel {enters} times");
                Ok(())
            })
        }),
        row("sleep_until", |at: Instant| {
            on_every(|| async move { ends_soon(comes(at), sleep_until(at)).await })
        }),
        row2("Sleep::reset", |from: Instant, at: Instant| {
            on_every(|| async move {
                let mut sleep = sleep_until(from);
                let _ = timeout(Duration::ZERO, &mut sleep).await;
                sleep.reset(at);
                ends_soon(comes(at), sleep).await;
            })
        }),
        row("call_later", |d: Duration| {
            on_every(|| async move {
                let called = Rc::new(Cell::new(false));
                let flag = called.clone();
                let handle = call_later(d, move || flag.set(true));
                sleep(LONG).await;
                assert_eq!(called.get(), is_short(d));
                assert_eq!(handle.when().is_none(), now().checked_add(d).is_none());
            })
        }),
        row("call_at", |at: Instant| {
            on_every(|| async move {
                let called = Rc::new(Cell::new(false));
                let flag = called.clone();
                let short = comes(at);
                call_at(at, move || flag.set(true));
                sleep(LONG).await;
                assert_eq!(called.get(), short);
            })
        }),
    ]
}

fn timeouts() -> Vec<Row> {
    vec![
        row("timeout", |d: Duration| {
            on_every(|| async move {
                assert_eq!(timeout(d, async { 7 }).await, Ok(7));
                ends_soon(is_short(d), timeout(d, pending::<()>())).await;
            })
        }),
        row("wait_for", |d: Duration| {
            on_every(|| async move { ends_soon(is_short(d), wait_for(pending::<()>(), d)).await })
        }),
        row("timeout_at", |at: Instant| {
            on_every(|| async move { ends_soon(comes(at), timeout_at(at, pending::<()>())).await })
        }),
        row("timeout_scope", |d: Duration| {
            on_every(|| async move {
                ends_soon(is_short(d), timeout_scope(d, async |_| pending::<()>().await)).await;
            })
        }),
        row2("Deadline::reschedule", |d: Duration, at: Option<Instant>| {
            on_every(|| async move {
                let body = timeout_scope(d, async |deadline| {
                    deadline.reschedule(at);
                    assert_eq!(deadline.when(), at);
                    pending::<()>().await;
                });
                ends_soon(at.is_some_and(comes), body).await;
            })
        }),
    ]
}

fn repeated() -> Vec<Row> {
    let not_zero = |value: &str| value.ends_with("0ns");
    let text = "the period of an interval must not be zero";
    vec![
        row("interval", |period: Duration| {
            on_every(|| async move {
                for behavior in
                    [MissedTickBehavior::Burst, MissedTickBehavior::Delay, MissedTickBehavior::Skip]
                {
                    let mut ticks = interval(period);
                    ticks.set_missed_tick_behavior(behavior);
                    ticks.tick().await;
                    ends_soon(is_short(period), ticks.tick()).await;
                    ticks.reset();
                    ends_soon(is_short(period), ticks.tick()).await;
                }
            })
        })
        .panics(not_zero, text),
        row2("interval_at", |start: Instant, period: Duration| {
            on_every(|| async move {
                for behavior in
                    [MissedTickBehavior::Burst, MissedTickBehavior::Delay, MissedTickBehavior::Skip]
                {
                    let mut ticks = interval_at(start, period);
                    ticks.set_missed_tick_behavior(behavior);
                    ends_soon(comes(start), ticks.tick()).await;
                    let _ = timeout(Duration::from_millis(1), ticks.tick()).await;
                }
            })
        })
        .panics(not_zero, text),
    ]
}

fn waits() -> Vec<Row> {
    vec![
        row("wait", |d: Option<Duration>| {
            on_every(|| async move {
                let short = d.is_some_and(is_short);
                let task = create_task(sleep(if short { HOUR } else { LONG }));
                let (done, pending) = wait(vec![task], ReturnWhen::AllCompleted, d).await;
                assert_eq!((done.len(), pending.len()), (usize::from(!short), usize::from(short)));
            })
        }),
        row("wait_try", |d: Option<Duration>| {
            on_every(|| async move {
                let short = d.is_some_and(is_short);
                let task = create_task(async move {
                    sleep(if short { HOUR } else { LONG }).await;
                    io::Result::Ok(())
                });
                let (done, pending) = wait_try(vec![task], ReturnWhen::FirstException, d).await;
                assert_eq!((done.len(), pending.len()), (usize::from(!short), usize::from(short)));
            })
        }),
        row("ConditionGuard::wait_timeout", |d: Duration| {
            on_every(|| async move {
                let condition = Condition::new(());
                let waited = async {
                    let (_guard, notified) = condition.acquire().await.wait_timeout(d).await;
                    assert!(!notified);
                };
                ends_soon(is_short(d), waited).await;
            })
        }),
    ]
}
