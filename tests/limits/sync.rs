//! Locks, queues, channels.

use std::{io, time::Duration};

use corio::{
    Barrier, BoundedSemaphore, Condition, LifoQueue, Lock, PriorityQueue, Queue, Semaphore,
    channel::{TrySendError, channel},
    task::create_task,
    timeout,
};
use std::rc::Rc;

use super::table::{Row, row, row2};

const NONE: Duration = Duration::from_millis(1);

macro_rules! queue_row {
    ($queue:ident) => {
        row(concat!(stringify!($queue), "::new"), |maxsize: usize| {
            corio::run(async move {
                let queue = $queue::new(maxsize);
                for n in 0..3 {
                    assert_eq!(queue.put_nowait(n).is_ok(), maxsize == 0 || n < maxsize);
                }
                while queue.get_nowait().is_ok() {}
                queue.put(7).await.unwrap();
                assert_eq!(queue.get().await, Ok(7));
                Ok(())
            })
        })
    };
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        queue_row!(Queue),
        queue_row!(LifoQueue),
        queue_row!(PriorityQueue),
        row("Semaphore::new", |permits: usize| semaphore(permits)),
        row("BoundedSemaphore::new", |permits: usize| {
            corio::run(async move {
                let semaphore = BoundedSemaphore::new(permits);
                assert!(semaphore.release().is_err());
                assert_eq!(timeout(NONE, semaphore.acquire()).await.is_ok(), permits > 0);
                assert_eq!(semaphore.available(), permits);
                Ok(())
            })
        }),
        // asyncio's raises ValueError.
        row("Barrier::new", |parties: usize| {
            corio::run(async move {
                let barrier = Barrier::new(parties);
                assert_eq!(timeout(NONE, barrier.wait()).await.is_ok(), parties == 1);
                Ok(())
            })
        })
        .panics(|value| value == "0", "a barrier needs at least one party"),
        row("ConditionGuard::notify", |n: usize| {
            notified(n, Condition::new(0), async |condition| condition.acquire().await.notify(n))
        }),
        row("Condition::notify", |n: usize| {
            let lock = Rc::new(Lock::new(0));
            notified(n, Condition::on(lock.clone()), async |condition| {
                let _held = lock.acquire().await;
                condition.notify(n);
            })
        }),
        // A channel without room could pass nothing on.
        row2("channel", |capacity: usize, _: usize| {
            let (sender, mut receiver) = channel(capacity);
            assert_eq!((sender.try_send(1), receiver.try_recv()), (Ok(()), Ok(1)));
            sender.try_send(2).unwrap();
            assert_eq!(sender.try_send(3), if capacity == 1 { Err(TrySendError::Full(3)) } else { Ok(()) });
            Ok(())
        })
        .panics(|value| value.starts_with("0,"), "a channel needs room for at least one message"),
        row2("Receiver::recv_many", |limit: usize, capacity: usize| {
            corio::run(async move {
                let (sender, mut receiver) = channel(capacity.max(2));
                sender.try_send(1).unwrap();
                sender.try_send(2).unwrap();
                let mut messages = Vec::new();
                assert_eq!(receiver.recv_many(&mut messages, limit).await, limit.min(2));
                assert_eq!(messages.len(), limit.min(2));
                Ok(())
            })
        }),
    ]
}

/// One task waits; `notify` goes to `n`.
fn notified(n: usize, condition: Condition<u32>, notify: impl AsyncFn(&Condition<u32>)) -> io::Result<()> {
    corio::run(async move {
        let condition = Rc::new(condition);
        let waiting = condition.clone();
        let task = create_task(async move { drop(waiting.acquire().await.wait().await) });
        corio::yield_now().await;
        notify(&condition).await;
        assert_eq!(timeout(NONE, task).await.is_ok(), n > 0);
        Ok(())
    })
}

/// A permit more than there can be is none.
fn semaphore(permits: usize) -> io::Result<()> {
    corio::run(async move {
        let semaphore = Semaphore::new(permits);
        semaphore.release();
        semaphore.release();
        assert_eq!(semaphore.available(), permits.saturating_add(2));
        let permit = semaphore.acquire().await;
        assert!(!semaphore.locked());
        drop(permit);
        assert_eq!(semaphore.available(), permits.saturating_add(2));
        Ok(())
    })
}
