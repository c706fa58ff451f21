//! The streams of a loop: readers and writers are names of slots in this table.

use std::{
    cell::{Cell, RefCell},
    io,
    mem::ManuallyDrop,
    task::Waker,
};

use corio_runtime::{
    Handle,
    fd::Fd,
    handle,
    op::{self, TurnEnd},
    service::{LoopLocal, Service},
    wake,
};

use super::{
    chunk::KeepBlocks,
    reader::StreamReader,
    receive::{Armed, Receive},
    send::{Phase, Send},
    writer::StreamWriter,
};
use crate::{
    listener::ListenerKey,
    ops::{Batch, Load},
};

/// asyncio's limit of a stream.
pub(crate) const DEFAULT_LIMIT: usize = 64 << 10;

static SERVICE: LoopLocal<Share> = LoopLocal::new(Share::new);

thread_local! {
    /// The table of the running loop, so that the hot path finds it in a few instructions; else an empty one. Without
    /// a destructor, so that no access asks whether it has run: outside any run there is nothing in it.
    static RUNNING: ManuallyDrop<Streams> = const { ManuallyDrop::new(Streams::new()) };
}

/// The table of a loop while another, or none, is running: it changes places with the one in `RUNNING`.
struct Share(Streams, KeepBlocks);

/// The streams of the running loop.
pub(crate) struct Table(());

pub(crate) static TABLE: Table = Table(());

impl Table {
    /// Runs `f` with the table.
    ///
    /// # Panics
    /// Outside a running loop.
    #[track_caller]
    pub(crate) fn with<R>(&self, f: impl FnOnce(&Streams) -> R) -> R {
        // Made when first used.
        SERVICE.with(|_| ());
        self.existing(f)
    }

    /// Runs `f` with the table where there is one: the completion of an operation that a stream started needs not ask.
    #[inline(always)]
    pub(crate) fn existing<R>(&self, f: impl FnOnce(&Streams) -> R) -> R {
        RUNNING.with(|streams| {
            debug_assert!(streams.home.get().is_some(), "the loop has no streams");
            f(streams)
        })
    }

    /// As `with`; `None` outside a running loop.
    #[inline(always)]
    pub(crate) fn try_with<R>(&self, f: impl FnOnce(&Streams) -> R) -> Option<R> {
        // No borrow is held: `f` may drop another loop.
        RUNNING.with(|streams| {
            if streams.home.get().is_none() {
                // Made when first used; that puts it here.
                SERVICE.try_with(|_| ())?;
            }
            Some(f(streams))
        })
    }
}

/// Names a stream of one loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamKey {
    pub(crate) home: Handle,
    pub(super) slot: u32,
    generation: u32,
}

/// Where a connection came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Connected,
    Accepted(ListenerKey),
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(super) index: u32,
    generation: u32,
    pub(super) fd: Option<Fd>,
    pub(super) receive: Receive,
    pub(super) send: Send,
    /// Whether the multishot receive is armed ahead of the reader.
    pub(super) ahead: bool,
    /// Not a socket: it is read and written.
    pub(super) pipe: bool,
    /// A reader or a writer is all there ever was.
    pub(super) one_way: bool,
    reader: bool,
    writer: bool,
    origin: Origin,
    /// Who waits for the end: one at most, as `wait_closed` takes the writer by `&mut`.
    pub(super) close_waiter: Option<Waker>,
    /// Everybody who waits for its end has been told.
    gone: bool,
}

/// Streams live in the table itself: most places are taken.
enum Place {
    Free { next: u32, generation: u32 },
    Taken(Slot),
}

const NONE: u32 = u32::MAX;

/// See the head of the file.
pub(crate) struct Streams {
    /// `None` in an empty table.
    home: Cell<Option<Handle>>,
    places: RefCell<Vec<Place>>,
    free: Cell<u32>,
    pub(super) dirty: RefCell<Vec<u32>>,
    /// Empty ones.
    #[expect(clippy::vec_box, reason = "a batch goes to the kernel in its box and comes back in it")]
    pub(super) batches: RefCell<Vec<Box<Batch>>>,
    /// What will not be sent, until nothing is borrowed.
    pub(super) unsent: RefCell<Vec<Load>>,
    pub(super) bulk_armed: Cell<usize>,
    /// Streams whose single receive the end of the turn arms.
    pub(super) due: RefCell<Vec<u32>>,
    /// Streams whose end has not been told.
    open: Cell<usize>,
}

impl Streams {
    const fn new() -> Streams {
        Streams {
            home: Cell::new(None),
            places: RefCell::new(Vec::new()),
            free: Cell::new(NONE),
            dirty: RefCell::new(Vec::new()),
            batches: RefCell::new(Vec::new()),
            unsent: RefCell::new(Vec::new()),
            bulk_armed: Cell::new(0),
            due: RefCell::new(Vec::new()),
            open: Cell::new(0),
        }
    }

    /// One comparison, where those of `Option<Handle>` would be two.
    #[inline(always)]
    fn are_of(&self, home: Handle) -> bool {
        self.home.get().map(|home| home.number()) == Some(home.number())
    }

    fn swap(&self, other: &Streams) {
        self.home.swap(&other.home);
        self.places.swap(&other.places);
        self.free.swap(&other.free);
        self.dirty.swap(&other.dirty);
        self.batches.swap(&other.batches);
        self.unsent.swap(&other.unsent);
        self.bulk_armed.swap(&other.bulk_armed);
        self.due.swap(&other.due);
        self.open.swap(&other.open);
    }

    /// A new stream on `fd`; `ahead` arms its receive at once.
    pub(crate) fn open(
        &self,
        fd: Fd,
        limit: usize,
        ahead: bool,
        origin: Origin,
    ) -> (StreamReader, StreamWriter) {
        let key = self.insert(fd, limit, |slot| {
            (slot.ahead, slot.origin) = (ahead, origin);
            slot.arm_receive(self);
        });
        (StreamReader::new(key), StreamWriter::new(key))
    }

    /// The reading end of a pipe, or with `pipe` off of a socket.
    pub(crate) fn open_read_pipe(&self, fd: Fd, limit: usize, pipe: bool) -> StreamReader {
        let key = self.insert(fd, limit, |slot| {
            (slot.pipe, slot.one_way) = (pipe, true);
            slot.writer = false;
        });
        StreamReader::new(key)
    }

    /// The writing end of a pipe, or with `pipe` off of a socket.
    pub(crate) fn open_write_pipe(&self, fd: Fd, pipe: bool) -> StreamWriter {
        let key = self.insert(fd, 0, |slot| {
            (slot.pipe, slot.one_way) = (pipe, true);
            slot.reader = false;
            slot.receive.discarded = true;
        });
        StreamWriter::new(key)
    }

    /// A new stream on `fd`, with both handles, not armed; `set_up` makes it what it should be.
    fn insert(&self, fd: Fd, limit: usize, set_up: impl FnOnce(&mut Slot)) -> StreamKey {
        let home = self.home.get().expect("a table that is used has a loop");
        let mut places = self.places.borrow_mut();
        let index = self.free.get();
        let (index, generation) = if index == NONE {
            places.push(Place::Free { next: NONE, generation: 0 });
            (places.len() as u32 - 1, 0)
        } else {
            let Place::Free { next, generation } = places[index as usize] else {
                unreachable!("the free list leads to a stream in use")
            };
            self.free.set(next);
            (index, generation)
        };
        let mut slot = Slot {
            index,
            generation,
            fd: Some(fd),
            receive: Receive::new(limit),
            send: Send::new(),
            ahead: false,
            pipe: false,
            one_way: false,
            reader: true,
            writer: true,
            origin: Origin::Connected,
            close_waiter: None,
            gone: false,
        };
        set_up(&mut slot);
        self.open.set(self.open.get() + 1);
        places[index as usize] = Place::Taken(slot);
        StreamKey { home, slot: index, generation }
    }

    /// Runs `f` with the stream in this place, if there is one.
    #[inline(always)]
    pub(super) fn with_slot<R>(&self, index: u32, f: impl FnOnce(&mut Slot) -> R) -> Option<R> {
        match self.places.borrow_mut().get_mut(index as usize) {
            Some(Place::Taken(slot)) => Some(f(slot)),
            _ => None,
        }
    }

    /// As `with_slot`; whom `f` returns is woken when the table is free again.
    #[inline(always)]
    pub(super) fn update(&self, index: u32, f: impl FnOnce(&mut Slot) -> Option<Waker>) {
        if let Some(waker) = self.with_slot(index, f).flatten() {
            waker.wake();
        }
    }

    /// Tells who waits for the end of a stream whose last operation has ended, and frees its slot once both
    /// handles are gone.
    #[inline(never)]
    pub(super) fn retire(&self, index: u32) {
        if !self.unsent.borrow().is_empty() {
            drop(self.unsent.take());
        }
        let ended = {
            let mut places = self.places.borrow_mut();
            let Some(Place::Taken(slot)) = places.get_mut(index as usize) else { return };
            if slot.fd.is_some() || slot.receive.in_flight() || slot.send.in_flight.is_some() {
                return;
            }
            if slot.receive.armed == Armed::Idle {
                slot.receive.armed = Armed::Ended(0);
            }
            let told = std::mem::replace(&mut slot.gone, true);
            self.open.set(self.open.get() - usize::from(!told));
            let waiters = [slot.close_waiter.take(), slot.receive.waker.take(), slot.send.drainer.take()];
            let origin = slot.origin;
            let unused = if slot.reader || slot.writer {
                None
            } else {
                let generation = slot.generation.wrapping_add(1);
                let free = Place::Free { next: self.free.replace(index), generation };
                Some(std::mem::replace(&mut places[index as usize], free))
            };
            (told, waiters, origin, unused)
        };
        let (told, waiters, origin, unused) = ended;
        drop(unused);
        waiters.into_iter().flatten().for_each(wake);
        if let Origin::Accepted(listener) = origin
            && !told
        {
            listener.connection_gone();
        }
    }

    fn each_of(&self, listener: ListenerKey, mut f: impl FnMut(&Streams, &mut Slot)) {
        for place in self.places.borrow_mut().iter_mut() {
            if let Place::Taken(slot) = place
                && slot.origin == Origin::Accepted(listener)
                && !slot.gone
            {
                f(self, slot);
            }
        }
    }

    /// Closes the connections of a listener.
    pub(crate) fn close_clients(&self, listener: ListenerKey) {
        self.each_of(listener, |streams, slot| slot.close(streams));
    }

    /// Resets the connections of a listener, and counts them.
    pub(crate) fn abort_clients(&self, listener: ListenerKey) -> usize {
        let mut aborted = Vec::new();
        self.each_of(listener, |streams, slot| {
            slot.abort(streams);
            aborted.push(slot.index);
        });
        aborted.iter().for_each(|index| self.retire(*index));
        aborted.len()
    }
}

impl Slot {
    /// Whether the descriptor is closed and nothing is in flight.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// `close`: everything written goes out first.
    pub(super) fn close(&mut self, streams: &Streams) {
        if self.send.phase < Phase::Closing {
            self.send.phase = Phase::Closing;
            self.mark_dirty(streams);
        }
    }

    /// `abort`: nothing more goes out, and the peer sees a reset.
    pub(super) fn abort(&mut self, streams: &Streams) {
        if let Some(fd) = &self.fd {
            let _ = fd.reset_on_close();
            self.receive.cancel();
            if let Some(key) = self.send.in_flight {
                op::cancel(key);
            }
        }
        self.send.phase = Phase::Closed;
        self.send.cut |= self.send.queued > 0;
        self.send.drop_unsent(streams);
        self.fd = None;
    }
}

impl Streams {
    /// Sends what was written in this turn.
    #[inline(always)]
    fn flush(&self, end: TurnEnd<'_>) {
        // What foreign code writes meanwhile leaves as well: the loop may sleep next.
        for next in 0.. {
            let Some(index) = self.dirty.borrow().get(next).copied() else { break };
            let closed = self.with_slot(index, |slot| {
                slot.flush(self, Some(end));
                slot.fd.is_none()
            });
            if closed == Some(true) {
                self.retire(index);
            }
        }
        self.dirty.borrow_mut().clear();
    }

    /// Arms the receives that waited for the sends of the turn to be queued.
    #[inline(never)]
    fn arm_due(&self) {
        for next in 0.. {
            let Some(index) = self.due.borrow().get(next).copied() else { break };
            self.with_slot(index, |slot| slot.arm_due(self));
        }
        self.due.borrow_mut().clear();
    }

    fn wants_turn(&self) -> bool {
        !self.dirty.borrow().is_empty() || !self.due.borrow().is_empty()
    }

    fn busy(&self) -> bool {
        let busy =
            |place: &Place| matches!(place, Place::Taken(slot) if slot.fd.is_some() && slot.send.busy());
        self.places.borrow().iter().any(busy)
    }

    fn clear(&self) {
        self.open.set(0);
        let places = std::mem::take(&mut *self.places.borrow_mut());
        self.free.set(NONE);
        drop(places);
        self.dirty.borrow_mut().clear();
        self.due.borrow_mut().clear();
        self.batches.borrow_mut().clear();
    }
}

impl Share {
    fn new() -> Share {
        let streams = Streams::new();
        streams.home.set(Some(handle()));
        Share(streams, KeepBlocks::new())
    }
}

/// All but `entered`, `left` and `wants_turn` are called while the loop is the running one.
impl Service for Share {
    fn entered(&self) {
        RUNNING.with(|running| running.swap(&self.0));
    }

    fn left(&self) {
        RUNNING.with(|running| running.swap(&self.0));
    }

    fn before_submit(&self, end: TurnEnd<'_>) {
        RUNNING.with(|streams| {
            streams.flush(end);
            if !streams.due.borrow().is_empty() {
                streams.arm_due();
            }
        });
    }

    fn wants_turn(&self) -> bool {
        // Only one of the two is this loop's.
        match self.0.home.get() {
            Some(_) => self.0.wants_turn(),
            None => RUNNING.with(|streams| streams.wants_turn()),
        }
    }

    fn busy(&self) -> bool {
        RUNNING.with(|streams| streams.busy())
    }

    fn connections(&self) -> usize {
        RUNNING.with(|streams| streams.open.get())
    }

    fn close(&self) {
        RUNNING.with(|streams| streams.clear());
    }
}

impl StreamKey {
    /// Runs `f` with the stream.
    ///
    /// # Errors
    /// On another loop: "attached to a different loop". After the loop's end: not connected.
    #[inline(always)]
    pub(super) fn with<R>(self, f: impl FnOnce(&Streams, &mut Slot) -> R) -> io::Result<R> {
        let found = RUNNING.with(|streams| match streams.places.borrow_mut().get_mut(self.slot as usize) {
            Some(Place::Taken(slot)) if slot.generation == self.generation && streams.are_of(self.home) => {
                Some(f(streams, slot))
            }
            _ => None,
        });
        found.ok_or_else(|| self.absent())
    }

    #[cold]
    fn absent(self) -> io::Error {
        if self.home.is_current() {
            io::ErrorKind::NotConnected.into()
        } else {
            io::Error::other("the stream is attached to a different loop")
        }
    }

    /// Runs `f` on the stream's own loop, with its slot looked after, and drops the waker that it returns once
    /// nothing is borrowed.
    fn at_home(self, f: impl FnOnce(&Streams, &mut Slot) -> Option<Waker> + std::marker::Send + 'static) {
        self.home.run_at_home(move || {
            if let Ok(unused) = self.with(f) {
                drop(unused);
                self.retire();
            }
        });
    }

    pub(super) fn retire(self) {
        TABLE.try_with(|streams| streams.retire(self.slot));
    }

    /// The reader was dropped: nothing more is received, the writer goes on if there is one.
    pub(super) fn drop_reader(self) {
        self.at_home(|streams, slot| {
            slot.reader = false;
            if !slot.writer {
                slot.close(streams);
            }
            slot.receive.discarded = true;
            slot.receive.buf = Default::default();
            slot.receive.cancel();
            slot.receive.waker.take()
        });
    }

    /// The writer was dropped: as `close`.
    pub(super) fn drop_writer(self) {
        self.at_home(|streams, slot| {
            slot.writer = false;
            slot.close(streams);
            slot.send.drainer.take()
        });
    }

    /// From now on the multishot receive is armed ahead of the reader.
    pub(crate) fn read_ahead(self) {
        let _ = self.with(|streams, slot| {
            slot.ahead = true;
            slot.arm_receive(streams);
        });
    }
}
