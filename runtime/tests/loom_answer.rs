//! The answer between two threads, under every interleaving:
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test -p corio-runtime --release --test loom_answer`
#![cfg(loom)]

#[path = "../src/threads/answer.rs"]
#[allow(dead_code, reason = "the models use a part")]
mod answer;

use std::{
    sync::Arc as StdArc,
    task::{Wake, Waker},
};

use answer::{Awaited, Owed, answer};
use loom::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

const VALUE: u32 = 7;
const CANCELLED: u32 = 8;
const LOOP_CLOSED: u32 = 9;

/// An answer that counts its end, given or not.
#[derive(Debug)]
struct Letter(u32, Counter);

impl Drop for Letter {
    fn drop(&mut self) {
        self.1.add_one();
    }
}

#[derive(Clone, Debug)]
struct Counter(Arc<AtomicUsize>);

impl Counter {
    fn new() -> Counter {
        Counter(Arc::new(AtomicUsize::new(0)))
    }

    fn add_one(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Counter {
    fn wake(self: StdArc<Self>) {
        self.add_one();
    }
}

/// The two ends, whose task is a number, and the count of letters dropped.
fn ends() -> (Owed<Letter, u32>, Awaited<Letter, u32>, Counter) {
    let dropped = Counter::new();
    let (owed, awaited) = answer(Letter(LOOP_CLOSED, dropped.clone()));
    (owed, awaited, dropped)
}

/// The loop's side, from the call to the answer: `task_cancels` counts the cancels of the task.
fn serve(mut owed: Owed<Letter, u32>, dropped: &Counter, task_cancels: &Counter) {
    if owed.is_cancelled() {
        return owed.give(Letter(CANCELLED, dropped.clone()));
    }
    owed.otherwise(Letter(CANCELLED, dropped.clone()));
    if owed.starter().started(1) {
        task_cancels.add_one();
    }
    owed.give(Letter(VALUE, dropped.clone()));
}

#[test]
fn thr_10_who_blocks_is_told_of_the_value() {
    loom::model(|| {
        let (mut owed, awaited, dropped) = ends();
        let letter = Letter(VALUE, dropped.clone());
        let home = thread::spawn(move || owed.give(letter));
        assert_eq!(awaited.wait(None).unwrap().0, VALUE);
        assert!(awaited.is_done());
        home.join().unwrap();
        assert_eq!(dropped.get(), 2, "the value, and what would be given otherwise");
    });
}

#[test]
fn thr_10_who_polls_has_the_value_or_is_woken() {
    loom::model(|| {
        let (mut owed, awaited, dropped) = ends();
        let letter = Letter(VALUE, dropped.clone());
        let home = thread::spawn(move || owed.give(letter));
        let (old, new) = (Counter::new(), Counter::new());
        let poll = |waker: &Counter| awaited.poll(&Waker::from(StdArc::new(waker.clone())));
        let given = poll(&old).or_else(|| poll(&new));
        home.join().unwrap();
        let letter = given.unwrap_or_else(|| {
            assert_eq!((old.get(), new.get()), (0, 1), "woken through the waker that it gave last");
            awaited.take().unwrap()
        });
        assert_eq!(letter.0, VALUE);
    });
}

#[test]
fn thr_12_a_cancel_reaches_the_task_once_or_is_told_that_it_is_late() {
    loom::model(|| {
        let (owed, awaited, dropped) = ends();
        let task_cancels = Counter::new();
        let home = {
            let (dropped, task_cancels) = (dropped.clone(), task_cancels.clone());
            thread::spawn(move || serve(owed, &dropped, &task_cancels))
        };
        let cancel = awaited.cancel();
        if let Some(Some(task)) = cancel {
            assert_eq!(task, 1);
            task_cancels.add_one();
        }
        home.join().unwrap();
        let letter = awaited.wait(None).unwrap();
        match letter.0 {
            // Seen before the task began, which needs no cancel then.
            CANCELLED => assert_eq!((cancel, task_cancels.get()), (Some(None), 0)),
            _ => assert_eq!(task_cancels.get(), usize::from(cancel.is_some())),
        }
    });
}

#[test]
fn thr_11_an_answer_that_nobody_waits_for_is_dropped_once() {
    loom::model(|| {
        let (owed, awaited, dropped) = ends();
        let home = {
            let dropped = dropped.clone();
            thread::spawn(move || serve(owed, &dropped, &Counter::new()))
        };
        let waker = Counter::new();
        drop(awaited.poll(&Waker::from(StdArc::new(waker))));
        drop(awaited);
        home.join().unwrap();
        assert_eq!(dropped.get(), 3, "the value, and what would be given otherwise, twice");
    });
}

#[test]
fn thr_13_a_loop_that_closes_answers_all_the_same() {
    loom::model(|| {
        let (owed, awaited, dropped) = ends();
        // The closed loop drops the call.
        let home = thread::spawn(move || drop(owed));
        let cancel = awaited.cancel();
        assert!(matches!(cancel, None | Some(None)));
        assert_eq!(awaited.wait(None).unwrap().0, LOOP_CLOSED);
        assert!(awaited.cancel().is_none());
        home.join().unwrap();
        assert_eq!(dropped.get(), 1);
    });
}
