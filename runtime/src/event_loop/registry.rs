//! The registry of loops: finds a loop's inbox by its id, from any thread.

use std::{
    fmt, io,
    num::NonZeroU64,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    kernel::ring::unpark::Unpark,
    scheduler::{
        inbox::Inbox,
        loop_id::{LoopId, MAX_LOOPS},
        wake_key::WakeKey,
    },
};

pub(crate) enum Message {
    /// A waker was used on another thread.
    Wake(WakeKey),
    /// To be called on the loop.
    Call(Box<dyn FnOnce() + Send>),
}

pub(crate) type LoopInbox = Inbox<Message, Unpark>;

/// Inboxes are never freed, and serve one loop after another, so a waker reads them without a lock.
static INBOXES: [OnceLock<LoopInbox>; MAX_LOOPS] = [const { OnceLock::new() }; MAX_LOOPS];
static INDEXES: Mutex<Indexes> = Mutex::new(Indexes { freed: Vec::new(), next: 0 });
static NEXT_LOOP: AtomicU64 = AtomicU64::new(1);

struct Indexes {
    freed: Vec<u16>,
    next: u16,
}

/// A loop's index in the registry; freed when dropped.
pub(crate) struct Registration(LoopId);

impl Registration {
    pub(crate) fn new() -> io::Result<Registration> {
        let mut indexes = INDEXES.lock().unwrap_or_else(|e| e.into_inner());
        let index = match indexes.freed.pop() {
            Some(index) => index,
            None if usize::from(indexes.next) < MAX_LOOPS => {
                indexes.next += 1;
                indexes.next - 1
            }
            None => return Err(io::Error::other(format!("{MAX_LOOPS} loops are alive: close one first"))),
        };
        let count = NEXT_LOOP.fetch_add(1, Ordering::Relaxed);
        let number = NonZeroU64::new(count * MAX_LOOPS as u64 + u64::from(index));
        Ok(Registration(LoopId(number.expect("counted from one, and 2^52 loops are never made"))))
    }

    pub(crate) fn loop_id(&self) -> LoopId {
        self.0
    }

    pub(crate) fn inbox(&self) -> &'static LoopInbox {
        INBOXES[self.0.index()].get_or_init(Inbox::new)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut indexes = INDEXES.lock().unwrap_or_else(|e| e.into_inner());
        indexes.freed.push(self.0.index() as u16);
    }
}

/// The inbox of this index, if a loop has ever used it.
pub(super) fn inbox(index: usize) -> Option<&'static LoopInbox> {
    INBOXES.get(index)?.get()
}

/// Sends a wake to the loop that has the key's index now.
pub(crate) fn wake_elsewhere(key: WakeKey) {
    let Some(inbox) = inbox(key.loop_index()) else { return };
    // The key lacks the loop's id: a later loop of this index may get one needless wake.
    let id = inbox.reader();
    if id != 0 {
        let _ = inbox.send(id, Message::Wake(key));
    }
}

/// Whether the loop has ended.
pub(crate) fn is_closed(id: LoopId) -> bool {
    !inbox(id.index()).is_some_and(|inbox| inbox.serves(id.number()))
}

/// Makes the loop `id` call `f` in a turn.
pub(crate) fn post(id: LoopId, f: Box<dyn FnOnce() + Send>) -> Result<(), LoopClosed> {
    let inbox = inbox(id.index()).ok_or(LoopClosed)?;
    inbox.send(id.number(), Message::Call(f)).map_err(|_| LoopClosed)
}

/// The loop has ended and takes no more work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopClosed;

impl fmt::Display for LoopClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("event loop is closed")
    }
}

impl std::error::Error for LoopClosed {}

impl From<LoopClosed> for io::Error {
    fn from(e: LoopClosed) -> io::Error {
        io::Error::new(io::ErrorKind::NotConnected, e)
    }
}
