//! `oneshot`.

mod common;

use std::rc::Rc;

use common::{on_every, turns};
use corio_runtime::create_task;
use corio_sync::oneshot::channel;

#[test]
fn a_value_wakes_the_receiver() {
    on_every(async || {
        let (sender, receiver) = channel();
        let task = create_task(receiver);
        turns(1).await;
        assert!(!task.done());
        sender.send(7).unwrap();
        assert_eq!(task.await.unwrap(), Ok(7));
    });
}

#[test]
fn a_dropped_end_is_noticed_and_no_value_leaks() {
    on_every(async || {
        let (sender, receiver) = channel::<u32>();
        let task = create_task(receiver);
        turns(1).await;
        drop(sender);
        assert!(task.await.unwrap().is_err());

        let (sender, receiver) = channel();
        let value = Rc::new(());
        drop(receiver);
        assert!(sender.is_closed());
        drop(sender.send(value.clone()).unwrap_err());

        let (sender, mut receiver) = channel();
        assert_eq!(receiver.try_recv(), Ok(None));
        sender.send(value.clone()).unwrap();
        drop(receiver);
        assert_eq!(Rc::strong_count(&value), 1);
    });
}
