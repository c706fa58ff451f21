//! A bounded channel between loops, threads and other runtimes: any number of senders, one receiver.
//!
//! The receiver takes all that is there at once into a queue of its own, so that both sides meet at the lock once per
//! batch, not once per message; a waiting receiver is woken once per batch, too. How much it has read it publishes in
//! a counter that only it writes: a sender looks at that counter when the channel seems full.
//!
//! A sender that finds it full says so in `blocked`, and looks at the counter again; the receiver moves the counter,
//! and then looks at `blocked`. Both fence in between, so at least one of the two sees the other. Those who wait are
//! served in order: room that was granted to one is not another's.
//!
//! The file stands alone, so that the loom model (`tests/loom_channel.rs`) compiles it as it is; the crate that is
//! built beside the model keeps the real types.

#[cfg(not(all(loom, test)))]
mod shim {
    pub(super) use std::sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering, fence},
    };

    pub(super) use crate::budget;
}

#[cfg(all(loom, test))]
mod shim {
    pub(super) use loom::sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering, fence},
    };

    /// The models run outside any loop, where there is none.
    pub(super) mod budget {
        pub(in super::super) fn is_used_up(_: &std::task::Context<'_>) -> bool {
            false
        }

        pub(in super::super) fn spend(_: usize) {}
    }
}

use std::{
    collections::VecDeque,
    error::Error,
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use shim::{Arc, AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering, budget, fence};

/// A channel for up to `capacity` messages that were not received yet.
///
/// Its ends work on any loop, thread or executor.
///
/// ```
/// use corio_runtime::{Cores, channel, run_per_core, run_coroutine_threadsafe};
/// let sums = run_per_core(Cores::Count(2), |core| async move {
///     if core.index() == 1 {
///         return 0;
///     }
///     let (sender, mut receiver) = channel::channel(64);
///     let adding = run_coroutine_threadsafe(&core.handle(1), || async move {
///         let mut sum = 0;
///         while let Some(n) = receiver.recv().await {
///             sum += n;
///         }
///         sum
///     });
///     for n in 1..=1000 {
///         sender.send(n).await.unwrap();
///     }
///     drop(sender);
///     adding.await.unwrap()
/// });
/// assert_eq!(sums, [500_500, 0]);
/// ```
///
/// # Panics
/// If `capacity` is 0.
#[track_caller]
#[doc(alias = "mpsc")]
pub fn channel<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a channel needs room for at least one message");
    let state = State {
        queue: VecDeque::new(),
        sent: 0,
        receiver: None,
        waiting: VecDeque::new(),
        granted: Vec::new(),
        next_ticket: 0,
        senders: 1,
        closed: false,
    };
    let shared = Arc::new(Shared {
        capacity: capacity as u64,
        state: Mutex::new(state),
        received: AtomicU64::new(0),
        blocked: AtomicBool::new(false),
    });
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared, batch: VecDeque::new(), received: 0 })
}

/// A queue of at most this many bytes never shrinks.
const KEEP_BYTES: usize = 64 << 10;

struct Shared<T> {
    capacity: u64,
    state: Mutex<State<T>>,
    /// Messages that were received. Written by the receiver alone.
    received: AtomicU64,
    /// Whether a sender waits.
    blocked: AtomicBool,
}

struct State<T> {
    queue: VecDeque<T>,
    /// Messages that were sent, those granted to a sender that has not run since not among them.
    sent: u64,
    /// The receiver's, while it waits.
    receiver: Option<Waker>,
    /// Senders that wait, in order.
    waiting: VecDeque<(u64, Waker)>,
    /// Tickets of senders that may send one message each.
    granted: Vec<u64>,
    next_ticket: u64,
    senders: usize,
    /// The receiver takes no more.
    closed: bool,
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// How many messages more fit in.
    fn room(&self, state: &State<T>) -> u64 {
        let taken = state.sent + state.granted.len() as u64 - self.received.load(Ordering::Relaxed);
        self.capacity.saturating_sub(taken)
    }

    /// Grants what room there is to those who wait, and wakes them.
    fn grant(&self, mut state: MutexGuard<'_, State<T>>) {
        let mut granted = Vec::new();
        for _ in 0..self.room(&state) {
            let Some((ticket, waker)) = state.waiting.pop_front() else { break };
            state.granted.push(ticket);
            granted.push(waker);
        }
        self.blocked.store(!state.waiting.is_empty(), Ordering::Relaxed);
        drop(state);
        granted.into_iter().for_each(Waker::wake);
    }
}

/// The sending end of a [`channel`]; clones send into the same one.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T: Send> Sender<T> {
    /// Sends `value`, once there is room for it. Dropped before that, the value is dropped with it.
    ///
    /// # Errors
    /// [`SendError`] with the value if the receiver is gone or closed.
    pub async fn send(&self, value: T) -> Result<(), SendError<T>> {
        let mut one = Some(value);
        match self.send_some(&mut one).await {
            Ok(()) => Ok(()),
            Err(()) => Err(SendError(one.expect("what was not sent is still here"))),
        }
    }

    /// Sends all of `values`, as many at a time as there is room for: at the price of one for each such batch.
    ///
    /// Dropped before the end, it has sent a part, and the rest is still in `values`.
    ///
    /// # Errors
    /// [`SendError`] if the receiver is gone or closed; what was not sent is still in `values`.
    pub async fn send_all(&self, values: &mut VecDeque<T>) -> Result<(), SendError<()>> {
        while !values.is_empty() {
            self.send_some(values).await.map_err(SendError)?;
        }
        Ok(())
    }

    /// Sends `value` if there is room for it now, and nobody waits.
    ///
    /// # Errors
    /// [`TrySendError`], with the value.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let mut one = Some(value);
        let pushed = self.push_now(&mut one);
        match (pushed, one) {
            (Err(()), Some(value)) => Err(TrySendError::Closed(value)),
            (_, Some(value)) => Err(TrySendError::Full(value)),
            (_, None) => Ok(()),
        }
    }

    /// Whether the receiver is gone or closed.
    pub fn is_closed(&self) -> bool {
        self.shared.state().closed
    }

    /// Sends at least one of `source`, waiting for room first.
    async fn send_some<S: Source<T>>(&self, source: &mut S) -> Result<(), ()> {
        let mut ticket = None;
        poll_fn(|cx| {
            if ticket.is_none() {
                if budget::is_used_up(cx) {
                    return Poll::Pending;
                }
                let pushed = self.push_now(source)?;
                if pushed > 0 {
                    budget::spend(pushed);
                    return Poll::Ready(Ok(()));
                }
            }
            let ticket = ticket.get_or_insert_with(|| Ticket { shared: &self.shared, number: None });
            let Poll::Ready(pushed) = ticket.poll(source, cx)? else { return Poll::Pending };
            budget::spend(pushed);
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// How many it has pushed: none if there is no room, or others wait for it.
    fn push_now<S: Source<T>>(&self, source: &mut S) -> Result<usize, ()> {
        let state = self.shared.state();
        if state.closed {
            return Err(());
        }
        let room = if state.waiting.is_empty() { self.shared.room(&state) } else { 0 };
        if room == 0 {
            return Ok(0);
        }
        Ok(push(source, state, room))
    }
}

/// Moves up to `room` messages into the channel, and wakes the receiver; how many.
#[inline(always)]
fn push<T>(source: &mut impl Source<T>, mut state: MutexGuard<'_, State<T>>, room: u64) -> usize {
    let pushed = source.move_into(&mut state.queue, room);
    state.sent += pushed as u64;
    let receiver = state.receiver.take();
    drop(state);
    receiver.into_iter().for_each(Waker::wake);
    pushed
}

/// What is to be sent.
trait Source<T> {
    /// Moves up to `room` messages into `queue`; how many.
    fn move_into(&mut self, queue: &mut VecDeque<T>, room: u64) -> usize;
}

impl<T> Source<T> for Option<T> {
    fn move_into(&mut self, queue: &mut VecDeque<T>, _: u64) -> usize {
        queue.extend(self.take());
        1
    }
}

impl<T> Source<T> for VecDeque<T> {
    fn move_into(&mut self, queue: &mut VecDeque<T>, room: u64) -> usize {
        let count = self.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        queue.extend(self.drain(..count));
        count
    }
}

/// A sender that waits for room.
struct Ticket<'a, T> {
    shared: &'a Shared<T>,
    number: Option<u64>,
}

impl<T> Ticket<'_, T> {
    /// How many it has sent.
    fn poll<S: Source<T>>(&mut self, source: &mut S, cx: &Context<'_>) -> Poll<Result<usize, ()>> {
        // Cloned and dropped outside: foreign code.
        let waker = cx.waker().clone();
        let mut state = self.shared.state();
        if state.closed {
            return Poll::Ready(Err(()));
        }
        let number = *self.number.get_or_insert_with(|| {
            state.next_ticket += 1;
            state.next_ticket
        });
        if let Some(place) = state.granted.iter().position(|granted| *granted == number) {
            state.granted.swap_remove(place);
            return self.push(source, state);
        }
        let old = match state.waiting.iter_mut().find(|(waiting, _)| *waiting == number) {
            Some((_, known)) => std::mem::replace(known, waker),
            None => {
                state.waiting.push_back((number, waker));
                self.shared.blocked.store(true, Ordering::Relaxed);
                fence(Ordering::SeqCst);
                if state.waiting.len() == 1 && self.shared.room(&state) > 0 {
                    // The receiver read on before it could see that somebody waits.
                    let own = state.waiting.pop_back();
                    self.shared.blocked.store(false, Ordering::Relaxed);
                    let pushed = self.push(source, state);
                    drop(own);
                    return pushed;
                }
                return Poll::Pending;
            }
        };
        drop(state);
        drop(old);
        Poll::Pending
    }

    /// There is room, of which this one has its share.
    fn push<S: Source<T>>(
        &mut self,
        source: &mut S,
        state: MutexGuard<'_, State<T>>,
    ) -> Poll<Result<usize, ()>> {
        self.number = None;
        // More than the one only if nobody else waits for it.
        let room = if state.waiting.is_empty() { self.shared.room(&state).max(1) } else { 1 };
        Poll::Ready(Ok(push(source, state, room)))
    }
}

impl<T> Drop for Ticket<'_, T> {
    /// Leaves the queue; what was granted and not used is the next one's.
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut state = self.shared.state();
        state.granted.retain(|granted| *granted != number);
        let own = state.waiting.iter().position(|(waiting, _)| *waiting == number);
        // Its waker is foreign code: dropped last.
        let _own = own.and_then(|place| state.waiting.remove(place));
        self.shared.grant(state);
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.shared.state().senders += 1;
        Sender { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.senders -= 1;
        let receiver = if state.senders == 0 { state.receiver.take() } else { None };
        drop(state);
        receiver.into_iter().for_each(Waker::wake);
    }
}

/// The receiving end of a [`channel`]; also a [`Stream`](futures_core::Stream).
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// What was taken from the channel and is still to be read.
    batch: VecDeque<T>,
    received: u64,
}

impl<T: Send> Receiver<T> {
    /// The next message; `None` once all senders are gone, or after [`close`](Receiver::close), and everything was
    /// received. Dropped, it takes nothing.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Waits for a message, and moves all that are there, `limit` at most, to the end of `messages`. How many: 0 only
    /// where [`recv`](Receiver::recv) gives `None`, and for a limit of 0.
    pub async fn recv_many(&mut self, messages: &mut Vec<T>, limit: usize) -> usize {
        if limit == 0 {
            return 0;
        }
        poll_fn(|cx| {
            if budget::is_used_up(cx) || self.batch.is_empty() && self.refill(Some(cx)).is_pending() {
                return Poll::Pending;
            }
            let count = self.batch.len().min(limit);
            budget::spend(count.max(1));
            messages.extend(self.batch.drain(..count));
            self.read_on(count as u64);
            Poll::Ready(count)
        })
        .await
    }

    /// The next message, if there is one now.
    ///
    /// # Errors
    /// [`TryRecvError`]: there is none yet, or there will be none.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        if self.batch.is_empty() && self.refill(None).is_pending() {
            return Err(TryRecvError::Empty);
        }
        self.pop().ok_or(TryRecvError::Closed)
    }

    /// As [`recv`](Receiver::recv), for a future of one's own.
    #[inline]
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if budget::is_used_up(cx) || self.batch.is_empty() && self.refill(Some(cx)).is_pending() {
            return Poll::Pending;
        }
        budget::spend(1);
        Poll::Ready(self.pop())
    }

    /// Takes no more: senders get an error. What has been sent can still be received.
    pub fn close(&mut self) {
        let mut state = self.shared.state();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Takes all that is there; pending if that is nothing and there may be more.
    fn refill(&mut self, cx: Option<&Context<'_>>) -> Poll<()> {
        let waker = cx.map(|cx| cx.waker().clone());
        let mut state = self.shared.state();
        if !state.queue.is_empty() {
            std::mem::swap(&mut state.queue, &mut self.batch);
            // What a peak has left, once the next batch is far smaller.
            let spare = &mut state.queue;
            if spare.capacity() * size_of::<T>() > KEEP_BYTES && self.batch.len() < spare.capacity() / 4 {
                spare.shrink_to(self.batch.len());
            }
        } else if state.senders > 0 && !state.closed {
            let old = std::mem::replace(&mut state.receiver, waker);
            drop(state);
            drop(old);
            // Both are empty: a peak is over.
            self.batch.shrink_to(KEEP_BYTES / size_of::<T>().max(1));
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    #[inline]
    fn pop(&mut self) -> Option<T> {
        let value = self.batch.pop_front()?;
        self.read_on(1);
        Some(value)
    }

    /// Tells the senders how far it has come.
    #[inline]
    fn read_on(&mut self, count: u64) {
        self.received += count;
        self.shared.received.store(self.received, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.shared.blocked.load(Ordering::Relaxed) {
            self.serve();
        }
    }

    #[cold]
    fn serve(&self) {
        self.shared.grant(self.shared.state());
    }
}

impl<T: Send> futures_core::Stream for Receiver<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.poll_recv(cx)
    }
}

impl<T> Unpin for Receiver<T> {}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.closed = true;
        let (waiting, unread) = (std::mem::take(&mut state.waiting), std::mem::take(&mut state.queue));
        let receiver = state.receiver.take();
        drop(state);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
        // Destructors of messages are foreign code.
        drop((unread, receiver));
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("closed", &self.shared.state().closed).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("received", &self.received).finish_non_exhaustive()
    }
}

/// The receiver is gone or closed; what was not sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SendError<T>(pub T);

/// Why [`Sender::try_send`] did not send its message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// There is no room now.
    Full(T),
    /// The receiver is gone or closed.
    Closed(T),
}

/// Why [`Receiver::try_recv`] has no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// There is none now.
    Empty,
    /// There will be none.
    Closed,
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the channel's receiver is closed")
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrySendError::Full(_) => "the channel is full",
            TrySendError::Closed(_) => "the channel's receiver is closed",
        })
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryRecvError::Empty => "the channel is empty",
            TryRecvError::Closed => "the channel's senders are gone",
        })
    }
}

// Of any message, also one that cannot be printed.
impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendError({self})")
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrySendError({self})")
    }
}

impl<T> Error for SendError<T> {}
impl<T> Error for TrySendError<T> {}
impl Error for TryRecvError {}

impl<T> From<SendError<T>> for io::Error {
    fn from(e: SendError<T>) -> io::Error {
        io::Error::new(io::ErrorKind::BrokenPipe, e.to_string())
    }
}

impl<T> From<TrySendError<T>> for io::Error {
    fn from(e: TrySendError<T>) -> io::Error {
        let kind = match e {
            TrySendError::Full(_) => io::ErrorKind::WouldBlock,
            TrySendError::Closed(_) => io::ErrorKind::BrokenPipe,
        };
        io::Error::new(kind, e.to_string())
    }
}

impl From<TryRecvError> for io::Error {
    fn from(e: TryRecvError) -> io::Error {
        let kind = match e {
            TryRecvError::Empty => io::ErrorKind::WouldBlock,
            TryRecvError::Closed => io::ErrorKind::UnexpectedEof,
        };
        io::Error::new(kind, e.to_string())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_peak_of_messages_leaves_no_memory() {
        let (sender, mut receiver) = channel(200_000);
        let kept = KEEP_BYTES / size_of::<u64>();
        for _ in 0..3 {
            (0..100_000u64).for_each(|n| sender.try_send(n).unwrap());
            (0..100_000).for_each(|n| assert_eq!(receiver.try_recv(), Ok(n)));
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
            assert!(receiver.batch.capacity() <= kept);
            sender.try_send(7).unwrap();
            assert_eq!(receiver.try_recv(), Ok(7));
            assert!(receiver.shared.state().queue.capacity() <= kept);
        }
    }
}
