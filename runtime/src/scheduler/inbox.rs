//! Work from other threads: a lock-free queue, and the switch between awake and asleep.
//!
//! Once per turn the loop takes the queued messages, up to 256. Before it sleeps, it stores `SLEEPING` and checks the
//! queue again; a sender pushes, then checks the state. Both fence between their write and their read, so at least one
//! sees the other's write: no message is left in the queue of a sleeping loop. Only the sender that changes SLEEPING to
//! NOTIFIED makes the system call, however many push.
//!
//! An inbox outlives its loops: `open` holds the id of the loop that reads it, or 0. A sender pushes only for that
//! loop, and checks `open` again afterwards: if the loop has closed meanwhile, its last drain may have come before the
//! push, so the sender drains, too. A message that does not reach its loop is dropped, and its destructor tells the
//! sender.
//!
//! The file stands alone, so that the loom model (`tests/loom_inbox.rs`) can include it. The crate built along with the
//! model keeps the real types.

#[cfg(not(all(loom, test)))]
mod shim {
    pub(super) use crossbeam_queue::SegQueue as Queue;
    pub(super) use std::sync::{
        Mutex,
        atomic::{AtomicU8, AtomicU64, Ordering, fence},
    };
}

#[cfg(all(loom, test))]
mod shim {
    pub(super) use loom::sync::{
        Mutex,
        atomic::{AtomicU8, AtomicU64, Ordering, fence},
    };
    use std::collections::VecDeque;

    /// Stands in for the lock-free queue, which its own project verifies.
    pub(super) struct Queue<T>(Mutex<VecDeque<T>>);

    impl<T> Queue<T> {
        pub(super) fn new() -> Self {
            Queue(Mutex::new(VecDeque::new()))
        }
        pub(super) fn push(&self, value: T) {
            self.0.lock().unwrap().push_back(value);
        }
        pub(super) fn pop(&self) -> Option<T> {
            self.0.lock().unwrap().pop_front()
        }
        pub(super) fn len(&self) -> usize {
            self.0.lock().unwrap().len()
        }
        pub(super) fn is_empty(&self) -> bool {
            self.0.lock().unwrap().is_empty()
        }
    }
}

use shim::{AtomicU8, AtomicU64, Mutex, Ordering, Queue, fence};

const AWAKE: u8 = 0;
const SLEEPING: u8 = 1;
const NOTIFIED: u8 = 2;

/// Ends the sleep of a loop.
pub(crate) trait Notify {
    fn notify(&self);
}

/// A message and the loop it is for.
struct Letter<M> {
    loop_id: u64,
    message: M,
}

/// See the head of the file.
pub(crate) struct Inbox<M, N> {
    queue: Queue<Letter<M>>,
    state: AtomicU8,
    /// The loop that reads; 0 for none.
    open: AtomicU64,
    /// Locked by the one sender that wakes the loop, and by `open`, `close`, `sweep` and `change_notifier`.
    notifier: Mutex<Option<N>>,
}

impl<M, N: Notify> Inbox<M, N> {
    pub(crate) fn new() -> Self {
        Inbox {
            queue: Queue::new(),
            state: AtomicU8::new(AWAKE),
            open: AtomicU64::new(0),
            notifier: Mutex::new(None),
        }
    }

    /// Starts to serve `loop_id`. `receive` drops letters to earlier loops that are still queued.
    pub(crate) fn open(&self, loop_id: u64, notifier: N) {
        let mut place = self.notifier.lock().unwrap_or_else(|e| e.into_inner());
        *place = Some(notifier);
        self.state.store(AWAKE, Ordering::SeqCst);
        self.open.store(loop_id, Ordering::SeqCst);
    }

    /// Replaces the way in which the loop is woken.
    pub(crate) fn change_notifier(&self, change: impl FnOnce(N) -> N) {
        let mut place = self.notifier.lock().unwrap_or_else(|e| e.into_inner());
        *place = place.take().map(change);
    }

    /// The loop closes: drops all letters, queued and future ones.
    pub(crate) fn close(&self) {
        let mut place = self.notifier.lock().unwrap_or_else(|e| e.into_inner());
        self.open.store(0, Ordering::SeqCst);
        let notifier = place.take();
        drop(place);
        drop(notifier);
        self.sweep();
    }

    /// The loop that reads; 0 for none.
    pub(crate) fn reader(&self) -> u64 {
        self.open.load(Ordering::SeqCst)
    }

    pub(crate) fn serves(&self, loop_id: u64) -> bool {
        self.reader() == loop_id
    }

    /// Sends `message` to the loop `loop_id`; returns it if that has closed. An accepted message may still be dropped
    /// unread, if the loop closes before its next turn.
    pub(crate) fn send(&self, loop_id: u64, message: M) -> Result<(), M> {
        if !self.serves(loop_id) {
            return Err(message);
        }
        self.queue.push(Letter { loop_id, message });
        fence(Ordering::SeqCst);
        if !self.serves(loop_id) {
            self.sweep();
        }
        // Also if another loop has the inbox by now: it should remove the stale letter.
        if self.state.load(Ordering::SeqCst) == SLEEPING
            && self.state.swap(NOTIFIED, Ordering::SeqCst) == SLEEPING
            && let Some(notifier) = &*self.notifier.lock().unwrap_or_else(|e| e.into_inner())
        {
            notifier.notify();
        }
        Ok(())
    }

    /// Drops the letters in a closed inbox. The lock prevents a new loop from opening it meanwhile.
    fn sweep(&self) {
        let mut unread = Vec::new();
        let place = self.notifier.lock().unwrap_or_else(|e| e.into_inner());
        while self.reader() == 0
            && let Some(letter) = self.queue.pop()
        {
            unread.push(letter);
        }
        // Last: destructors of messages are foreign code.
        drop(place);
    }

    /// For the reader: announces sleep. `false` if there is a message after all.
    pub(crate) fn prepare_sleep(&self) -> bool {
        self.state.store(SLEEPING, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.queue.is_empty() {
            return true;
        }
        self.awake();
        false
    }

    /// For the reader: it is awake again.
    pub(crate) fn awake(&self) {
        self.state.store(AWAKE, Ordering::SeqCst);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// For the reader: the next message for `loop_id`.
    pub(crate) fn receive(&self, loop_id: u64) -> Option<M> {
        loop {
            let letter = self.queue.pop()?;
            if letter.loop_id == loop_id {
                return Some(letter.message);
            }
        }
    }
}
