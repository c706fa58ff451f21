//! Loops as other threads see them: the registry, `Handle`, and what travels through an inbox.

use std::{
    fmt, io,
    num::NonZeroU64,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    current::{self, Loop},
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
    Call(Box<dyn FnOnce(&Loop) + Send>),
}

pub(crate) type LoopInbox = Inbox<Message, Unpark>;

/// Inboxes are made once and serve one loop after the other, so a waker can look at one without a lock.
static INBOXES: [OnceLock<LoopInbox>; MAX_LOOPS] = [const { OnceLock::new() }; MAX_LOOPS];
static INDEXES: Mutex<Indexes> = Mutex::new(Indexes { freed: Vec::new(), next: 0 });
static NEXT_LOOP: AtomicU64 = AtomicU64::new(1);

struct Indexes {
    freed: Vec<u16>,
    next: u16,
}

/// A loop's place in the registry; freed when dropped.
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

/// The inbox with this index, if a loop ever used it.
fn inbox(index: usize) -> Option<&'static LoopInbox> {
    INBOXES.get(index)?.get()
}

/// Sends a wake to whatever loop lives at `key`'s index.
pub(crate) fn wake_elsewhere(key: WakeKey) {
    let Some(inbox) = inbox(key.loop_index()) else { return };
    // The id is not in the key: a loop that took the index over sees one needless wake.
    let id = inbox.reader();
    if id != 0 {
        let _ = inbox.send(id, Message::Wake(key));
    }
}

/// Names a loop from any thread.
///
/// ```
/// let n = corio_runtime::run(async {
///     let handle = corio_runtime::handle();
///     let (tx, rx) = std::sync::mpsc::channel();
///     std::thread::spawn(move || handle.call_soon_threadsafe(move || tx.send(42).unwrap()));
///     loop {
///         if let Ok(n) = rx.try_recv() { break n }
///         corio_runtime::yield_now().await;
///     }
/// });
/// assert_eq!(n, 42);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle {
    pub(crate) loop_id: LoopId,
}

impl Handle {
    /// Calls `f` on the loop, in one of its next turns (asyncio `loop.call_soon_threadsafe`).
    ///
    /// # Errors
    /// [`LoopClosed`] if the loop has ended: `f` was not called. After `Ok`, `f` is called, or dropped
    /// without being called if the loop ends first.
    pub fn call_soon_threadsafe(&self, f: impl FnOnce() + Send + 'static) -> Result<(), LoopClosed> {
        self.post(Box::new(move |lp: &Loop| {
            lp.call_now(Box::new(f));
        }))
    }

    /// Calls `f` here and now if this loop is the running one, else through its inbox; a loop that has ended
    /// has nothing left to do it to. For handles that are dropped away from home.
    pub fn run_at_home(&self, f: impl FnOnce() + Send + 'static) {
        current::on_loop(self.loop_id, |_| f());
    }

    /// The loop's number, which no other loop of the process has or had.
    ///
    /// ```
    /// let number = || corio_runtime::run(async { corio_runtime::handle().number() });
    /// assert_ne!(number(), number());
    /// ```
    #[inline]
    pub fn number(&self) -> NonZeroU64 {
        self.loop_id.0
    }

    /// Whether the loop has ended.
    pub fn is_closed(&self) -> bool {
        !inbox(self.loop_id.index()).is_some_and(|inbox| inbox.serves(self.loop_id.number()))
    }

    /// Whether this is the loop that runs on this thread.
    pub fn is_current(&self) -> bool {
        current::try_with(|lp| lp.id() == self.loop_id).unwrap_or(false)
    }

    pub(crate) fn post(&self, f: Box<dyn FnOnce(&Loop) + Send>) -> Result<(), LoopClosed> {
        let inbox = inbox(self.loop_id.index()).ok_or(LoopClosed)?;
        inbox.send(self.loop_id.number(), Message::Call(f)).map_err(|_| LoopClosed)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("loop", &self.loop_id.0).field("closed", &self.is_closed()).finish()
    }
}

/// The handle of the running loop (asyncio `get_running_loop`).
///
/// # Panics
/// Outside a running loop: "no running event loop".
pub fn handle() -> Handle {
    current::with(|lp| lp.handle())
}

/// Whether the running loop is at its end, where all that is left is cancelled; `false` outside one.
///
/// ```
/// use corio_runtime::{create_task, is_closing, run, yield_now};
/// use std::{cell::Cell, rc::Rc};
/// struct Left(Rc<Cell<bool>>);
/// impl Drop for Left {
///     fn drop(&mut self) { self.0.set(is_closing()) }
/// }
/// let cancelled_at_the_end = Rc::new(Cell::new(false));
/// let left = Left(cancelled_at_the_end.clone());
/// run(async {
///     assert!(!is_closing());
///     drop(create_task(async move { let _left = left; std::future::pending::<()>().await }));
///     yield_now().await;
/// });
/// assert!(cancelled_at_the_end.get());
/// ```
pub fn is_closing() -> bool {
    current::try_with(|lp| lp.ending.get()).unwrap_or(false)
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
