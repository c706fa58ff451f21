//! `select!`: it behaves as tokio's does, on every kernel. What is tokio's own behaviour alone says so.

use std::{
    cell::{Cell, RefCell},
    future::{Future, IntoFuture, pending, poll_fn, ready},
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use corio::{
    Backend, Lock, Queue, Runner, create_task, race, select, sleep, streams::Server, sync::oneshot,
    task::shield, yield_now,
};
use futures_util::FutureExt;

#[path = "../runtime/tests/common/shared.rs"]
mod shared;
use shared::*;

#[path = "common/futures.rs"]
mod futures;
use futures::{After, Dropped};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn one_branch_gives_its_value() {
    on_every(async || {
        assert_eq!(select! { n = async { 1 } => n + 1 }, 2);
        assert_eq!(select! { n = async { 1 } => { n + 1 } }, 2);
        assert_eq!(select! { n = async { 1 } => { n + 1 }, }, 2);
        assert_eq!(select! { biased; _ = yield_now() => "done", }, "done");
    });
}

#[test]
fn the_first_that_is_ready_wins_and_the_others_are_dropped_before_its_handler() {
    on_every(async || {
        let dropped = Cell::new(0);
        let slow = async {
            let _guard = Dropped(&dropped);
            sleep(HOUR).await;
        };
        let got = select! {
            () = slow => "slow",
            () = sleep(MS) => {
                assert_eq!(dropped.get(), 1, "the loser is gone");
                "quick"
            }
        };
        assert_eq!(got, "quick");
    });
}

#[test]
fn the_winner_is_dropped_before_its_handler_too() {
    on_every(async || {
        let dropped = Cell::new(0);
        let guard = Dropped(&dropped);
        let holds = poll_fn(move |_| {
            let _own = &guard;
            Poll::Ready(())
        });
        select! { () = holds => assert_eq!(dropped.get(), 1) }
    });
}

#[test]
fn a_condition_that_is_false_turns_its_branch_off() {
    on_every(async || {
        for on in [false, true] {
            let polled = Cell::new(false);
            let watched = async { polled.set(true) };
            select! {
                biased;
                () = watched, if on => (),
                () = yield_now() => assert!(!on),
            }
            assert_eq!(polled.get(), on);
        }
    });
}

#[test]
fn conditions_come_before_all_future_expressions_which_are_evaluated_though_their_branch_is_off() {
    on_every(async || {
        let log = RefCell::new(Vec::new());
        let note = |what: &'static str| log.borrow_mut().push(what);
        let condition = |what, on| {
            note(what);
            on
        };
        let future = |what| {
            note(what);
            ready(what)
        };
        let got = select! {
            got = future("first"), if condition("first?", false) => got,
            got = future("second"), if condition("second?", true) => got,
        };
        assert_eq!(got, "second");
        assert_eq!(*log.borrow(), ["first?", "second?", "first", "second"]);
    });
}

#[test]
fn a_pattern_that_does_not_match_turns_its_branch_off() {
    on_every(async || {
        let polls = Cell::new(0);
        let once = poll_fn(|_| {
            polls.set(polls.get() + 1);
            Poll::Ready(None::<u32>)
        });
        let got = select! {
            Some(n) = once => n,
            () = After(5) => 7,
        };
        assert_eq!(got, 7);
        assert!(polls.get() <= 1, "a future that is over is polled again");
    });
}

#[test]
fn else_runs_if_no_pattern_matched() {
    on_every(async || {
        let got = select! {
            Some(n) = async { None::<u32> } => n,
            Ok(n) = async { yield_now().await; Err::<u32, ()>(()) } => n,
            else => 3,
        };
        assert_eq!(got, 3);
    });
}

#[test]
fn else_runs_if_all_conditions_are_false() {
    on_every(async || {
        let (no, mut runs) = (false, 0);
        select! {
            () = async {}, if no => unreachable!(),
            () = pending(), if no => unreachable!(),
            else => { runs += 1 }
        }
        assert_eq!(runs, 1);
        assert_eq!(select! { else => runs + 1 }, 2, "as in tokio, it may be alone");
    });
}

#[test]
fn all_off_without_else_panics_as_tokio_does() {
    on_every(async || {
        let text = "all branches are disabled and there is no else branch";
        let no = false;
        let ours = panic_of(async {
            select! { () = async {}, if no => () }
        })
        .await;
        let theirs = panic_of(async {
            tokio::select! { () = async {}, if no => () }
        })
        .await;
        assert_eq!((ours.as_str(), theirs.as_str()), (text, text));
        let unmatched = panic_of(async {
            select! { Some(()) = async { None } => () }
        })
        .await;
        assert_eq!(unmatched, text);
    });
}

#[test]
fn biased_takes_the_first_in_the_text_each_time() {
    on_every(async || {
        for _ in 0..1000 {
            let first = select! {
                biased;
                () = async {} => 1,
                () = async {} => 2,
                () = async {} => 3,
            };
            assert_eq!(first, 1);
        }
    });
}

#[test]
fn biased_polls_in_the_order_of_the_text_at_each_poll() {
    on_every(async || {
        let log = Rc::new(RefCell::new(String::new()));
        let watched = |name, polls| {
            let (log, mut inner) = (log.clone(), After(polls));
            poll_fn(move |cx| {
                log.borrow_mut().push(name);
                Pin::new(&mut inner).poll(cx)
            })
        };
        select! {
            biased;
            () = watched('a', 9) => unreachable!(),
            () = watched('b', 2) => (),
            () = watched('c', 9) => unreachable!(),
        }
        assert_eq!(*log.borrow(), "abcabcab");
    });
}

#[test]
fn ten_thousand_rounds_are_fair() {
    on_every(async || {
        let mut wins = [0u32; 4];
        for _ in 0..10_000 {
            let winner = select! {
                () = async {} => 0,
                () = async {} => 1,
                () = async {} => 2,
                () = async {} => 3,
            };
            wins[winner] += 1;
        }
        // 2,500 each, with a deviation of 43.
        assert!(wins.iter().all(|won| (2200..2800).contains(won)), "{wins:?}");
    });
}

#[test]
fn a_branch_that_is_off_leaves_no_advantage_to_its_neighbour() {
    on_every(async || {
        let (no, mut wins) = (false, [0u32; 2]);
        for _ in 0..10_000 {
            let winner = select! {
                () = async {} => 0,
                () = async {}, if no => unreachable!(),
                () = pending() => unreachable!(),
                () = async {} => 1,
            };
            wins[winner] += 1;
        }
        // tokio begins at a random branch and goes on in order: 2,500 to 7,500.
        assert!(wins.iter().all(|won| (4600..5400).contains(won)), "{wins:?}");
    });
}

#[test]
fn a_branch_that_is_always_ready_starves_no_other() {
    on_every(async || {
        let (queue, mut stop) = (Queue::new(0), pin!(After(3)));
        queue.put_nowait(0).unwrap();
        let mut taken = 0;
        loop {
            select! {
                Ok(n) = queue.get() => {
                    taken += 1;
                    queue.put_nowait(n).unwrap();
                }
                () = &mut stop => break,
            }
            assert!(taken < 1000, "the other branch never had its turn");
        }
    });
}

#[test]
fn the_simulator_repeats_the_order_by_its_seed() {
    let winners = |seed| {
        let mut runner = Runner::builder().backend(Backend::Sim { seed }).build().unwrap();
        runner.run(async {
            let round = async || select! { n = ready(0) => n, n = ready(1) => n, n = ready(2) => n };
            let mut winners = Vec::new();
            for _ in 0..50 {
                winners.push(round().await);
            }
            winners
        })
    };
    assert_eq!(winners(1), winners(1));
    assert_ne!(winners(1), winners(2));
}

#[test]
fn it_works_where_there_is_no_loop() {
    let wins = futures_executor(async {
        let mut wins = [0u32; 2];
        for _ in 0..1000 {
            wins[select! { () = ready(()) => 0, () = ready(()) => 1 }] += 1;
        }
        wins
    });
    assert!(wins.iter().all(|won| (350..650).contains(won)), "{wins:?}");
}

/// Runs what never waits.
fn futures_executor<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("it does not wait")
}

#[test]
fn branches_and_handlers_borrow_from_their_surroundings() {
    on_every(async || {
        let (mut buffer, mut log) = (vec![1, 2, 3], Vec::new());
        async fn push(to: &mut Vec<u32>) {
            to.push(4);
            yield_now().await;
        }
        select! {
            () = push(&mut buffer) => buffer.push(5),
            () = async { log.push("poll"); pending().await } => unreachable!(),
        }
        log.push("end");
        // The futures of both branches may have borrowed it; the handlers borrow it anew.
        select! {
            () = push(&mut buffer) => log.push("first"),
            () = async { log.len(); pending().await } => log.push("second"),
        }
        assert_eq!(buffer, [1, 2, 3, 4, 5, 4]);
        assert_eq!(log.last(), Some(&"first"));
    });
}

#[test]
fn both_branches_may_share_a_borrow() {
    on_every(async || {
        let text = String::from("shared");
        let (length, first) = (async { text.len() }, async { text.chars().next() });
        select! {
            n = length => assert_eq!(n, text.len()),
            c = first => assert_eq!(c, text.chars().next()),
        }
    });
}

#[test]
fn a_temporary_lives_as_long_as_its_future() {
    on_every(async || {
        struct Named<'a> {
            text: &'a String,
        }
        impl<'a> IntoFuture for Named<'a> {
            type Output = usize;
            type IntoFuture = std::future::Ready<usize>;
            fn into_future(self) -> Self::IntoFuture {
                ready(self.text.len())
            }
        }
        let n = select! { n = Named { text: &String::from("four") } => n };
        assert_eq!(n, 4);
    });
}

#[test]
fn futures_by_reference_go_on_in_the_next_round() {
    on_every(async || {
        let mut long = pin!(async {
            After(20).await;
            "long"
        });
        let mut rounds = 0;
        let got = loop {
            select! {
                got = &mut long => break got,
                () = yield_now() => rounds += 1,
            }
        };
        assert_eq!(got, "long");
        assert!(rounds > 3, "each round began anew: {rounds}");
    });
}

#[test]
fn a_future_that_is_over_is_kept_out_of_a_loop_by_a_condition() {
    on_every(async || {
        let (mut a, mut b) = (pin!(After(2)), pin!(After(5)));
        let (mut a_done, mut b_done, mut rounds) = (false, false, 0);
        loop {
            select! {
                () = &mut a, if !a_done => a_done = true,
                () = &mut b, if !b_done => b_done = true,
                else => break,
            }
            rounds += 1;
        }
        assert!(a_done && b_done && rounds == 2);
    });
}

#[test]
fn handlers_use_question_mark_break_continue_return_and_await() {
    async fn parse(text: &str) -> Result<u32, std::num::ParseIntError> {
        let mut rounds = 0;
        'outer: loop {
            select! {
                text = async { text } => {
                    rounds += 1;
                    if rounds < 3 {
                        yield_now().await;
                        continue 'outer;
                    }
                    let n: u32 = text.parse()?;
                    if n == 0 {
                        return Ok(99);
                    }
                    break 'outer Ok(n + rounds);
                }
            }
        }
    }
    on_every(async || {
        assert_eq!(parse("4").await, Ok(7));
        assert_eq!(parse("0").await, Ok(99));
        assert!(parse("four").await.is_err());
    });
}

#[test]
fn a_future_expression_may_use_question_mark() {
    async fn first(text: &str) -> Result<u32, std::num::ParseIntError> {
        Ok(select! { n = ready(text.parse::<u32>()?) => n })
    }
    on_every(async || {
        assert_eq!(first("4").await, Ok(4));
        assert!(first("four").await.is_err());
    });
}

#[test]
fn a_panicking_branch_passes_on_after_the_others_are_dropped() {
    on_every(async || {
        let dropped = Cell::new(0);
        let guard = async {
            let _guard = Dropped(&dropped);
            pending::<()>().await;
        };
        let text = panic_of(async {
            select! {
                biased;
                () = guard => unreachable!(),
                () = async { yield_now().await; panic!("a branch panics") } => unreachable!(),
            }
        });
        assert_eq!(text.await, "a branch panics");
        assert_eq!(dropped.get(), 1);
        let text = panic_of(async {
            select! { () = async {} => panic!("a handler panics") }
        });
        assert_eq!(text.await, "a handler panics");
    });
}

#[test]
fn a_drop_of_the_caller_drops_all_branches() {
    on_every(async || {
        let dropped = Cell::new(0);
        let guard = || async {
            let _guard = Dropped(&dropped);
            pending::<()>().await;
        };
        {
            let mut waiting = pin!(async {
                select! { () = guard() => (), () = guard() => () }
            });
            assert!(waiting.as_mut().now_or_never().is_none());
            assert_eq!(dropped.get(), 0);
        }
        assert_eq!(dropped.get(), 2);
    });
}

#[test]
fn what_is_into_future_will_do() {
    struct Later(u32);
    impl IntoFuture for Later {
        type Output = u32;
        type IntoFuture = std::future::Ready<u32>;
        fn into_future(self) -> Self::IntoFuture {
            ready(self.0)
        }
    }
    on_every(async || {
        assert_eq!(select! { n = Later(3) => n }, 3);
    });
}

#[derive(Debug, PartialEq)]
struct Point {
    x: u32,
    y: String,
}

#[test]
fn patterns_of_every_kind() {
    const LIMIT: u32 = 3;
    on_every(async || {
        let text = || String::from("text");
        let nested = Some(Ok::<_, ()>(text()));
        let point = || ready(Point { x: 3, y: text() });
        assert_eq!(select! { Point { x, y } = point() => (x, y) }, (3, text()));
        assert_eq!(select! { Point { x: 3, ref y } = point() => y.len() }, 4);
        assert_eq!(select! { whole @ Point { x: LIMIT, .. } = point() => whole }, Point { x: 3, y: text() });
        assert_eq!(select! { Point { x: 4..=9, y } = point() => y, else => "no".into() }, "no");
        assert_eq!(select! { None = ready(Some(text())) => 1, else => 2 }, 2);
        assert_eq!(select! { None = ready(None::<String>) => 1, else => 2 }, 1);
        assert_eq!(select! { mut n = ready(1) => { n += 1; n } }, 2);
        assert_eq!(select! { Some(mut s) = ready(Some(text())) => { s.push('!'); s } }, "text!");
        assert_eq!(select! { Ok(n) | Err(n) = ready(Err::<u32, u32>(8)) => n }, 8);
        assert_eq!(
            select! { (a, [first, rest @ ..]) = ready((text(), [1, 2, 3])) => (a, first, rest.len()) },
            (text(), 1, 2)
        );
        assert_eq!(select! { Some(&n) = ready(Some(&5)) => n }, 5);
        assert_eq!(select! { Some(&5) = ready(Some(&6)) => 1, else => 2 }, 2);
        assert_eq!(select! { "text" = ready("text") => 1, else => 2 }, 1);
        assert_eq!(select! { Some(Ok(s)) = ready(&nested) => s.len() }, 4);
        assert_eq!(select! { biased = ready(6) => biased }, 6, "a name like any other");
    });
}

#[test]
fn branches_of_different_outputs_and_handlers_that_never_end_fit_together() {
    on_every(async || {
        let got: Option<&str> = select! {
            n = pending::<u32>() => unreachable!("{n}"),
            text = async { "text" } => Some(text),
            never = async { pending::<std::convert::Infallible>().await } => match never {},
        };
        assert_eq!(got, Some("text"));
    });
}

#[test]
fn one_select_may_be_in_another() {
    on_every(async || {
        let got = select! {
            n = async { select! { n = ready(1) => n + 1 } } => {
                let on = true;
                select! { m = ready(n), if on => m * 10, () = async { select! { else => () } }, if !on => 0 }
            }
        };
        assert_eq!(got, 20);
    });
}

#[test]
fn names_of_the_callers_are_theirs() {
    on_every(async || {
        let (on, output, first, cx, value0, future0) = (1, 2, 3, 4, 5, 6);
        let sum = select! { n = async { on + output + first + cx } => n + value0 + future0 + on };
        assert_eq!(sum, 22);
    });
}

#[test]
fn parts_may_come_from_other_macros() {
    macro_rules! first {
        ($pattern:pat, $future:expr, $condition:expr, $handler:expr, $block:block) => {
            select! {
                $pattern = $future, if $condition => $handler,
                $pattern = $future, if !$condition => $block
                else => 0,
            }
        };
    }
    on_every(async || {
        let on = [true, false].map(|on| async move { first!(Some(_), ready(Some(1)), on, 2, { 3 }) });
        assert_eq!(corio::gather(on).await, [2, 3]);
        assert_eq!(first!(Some(_), ready(None::<u32>), true, 2, { 3 }), 0);
    });
}

#[test]
fn sixty_four_branches() {
    macro_rules! all {
        ($($n:literal)*) => {
            async |ready: u32| select! { $(n = async { if ready == $n { $n } else { pending().await } } => n,)* }
        };
    }
    let which = all!(
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
        32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
    );
    on_every(async || {
        for n in [0, 1, 31, 32, 62, 63] {
            assert_eq!(which(n).await, n);
        }
    });
}

#[test]
fn no_byte_is_lost_by_a_read_that_was_not_first() {
    on_every(async || {
        let server = Server::builder()
            .start("127.0.0.1:0", async |_, mut writer| {
                for part in ["he", "ll", "o\n"] {
                    writer.write_all(part).await?;
                    sleep(MS).await;
                }
                Ok(())
            })
            .await
            .unwrap();
        let (mut reader, _writer) = corio::open_connection(server.local_addr().unwrap()).await.unwrap();
        let mut given_up = 0;
        let line = loop {
            select! {
                biased;
                line = reader.readline() => break line.unwrap(),
                () = yield_now() => given_up += 1,
            }
        };
        assert_eq!(&line[..], b"hello\n");
        assert!(given_up > 1, "no read was given up");
    });
}

#[test]
fn a_lock_that_was_given_up_goes_to_the_next() {
    on_every(async || {
        let lock = Lock::new(1);
        let held = lock.acquire().await;
        select! {
            _ = lock.acquire() => unreachable!(),
            () = yield_now() => (),
        }
        drop(held);
        assert_eq!(*lock.acquire().await, 1);
    });
}

#[test]
fn a_task_is_cancelled_by_a_select_that_drops_it_and_spared_by_a_shield() {
    on_every(async || {
        let task = create_task(pending::<()>());
        let info = task.cancel_handle();
        select! { _ = task => unreachable!(), () = After(2) => () }
        yield_now().await;
        yield_now().await;
        assert!(!info.cancel(), "it was cancelled");
        let (sender, receiver) = oneshot::channel();
        let mut task = create_task(receiver);
        select! { _ = shield(&mut task) => unreachable!(), () = After(2) => () }
        sender.send(3).unwrap();
        assert_eq!(task.await.unwrap().unwrap(), 3);
    });
}

#[test]
fn race_gives_the_first_output_and_drops_the_others_before() {
    on_every(async || {
        let dropped = Cell::new(0);
        let slow = |n: u32| {
            let dropped = &dropped;
            async move {
                let _guard = Dropped(dropped);
                After(n).await;
                n
            }
        };
        assert_eq!(race([slow(9), slow(2), slow(5)]).await, 2);
        assert_eq!(dropped.get(), 3);
        assert_eq!(race((3..6).map(ready)).await, 3, "the first of those that are ready at once");
    });
}

#[test]
fn a_race_of_nothing_panics() {
    on_every(async || {
        let text = panic_of(async {
            let nothing: [std::future::Ready<()>; 0] = [];
            race(nothing).await;
        });
        assert!(text.await.contains("race() of no futures"));
    });
}
