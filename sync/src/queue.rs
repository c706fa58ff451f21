//! Queues between tasks (asyncio `Queue`, `LifoQueue`, `PriorityQueue`).
//!
//! A granted item stays in the queue until its getter runs, so a cancelled getter loses none; until then it is
//! reserved, and newcomers do not get it. Room granted to a putter is reserved in the same way.

use std::{
    cell::{Cell, RefCell},
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    error::Error,
    fmt, io,
};

use crate::{error::error, event::Event, waiters::Waiters};

/// A queue up to this size keeps its memory.
const KEEP_BYTES: usize = 64 << 10;

/// Storage of a queue's items.
trait Buffer {
    type Item;

    fn push(&mut self, item: Self::Item);
    fn pop(&mut self) -> Option<Self::Item>;
    fn len(&self) -> usize;
    /// Number of items that the memory can hold.
    fn capacity(&self) -> usize;
    /// Shrinks the memory to hold about `items` items.
    fn shrink_to(&mut self, items: usize);
}

/// Implements `Buffer` by `$push`, `$pop` and the methods that all collections share.
macro_rules! buffer {
    ($of:ty $(, $bound:path)?: $push:expr, $pop:expr) => {
        impl<T $(: $bound)?> Buffer for $of {
            type Item = T;

            fn push(&mut self, item: T) {
                $push(self, item);
            }

            fn pop(&mut self) -> Option<T> {
                $pop(self)
            }

            fn len(&self) -> usize {
                self.len()
            }

            fn capacity(&self) -> usize {
                self.capacity()
            }

            fn shrink_to(&mut self, items: usize) {
                self.shrink_to(items);
            }
        }
    };
}

buffer! { VecDeque<T>: VecDeque::push_back, VecDeque::pop_front }
buffer! { Vec<T>: Vec::push, Vec::pop }
buffer! { BinaryHeap<Reverse<T>>, Ord: push_to_heap, pop_from_heap }

fn push_to_heap<T: Ord>(heap: &mut BinaryHeap<Reverse<T>>, item: T) {
    heap.push(Reverse(item));
}

fn pop_from_heap<T: Ord>(heap: &mut BinaryHeap<Reverse<T>>) -> Option<T> {
    heap.pop().map(|Reverse(item)| item)
}

/// The common part of the three queues.
struct Core<B> {
    items: RefCell<B>,
    /// 0 for no limit.
    maxsize: usize,
    getters: Waiters,
    putters: Waiters,
    /// Items put, without those reported done.
    unfinished: Cell<usize>,
    /// Set while `unfinished` is 0.
    finished: Event,
    shut_down: Cell<bool>,
}

impl<B> Core<B> {
    const fn new(items: B, maxsize: usize) -> Core<B> {
        Core {
            items: RefCell::new(items),
            maxsize,
            getters: Waiters::new(),
            putters: Waiters::new(),
            unfinished: Cell::new(0),
            finished: Event::new(),
            shut_down: Cell::new(false),
        }
    }

    fn task_done(&self) -> Result<(), TaskDoneError> {
        let unfinished = self.unfinished.get();
        if unfinished == 0 {
            return Err(TaskDoneError(()));
        }
        self.finish(unfinished - 1);
        Ok(())
    }

    fn finish(&self, unfinished: usize) {
        self.unfinished.set(unfinished);
        if unfinished == 0 {
            self.finished.set();
        }
    }

    async fn join(&self) {
        if self.unfinished.get() > 0 {
            self.finished.wait().await;
        }
    }

    fn describe(&self, name: &str, items: &dyn fmt::Debug, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{name} maxsize={} {items:?}", self.maxsize)?;
        for (name, waiters) in [("getters", &self.getters), ("putters", &self.putters)] {
            let count = waiters.waiting() + waiters.granted();
            if count > 0 {
                write!(f, " {name}[{count}]")?;
            }
        }
        if self.unfinished.get() > 0 {
            write!(f, " tasks={}", self.unfinished.get())?;
        }
        f.write_str(if self.shut_down.get() { " shutdown>" } else { ">" })
    }
}

impl<B: Buffer> Core<B> {
    fn len(&self) -> usize {
        self.items.borrow().len()
    }

    fn full(&self) -> bool {
        self.maxsize > 0 && self.len() + self.putters.granted() >= self.maxsize
    }

    /// Whether there is an item that is not reserved.
    fn has_item(&self) -> bool {
        self.len() > self.getters.granted()
    }

    async fn put(&self, item: B::Item) -> Result<(), PutError<B::Item>> {
        if self.full() && !self.shut_down.get() {
            self.putters.wait(|| self.offer_room()).await;
        }
        if self.shut_down.get() {
            return Err(PutError::ShutDown(item));
        }
        self.insert(item);
        Ok(())
    }

    fn put_nowait(&self, item: B::Item) -> Result<(), PutError<B::Item>> {
        if self.shut_down.get() {
            return Err(PutError::ShutDown(item));
        }
        if self.full() {
            return Err(PutError::Full(item));
        }
        self.insert(item);
        Ok(())
    }

    fn insert(&self, item: B::Item) {
        // Counted first: if `Ord` panics, its item stays in the heap.
        self.unfinished.set(self.unfinished.get() + 1);
        self.finished.clear();
        self.items.borrow_mut().push(item);
        self.offer_item();
    }

    async fn get(&self) -> Result<B::Item, QueueShutDown> {
        if !self.has_item() && !self.shut_down.get() {
            self.getters.wait(|| self.offer_item()).await;
        } else if !self.has_item() {
            return Err(QueueShutDown(()));
        }
        self.remove().ok_or(QueueShutDown(()))
    }

    fn get_nowait(&self) -> Result<B::Item, GetError> {
        let item = if self.has_item() { self.remove() } else { None };
        item.ok_or(if self.shut_down.get() { GetError::ShutDown } else { GetError::Empty })
    }

    fn remove(&self) -> Option<B::Item> {
        let item = {
            let items = &mut *self.items.borrow_mut();
            let item = items.pop()?;
            let capacity = items.capacity();
            if capacity > KEEP_BYTES / size_of::<B::Item>().max(1) && items.len() < capacity / 4 {
                shrink(items);
            }
            item
        };
        self.offer_room();
        Some(item)
    }

    /// Grants unreserved items to waiting getters.
    fn offer_item(&self) {
        while self.getters.waiting() > 0 && self.has_item() {
            self.getters.grant();
        }
    }

    /// Grants free room to waiting putters.
    fn offer_room(&self) {
        while self.putters.waiting() > 0 && !self.full() {
            self.putters.grant();
        }
    }

    fn shutdown(&self, immediate: bool)
    where
        B: Default,
    {
        self.shut_down.set(true);
        // Dropped last: a destructor that panics must not prevent the wakes.
        let mut _dropped = None;
        if immediate {
            let items = self.items.take();
            self.finish(self.unfinished.get().saturating_sub(items.len()));
            _dropped = Some(items);
        }
        self.getters.grant_all();
        self.putters.grant_all();
    }
}

/// Shrinks a queue after a peak, by half: the rest may be needed again.
#[cold]
fn shrink(items: &mut impl Buffer) {
    items.shrink_to(items.capacity() / 2);
}

macro_rules! queue {
    ($(#[$doc:meta])* $name:ident, $buffer:ty, $empty:expr $(, $bound:path)?) => {
        $(#[$doc])*
        pub struct $name<T> {
            core: Core<$buffer>,
        }

        impl<T $(: $bound)?> $name<T> {
            /// An empty queue for at most `maxsize` items; 0 for any number.
            ///
            /// ```
            #[doc = concat!("let queue = corio_sync::", stringify!($name), "::new(2);")]
            /// assert!(queue.empty() && queue.maxsize() == 2);
            /// queue.put_nowait(1).unwrap();
            /// ```
            ///
            /// ```compile_fail,E0308
            /// // Q-20: a size is a whole number.
            /// let queue = corio_sync::Queue::<i32>::new(1.3);
            /// ```
            pub const fn new(maxsize: usize) -> $name<T> {
                $name { core: Core::new($empty, maxsize) }
            }

            /// Puts `item` into the queue once there is room (asyncio `put`); returns at once, without a turn of the
            /// loop, if there is. Putters are served in the order of arrival.
            ///
            /// If the future is dropped while it waits, the item is dropped and not put.
            ///
            /// ```
            /// # futures::executor::block_on(async {
            #[doc = concat!("let queue = corio_sync::", stringify!($name), "::new(1);")]
            /// queue.put(7).await.unwrap();
            /// assert_eq!(queue.qsize(), 1);
            /// queue.shutdown(false);
            /// assert_eq!(queue.put(8).await, Err(corio_sync::PutError::ShutDown(8)));
            /// # });
            /// ```
            ///
            /// # Errors
            /// [`PutError::ShutDown`], with the item.
            pub async fn put(&self, item: T) -> Result<(), PutError<T>> {
                self.core.put(item).await
            }

            /// Puts `item` into the queue if there is unreserved room now.
            ///
            /// ```
            #[doc = concat!("let queue = corio_sync::", stringify!($name), "::new(1);")]
            /// assert_eq!(queue.put_nowait(7), Ok(()));
            /// assert_eq!(queue.put_nowait(8), Err(corio_sync::PutError::Full(8)));
            /// ```
            ///
            /// # Errors
            /// [`PutError::Full`] or [`PutError::ShutDown`], with the item.
            pub fn put_nowait(&self, item: T) -> Result<(), PutError<T>> {
                self.core.put_nowait(item)
            }

            /// Takes the next item once there is one (asyncio `get`); returns at once, without a turn of the loop, if
            /// there is. Getters are served in the order of arrival.
            ///
            /// Dropping the future loses no item: one already granted goes to the next getter.
            ///
            /// ```
            /// # futures::executor::block_on(async {
            #[doc = concat!("let queue = corio_sync::", stringify!($name), "::new(0);")]
            /// queue.put_nowait(7).unwrap();
            /// queue.shutdown(false);
            /// assert_eq!(queue.get().await, Ok(7));
            /// assert!(queue.get().await.is_err());
            /// # });
            /// ```
            ///
            /// # Errors
            /// [`QueueShutDown`] once the queue is shut down and empty.
            pub async fn get(&self) -> Result<T, QueueShutDown> {
                self.core.get().await
            }

            /// Takes the next item, if there is an unreserved one now.
            ///
            /// ```
            #[doc = concat!("let queue = corio_sync::", stringify!($name), "::new(0);")]
            /// assert_eq!(queue.get_nowait(), Err(corio_sync::GetError::Empty));
            /// queue.put_nowait(7).unwrap();
            /// assert_eq!(queue.get_nowait(), Ok(7));
            /// ```
            ///
            /// # Errors
            /// [`GetError::Empty`], or [`GetError::ShutDown`] if no item will come.
            pub fn get_nowait(&self) -> Result<T, GetError> {
                self.core.get_nowait()
            }

            /// Number of items in the queue.
            ///
            /// ```
            #[doc = concat!("let queue = corio_sync::", stringify!($name), "::new(0);")]
            /// queue.put_nowait(7).unwrap();
            /// assert_eq!(queue.qsize(), 1);
            /// ```
            #[doc(alias = "len")]
            pub fn qsize(&self) -> usize {
                self.core.len()
            }

            /// The maximal number of items; 0 for any number.
            ///
            /// ```
            #[doc = concat!("let queue = corio_sync::", stringify!($name), "::new(3);")]
            /// queue.put_nowait(7).unwrap();
            /// assert_eq!(queue.maxsize(), 3);
            /// ```
            pub fn maxsize(&self) -> usize {
                self.core.maxsize
            }

            /// Whether the queue holds no item. An item granted to a waiting getter still counts until that getter
            /// runs; `get_nowait` does not return it.
            ///
            /// ```
            #[doc = concat!("let queue = corio_sync::", stringify!($name), "::new(0);")]
            /// assert!(queue.empty());
            /// queue.put_nowait(7).unwrap();
            /// assert!(!queue.empty());
            /// ```
            #[doc(alias = "is_empty")]
            pub fn empty(&self) -> bool {
                self.qsize() == 0
            }

            /// Whether there is no unreserved room.
            ///
            /// ```
            #[doc = concat!("let queue = corio_sync::", stringify!($name), "::new(1);")]
            /// assert!(!queue.full());
            /// queue.put_nowait(7).unwrap();
            /// assert!(queue.full());
            /// ```
            #[doc(alias = "is_full")]
            pub fn full(&self) -> bool {
                self.core.full()
            }

            /// Reports that an item taken from the queue was processed (asyncio `task_done`).
            ///
            /// ```
            #[doc = concat!("let queue = corio_sync::", stringify!($name), "::new(0);")]
            /// queue.put_nowait(7).unwrap();
            /// queue.get_nowait().unwrap();
            /// assert!(queue.task_done().is_ok());
            /// assert!(queue.task_done().is_err());
            /// ```
            ///
            /// # Errors
            /// [`TaskDoneError`] if called more often than items were put.
            pub fn task_done(&self) -> Result<(), TaskDoneError> {
                self.core.task_done()
            }

            /// Waits until every item that was put is reported done (asyncio `join`).
            ///
            /// Dropping the future has no effect.
            ///
            /// ```
            /// # futures::executor::block_on(async {
            #[doc = concat!("let queue = corio_sync::", stringify!($name), "::new(0);")]
            /// queue.put_nowait(7).unwrap();
            /// queue.get().await.unwrap();
            /// queue.task_done().unwrap();
            /// queue.join().await;
            /// assert!(queue.empty());
            /// # });
            /// ```
            pub async fn join(&self) {
                self.core.join().await
            }

            /// Shuts the queue down (asyncio `shutdown`): nothing more can be put, and waiting putters get
            /// [`PutError::ShutDown`]. Remaining items can still be taken, unless `immediate`: then they are dropped,
            /// and count as done.
            ///
            /// ```
            #[doc = concat!("let queue = corio_sync::", stringify!($name), "::new(0);")]
            /// queue.put_nowait(7).unwrap();
            /// queue.shutdown(true);
            /// assert_eq!(queue.get_nowait(), Err(corio_sync::GetError::ShutDown));
            /// ```
            pub fn shutdown(&self, immediate: bool) {
                self.core.shutdown(immediate);
            }
        }
    };
}

queue! {
    /// A queue: first in, first out (asyncio `Queue`).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let queue = corio_sync::Queue::new(2);
    /// queue.put("a").await.unwrap();
    /// queue.put_nowait("b").unwrap();
    /// assert!(queue.full() && queue.put_nowait("c").is_err());
    /// assert_eq!(queue.get().await, Ok("a"));
    /// assert_eq!(queue.get_nowait(), Ok("b"));
    /// # });
    /// ```
    #[doc(alias = "mpsc")]
    #[doc(alias = "channel")]
    Queue, VecDeque<T>, VecDeque::new()
}

queue! {
    /// A queue that returns the last item first (asyncio `LifoQueue`).
    ///
    /// ```
    /// let queue = corio_sync::LifoQueue::new(0);
    /// for n in [1, 3, 2] {
    ///     queue.put_nowait(n).unwrap();
    /// }
    /// assert_eq!([(); 3].map(|()| queue.get_nowait().unwrap()), [2, 3, 1]);
    /// ```
    LifoQueue, Vec<T>, Vec::new()
}

queue! {
    /// A queue that returns the smallest item first (asyncio `PriorityQueue`). Equal items come in any order. The
    /// items' `Ord` must not use the queue that they are in: that panics.
    ///
    /// ```
    /// let queue = corio_sync::PriorityQueue::new(0);
    /// for n in [1, 3, 2] {
    ///     queue.put_nowait(n).unwrap();
    /// }
    /// assert_eq!([(); 3].map(|()| queue.get_nowait().unwrap()), [1, 2, 3]);
    /// ```
    PriorityQueue, BinaryHeap<Reverse<T>>, BinaryHeap::new(), Ord
}

impl<T: fmt::Debug> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.describe("Queue", &self.core.items.borrow(), f)
    }
}

impl<T: fmt::Debug> fmt::Debug for LifoQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.describe("LifoQueue", &self.core.items.borrow(), f)
    }
}

impl<T: fmt::Debug> fmt::Debug for PriorityQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items = self.core.items.borrow();
        let items: Vec<&T> = items.iter().map(|Reverse(item)| item).collect();
        self.core.describe("PriorityQueue", &items, f)
    }
}

/// Why an item was not put; holds the item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutError<T> {
    /// The queue is full (asyncio `QueueFull`).
    Full(T),
    /// The queue is shut down (asyncio `QueueShutDown`).
    ShutDown(T),
}

impl<T> PutError<T> {
    /// The item.
    pub fn into_inner(self) -> T {
        match self {
            PutError::Full(item) | PutError::ShutDown(item) => item,
        }
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PutError::Full(_) => "the queue is full",
            PutError::ShutDown(_) => "the queue is shut down",
        })
    }
}

impl<T: fmt::Debug> Error for PutError<T> {}

impl<T> From<PutError<T>> for io::Error {
    fn from(e: PutError<T>) -> io::Error {
        match e {
            PutError::Full(_) => io::Error::new(io::ErrorKind::WouldBlock, "the queue is full"),
            PutError::ShutDown(_) => QueueShutDown(()).into(),
        }
    }
}

/// Why no item was returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GetError {
    /// The queue is empty (asyncio `QueueEmpty`).
    Empty,
    /// The queue is shut down and empty (asyncio `QueueShutDown`).
    ShutDown,
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GetError::Empty => "the queue is empty",
            GetError::ShutDown => "the queue is shut down",
        })
    }
}

impl Error for GetError {}

impl From<GetError> for io::Error {
    fn from(e: GetError) -> io::Error {
        match e {
            GetError::Empty => io::Error::new(io::ErrorKind::WouldBlock, e),
            GetError::ShutDown => QueueShutDown(()).into(),
        }
    }
}

/// The queue is shut down and empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueShutDown(());

error!(QueueShutDown, BrokenPipe, "the queue is shut down");

/// `task_done` was called more often than items were put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskDoneError(());

error!(TaskDoneError, Other, "task_done() called too many times");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_of_items_leaves_no_memory() {
        let (fifo, lifo, heap) = (Queue::new(0), LifoQueue::new(0), PriorityQueue::new(0));
        for n in 0..100_000u64 {
            fifo.put_nowait(n).unwrap();
            lifo.put_nowait(n).unwrap();
            heap.put_nowait(n).unwrap();
        }
        for n in 0..100_000 {
            assert_eq!((fifo.get_nowait(), heap.get_nowait()), (Ok(n), Ok(n)));
            assert_eq!(lifo.get_nowait(), Ok(99_999 - n));
        }
        let capacities = [
            fifo.core.items.borrow().capacity(),
            lifo.core.items.borrow().capacity(),
            heap.core.items.borrow().capacity(),
        ];
        assert!(capacities.iter().all(|items| items * size_of::<u64>() <= KEEP_BYTES), "{capacities:?}");
    }
}
