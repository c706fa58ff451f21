//! `Event`, as asyncio's.

mod common;

use std::{cell::Cell, rc::Rc};

use common::{Log, on_every, turns};
use corio_runtime::{Task, TaskError, create_task};
use corio_sync::Event;

fn waiter(event: &Rc<Event>, log: &Log<u32>, name: u32) -> Task<()> {
    let (event, log) = (event.clone(), log.clone());
    create_task(async move {
        event.wait().await;
        log.push(name);
    })
}

#[test]
fn evt_01_who_is_ready_already_comes_before_those_who_are_woken() {
    on_every(async || {
        let (event, log) = (Rc::new(Event::new()), Log::new());
        let mut tasks = vec![waiter(&event, &log, 1), waiter(&event, &log, 2)];
        turns(1).await;
        assert_eq!(format!("{event:?}"), "<Event [unset, waiters:2]>");
        tasks.push(waiter(&event, &log, 3));
        event.set();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(log.get(), [3, 1, 2]);
    });
}

#[test]
fn evt_02_evt_05_a_set_event_does_not_wait() {
    on_every(async || {
        let event = Event::new();
        event.set();
        let other = create_task(async {});
        event.wait().await;
        assert!(event.is_set() && !other.done());
        event.clear();
        assert!(!event.is_set());
        assert_eq!(format!("{event:?}"), "<Event [unset]>");
    });
}

#[test]
fn evt_03_a_cancelled_waiter_leaves_no_entry() {
    on_every(async || {
        let (event, log) = (Rc::new(Event::new()), Log::new());
        let task = waiter(&event, &log, 1);
        turns(1).await;
        task.cancel();
        assert!(matches!(task.await, Err(TaskError::Cancelled)));
        assert_eq!(format!("{event:?}"), "<Event [unset]>");
        event.set();
        turns(1).await;
        assert!(log.get().is_empty());
    });
}

#[test]
fn evt_04_evt_06_set_and_clear_at_once_wake_each_waiter_once() {
    on_every(async || {
        let event = Rc::new(Event::new());
        let (rounds, theirs) = (Rc::new(Cell::new(0)), event.clone());
        let count = rounds.clone();
        let _task = create_task(async move {
            loop {
                theirs.wait().await;
                count.set(count.get() + 1);
                theirs.clear();
            }
        });
        turns(1).await;
        event.set();
        event.clear();
        event.set();
        event.set();
        turns(3).await;
        assert_eq!(rounds.get(), 1);
        event.set();
        event.clear();
        turns(3).await;
        assert_eq!(rounds.get(), 2, "cleared before the waiter ran");
    });
}
