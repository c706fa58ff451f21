//! A bounded channel between loops, threads and other runtimes: many senders, one receiver.
//!
//! The receiver takes all queued messages at once into a queue of its own, so the lock is taken, and a waiting receiver
//! woken, once per batch and not per message. The receiver alone writes the counter of received messages; senders read
//! it when the channel seems full.
//!
//! A sender that finds the channel full sets `blocked`, then reads the counter again; the receiver advances the
//! counter, then reads `blocked`. Both fence in between, so at least one sees the other's write. Waiting senders are
//! served in order: room granted to one is not available to others.
//!
//! The file stands alone, so that the loom model (`tests/loom_channel.rs`) can include it. The crate built
//! along with the model keeps the real types.

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

    /// The models run outside any loop, which has no budget.
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

/// A channel for up to `capacity` unreceived messages.
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

/// A queue up to this size keeps its memory.
const KEEP_BYTES: usize = 64 << 10;

struct Shared<T> {
    capacity: u64,
    state: Mutex<State<T>>,
    /// Number of messages received. Written by the receiver only.
    received: AtomicU64,
    /// Whether a sender waits.
    blocked: AtomicBool,
}

struct State<T> {
    queue: VecDeque<T>,
    /// Number of messages sent, without those granted and not sent yet.
    sent: u64,
    /// The receiver's waker, while it waits.
    receiver: Option<Waker>,
    /// Waiting senders, in order.
    waiting: VecDeque<(u64, Waker)>,
    /// Tickets of senders that may each send one message.
    granted: Vec<u64>,
    next_ticket: u64,
    senders: usize,
    /// The receiver accepts no more.
    closed: bool,
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// How many more messages fit.
    fn room(&self, state: &State<T>) -> u64 {
        let taken = state.sent + state.granted.len() as u64 - self.received.load(Ordering::Relaxed);
        self.capacity.saturating_sub(taken)
    }

    /// Grants the free room to waiting senders, and wakes them.
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

/// The sending end of a [`channel`]. Clones send to the same receiver.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T: Send> Sender<T> {
    /// Sends `value`, once there is room. If the future is dropped before that, so is `value`.
    ///
    /// # Errors
    /// [`SendError`] with the value if the receiver was closed or dropped.
    pub async fn send(&self, value: T) -> Result<(), SendError<T>> {
        let mut one = Some(value);
        match self.send_some(&mut one).await {
            Ok(()) => Ok(()),
            Err(()) => Err(SendError(one.expect("what was not sent is still here"))),
        }
    }

    /// Sends all of `values`, in batches of as many as there is room for; a batch costs as much as one message.
    ///
    /// If the future is dropped before the end, a part was sent, and the rest is still in `values`.
    ///
    /// # Errors
    /// [`SendError`] if the receiver was closed or dropped; unsent messages are still in `values`.
    pub async fn send_all(&self, values: &mut VecDeque<T>) -> Result<(), SendError<()>> {
        while !values.is_empty() {
            self.send_some(values).await.map_err(SendError)?;
        }
        Ok(())
    }

    /// Sends `value` if there is room now and no other sender waits.
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

    /// Whether the receiver was closed or dropped.
    pub fn is_closed(&self) -> bool {
        self.shared.state().closed
    }

    /// Sends at least one message of `source`, after waiting for room.
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

    /// Sends what fits, and returns how many; 0 if the channel is full or other senders wait.
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

/// Moves up to `room` messages into the channel, and wakes the receiver. Returns how many.
#[inline(always)]
fn push<T>(source: &mut impl Source<T>, mut state: MutexGuard<'_, State<T>>, room: u64) -> usize {
    let pushed = source.move_into(&mut state.queue, room);
    state.sent += pushed as u64;
    let receiver = state.receiver.take();
    drop(state);
    receiver.into_iter().for_each(Waker::wake);
    pushed
}

/// Messages to send.
trait Source<T> {
    /// Moves up to `room` messages into `queue`. Returns how many.
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

/// A waiting sender.
struct Ticket<'a, T> {
    shared: &'a Shared<T>,
    number: Option<u64>,
}

impl<T> Ticket<'_, T> {
    /// Returns the number of messages sent.
    fn poll<S: Source<T>>(&mut self, source: &mut S, cx: &Context<'_>) -> Poll<Result<usize, ()>> {
        // Cloned and dropped outside the lock: foreign code.
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
                    // The receiver has read on without seeing `blocked`.
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

    /// Sends with the room that was granted or found.
    fn push<S: Source<T>>(
        &mut self,
        source: &mut S,
        state: MutexGuard<'_, State<T>>,
    ) -> Poll<Result<usize, ()>> {
        self.number = None;
        // More than one message only if no other sender waits.
        let room = if state.waiting.is_empty() { self.shared.room(&state).max(1) } else { 1 };
        Poll::Ready(Ok(push(source, state, room)))
    }
}

impl<T> Drop for Ticket<'_, T> {
    /// Leaves the queue. Unused granted room goes to the next sender.
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut state = self.shared.state();
        state.granted.retain(|granted| *granted != number);
        let own = state.waiting.iter().position(|(waiting, _)| *waiting == number);
        // Last: the waker's destructor is foreign code.
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
    /// Messages taken from the channel and not returned yet.
    batch: VecDeque<T>,
    received: u64,
}

impl<T: Send> Receiver<T> {
    /// The next message; `None` once everything was received and all senders are gone, or the channel was
    /// [closed](Receiver::close). Dropping the future loses no message.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Waits for messages, and moves up to `limit` of them to the end of `messages`. Returns how many; 0 only if
    /// [`recv`](Receiver::recv) would return `None`, or for a limit of 0.
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
    /// [`TryRecvError`]: none yet, or none any more.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        if self.batch.is_empty() && self.refill(None).is_pending() {
            return Err(TryRecvError::Empty);
        }
        self.pop().ok_or(TryRecvError::Closed)
    }

    /// [`recv`](Receiver::recv) as a poll function.
    #[inline]
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if budget::is_used_up(cx) || self.batch.is_empty() && self.refill(Some(cx)).is_pending() {
            return Poll::Pending;
        }
        budget::spend(1);
        Poll::Ready(self.pop())
    }

    /// Closes the channel: senders get an error. Messages already sent can still be received.
    pub fn close(&mut self) {
        let mut state = self.shared.state();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Takes all queued messages; pending if there are none yet.
    fn refill(&mut self, cx: Option<&Context<'_>>) -> Poll<()> {
        let waker = cx.map(|cx| cx.waker().clone());
        let mut state = self.shared.state();
        if !state.queue.is_empty() {
            std::mem::swap(&mut state.queue, &mut self.batch);
            // Frees memory of a peak, once a batch is far smaller.
            let spare = &mut state.queue;
            if spare.capacity() * size_of::<T>() > KEEP_BYTES && self.batch.len() < spare.capacity() / 4 {
                spare.shrink_to(self.batch.len());
            }
        } else if state.senders > 0 && !state.closed {
            let old = std::mem::replace(&mut state.receiver, waker);
            drop(state);
            drop(old);
            // Both queues are empty: frees memory of a peak.
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

    /// Publishes how many messages were received.
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
        // Last: destructors of messages are foreign code.
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

/// The receiver was closed or dropped; holds the unsent message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SendError<T>(pub T);

/// Why [`Sender::try_send`] did not send its message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// The channel is full.
    Full(T),
    /// The receiver was closed or dropped.
    Closed(T),
}

/// Why [`Receiver::try_recv`] returned no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// The channel is empty now.
    Empty,
    /// The channel is empty and closed.
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

// For any message type, also one without `Debug`.
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
