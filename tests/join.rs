//! `join!` and `try_join!`: they behave as tokio's do, on every kernel.

use std::{
    cell::{Cell, RefCell},
    future::{Future, IntoFuture, pending, poll_fn, ready},
    pin::Pin,
    rc::Rc,
    task::Poll,
};

use corio::{create_task, join, try_join, yield_now};
use futures_util::FutureExt;

#[path = "../runtime/tests/common/shared.rs"]
mod shared;
use shared::*;

#[path = "common/futures.rs"]
mod futures;
use futures::{After, Dropped};

#[test]
fn join_gives_all_outputs_in_the_order_of_the_text() {
    on_every(async || {
        assert_eq!(
            join!(async { 1 }, After(3), create_task(async { "two" }).map(Result::unwrap)),
            (1, (), "two")
        );
        assert_eq!(join!(yield_now(),), ((),));
        join!();
        assert_eq!(try_join!(ready(Ok::<_, ()>(1)), async { Ok("two") }), Ok((1, "two")));
        assert_eq!(try_join!(async { Ok::<u32, ()>(1) },), Ok((1,)));
        assert_eq!((try_join!() as Result<(), ()>), Ok(()));
    });
}

#[test]
fn the_futures_run_at_the_same_time() {
    on_every(async || {
        let log = RefCell::new(String::new());
        let steps = async |name| {
            for _ in 0..3 {
                log.borrow_mut().push(name);
                yield_now().await;
            }
        };
        join!(biased; steps('a'), steps('b'));
        assert_eq!(*log.borrow(), "ababab");
    });
}

#[test]
fn each_time_another_one_is_polled_first_unless_it_is_biased() {
    on_every(async || {
        let log = Rc::new(RefCell::new(String::new()));
        let watched = |name| {
            let (log, mut inner) = (log.clone(), After(3));
            poll_fn(move |cx| {
                log.borrow_mut().push(name);
                Pin::new(&mut inner).poll(cx)
            })
        };
        join!(watched('a'), watched('b'), watched('c'));
        assert_eq!(log.take(), "abcbcacababc");
        join!(biased; watched('a'), watched('b'), watched('c'));
        assert_eq!(log.take(), "abcabcabcabc");
    });
}

#[test]
fn a_future_that_is_over_is_dropped_at_once_and_polled_no_more() {
    on_every(async || {
        let (dropped, polls) = (Cell::new(0), Cell::new(0));
        let guard = Dropped(&dropped);
        let quick = poll_fn(|_| {
            let _own = &guard;
            polls.set(polls.get() + 1);
            Poll::Ready(())
        });
        let looks = async {
            After(3).await;
            (dropped.get(), polls.get())
        };
        let quick = async move {
            quick.await;
        };
        assert_eq!(join!(quick, looks).1, (0, 1), "the guard is the caller's");
        drop(guard);
        let owned = Dropped(&dropped);
        let quick = poll_fn(move |_| {
            let _own = &owned;
            Poll::Ready(())
        });
        let before = dropped.get();
        let looks = async {
            After(3).await;
            dropped.get()
        };
        assert_eq!(join!(quick, looks).1, before + 1);
    });
}

#[test]
fn the_first_error_comes_at_once_and_drops_the_others() {
    on_every(async || {
        let dropped = Cell::new(0);
        let never = async {
            let _guard = Dropped(&dropped);
            pending::<Result<u32, &str>>().await
        };
        let fails = async {
            yield_now().await;
            Err::<u32, _>("failed")
        };
        assert_eq!(try_join!(never, fails), Err("failed"));
        assert_eq!(dropped.get(), 1);
    });
}

#[test]
fn expressions_are_evaluated_first_and_may_use_question_mark() {
    async fn sum(a: &str, b: &str) -> Result<u32, std::num::ParseIntError> {
        let (a, b) = join!(ready(a.parse::<u32>()?), ready(b.parse::<u32>()?));
        let (c, d) = try_join!(async { a.to_string().parse::<u32>() }, ready(Ok(b)))?;
        Ok(c + d)
    }
    on_every(async || {
        assert_eq!(sum("1", "2").await, Ok(3));
        assert!(sum("1", "two").await.is_err());
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
        let mut count = 0;
        let mut step = async || {
            count += 1;
            count
        };
        assert_eq!(join!(Later(3), step()), (3, 1), "borrows are its own");
    });
}

#[test]
fn a_panic_passes_on_and_drops_the_others() {
    on_every(async || {
        let dropped = Cell::new(0);
        let guard = async {
            let _guard = Dropped(&dropped);
            pending::<()>().await;
        };
        let panics = async {
            yield_now().await;
            panic!("a future panics");
        };
        let joined = async {
            join!(guard, panics);
        };
        assert_eq!(panic_of(joined).await, "a future panics");
        assert_eq!(dropped.get(), 1);
    });
}

#[test]
fn sixty_four_futures() {
    macro_rules! all {
        ($($n:literal)*) => {{
            let outputs = join!($(async { After($n).await; $n }),*);
            let checked = try_join!($(async { Ok::<u32, ()>($n) }),*);
            (outputs.63, checked.map(|all| (all.0, all.63)))
        }};
    }
    on_every(async || {
        let got = all!(
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
            32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
        );
        assert_eq!(got, (63, Ok((0, 63))));
    });
}
