//! The streams of a loop: readers and writers are names of slots in this table.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    mem::ManuallyDrop,
    task::Waker,
    time::Duration,
};

use corio_runtime::{
    Handle,
    fd::Fd,
    handle,
    op::{self, Sends, TurnEnd},
    service::{LoopLocal, Service, tidy_later, want_round},
    slab::{NONE, Place, Slab, shrink_list, smaller},
    wake,
};

use super::{
    addrs::Addrs,
    chunk::{KeepBlocks, free_bytes, tidy_blocks},
    hang_up::HangUpPoll,
    linger::Linger,
    news::News,
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
/// No memory is larger, so a limit above it is none, and twice the limit is a number.
const LIMIT_MAX: usize = usize::MAX / 2;

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
            debug_assert!(streams.exist(), "the loop has no streams");
            f(streams)
        })
    }

    /// As `with`; `None` outside a running loop.
    #[inline(always)]
    pub(crate) fn try_with<R>(&self, f: impl FnOnce(&Streams) -> R) -> Option<R> {
        // No borrow is held: `f` may drop another loop.
        RUNNING.with(|streams| {
            if !streams.exist() {
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

/// One stream, or a free place for one.
#[derive(Debug)]
pub(crate) struct Slot {
    /// The number of its loop; 0 in a free place.
    home: u64,
    pub(super) index: u32,
    pub(super) generation: u32,
    next_free: u32,
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
    /// A server's handler of it runs.
    handler: bool,
    origin: Origin,
    /// Who waits for the end: one at most, as `wait_closed` takes the writer by `&mut`.
    pub(super) close_waiter: Option<Waker>,
    /// Everybody who waits for its end has been told.
    gone: bool,
    pub(super) linger: Option<Box<Linger>>,
    pub(super) hang_up: HangUpPoll,
}

impl Slot {
    fn free(index: u32, generation: u32, next_free: u32) -> Slot {
        Slot {
            home: 0,
            index,
            generation,
            next_free,
            fd: None,
            receive: Receive::new(0),
            send: Send::new(),
            ahead: false,
            pipe: false,
            one_way: false,
            reader: false,
            writer: false,
            handler: false,
            origin: Origin::Connected,
            close_waiter: None,
            gone: false,
            linger: None,
            hang_up: HangUpPoll::NotYet,
        }
    }

    fn is_free(&self) -> bool {
        self.home == 0
    }
}

impl Place for Slot {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn is_free(&self) -> bool {
        Slot::is_free(self)
    }

    fn next_free(&self) -> u32 {
        self.next_free
    }

    fn set_next_free(&mut self, next: u32) {
        self.next_free = next;
    }
}

/// See the head of the file.
pub(crate) struct Streams {
    inner: RefCell<Inner>,
    /// Streams whose end has not been told.
    open: Cell<usize>,
}

struct Inner {
    /// `None` in an empty table.
    home: Option<Handle>,
    slots: Slab<Slot>,
    common: Common,
}

/// What the streams of a loop have in common.
pub(super) struct Common {
    /// Streams that the end of the turn sends for.
    pub(super) dirty: Vec<u32>,
    /// Streams whose single receive the end of the turn arms.
    pub(super) due: Vec<u32>,
    /// Closed streams that the end of the turn retires.
    pub(super) closed: VecDeque<u32>,
    /// Empty ones.
    #[expect(clippy::vec_box, reason = "a batch goes to the kernel in its box and comes back in it")]
    pub(super) batches: Vec<Box<Batch>>,
    /// What will not be sent, until nothing is borrowed.
    pub(super) unsent: Vec<Load>,
    pub(super) bulk_armed: usize,
    /// A round has been asked for.
    pub(super) round: bool,
}

/// The stream in this place, if there is one.
#[inline(always)]
pub(super) fn taken(slots: &mut Slab<Slot>, index: u32) -> Option<&mut Slot> {
    slots.get_mut(index as usize).filter(|slot| !slot.is_free())
}

impl Streams {
    const fn new() -> Streams {
        let common = Common {
            dirty: Vec::new(),
            due: Vec::new(),
            closed: VecDeque::new(),
            batches: Vec::new(),
            unsent: Vec::new(),
            bulk_armed: 0,
            round: false,
        };
        let inner = Inner { home: None, slots: Slab::new(tidy_later), common };
        Streams { inner: RefCell::new(inner), open: Cell::new(0) }
    }

    fn swap(&self, other: &Streams) {
        self.inner.swap(&other.inner);
        self.open.swap(&other.open);
    }

    pub(super) fn any_open(&self) -> bool {
        self.open.get() > 0
    }

    fn exist(&self) -> bool {
        self.inner.borrow().home.is_some()
    }

    /// A new stream on `fd`; `ahead` arms its receive at once. The place of an accepted one is its handler's, too.
    pub(crate) fn open(
        &self,
        fd: Fd,
        addrs: Addrs,
        limit: usize,
        ahead: bool,
        origin: Origin,
    ) -> (StreamReader, StreamWriter) {
        let key = self.insert(fd, limit, |common, slot| {
            (slot.ahead, slot.origin) = (ahead, origin);
            slot.handler = origin != Origin::Connected;
            slot.arm_receive(common);
        });
        (StreamReader::new(key), StreamWriter::new(key, addrs))
    }

    /// The reading end of a pipe, or with `pipe` off of a socket.
    pub(crate) fn open_read_pipe(&self, fd: Fd, limit: usize, pipe: bool) -> StreamReader {
        let key = self.insert(fd, limit, |_, slot| {
            (slot.pipe, slot.one_way) = (pipe, true);
            slot.writer = false;
        });
        StreamReader::new(key)
    }

    /// The writing end of a pipe, or with `pipe` off of a socket.
    pub(crate) fn open_write_pipe(&self, fd: Fd, pipe: bool) -> StreamWriter {
        let key = self.insert(fd, 0, |_, slot| {
            (slot.pipe, slot.one_way) = (pipe, true);
            slot.reader = false;
            slot.receive.discarded = true;
        });
        StreamWriter::new(key, Addrs::None)
    }

    /// A new stream on `fd`, with both handles, not armed; `set_up` makes it what it should be.
    fn insert(&self, fd: Fd, limit: usize, set_up: impl FnOnce(&mut Common, &mut Slot)) -> StreamKey {
        let Inner { home, slots, common } = &mut *self.inner.borrow_mut();
        let home = home.expect("a table that is used has a loop");
        let (_, slot) = slots.take(|index, generation| Slot::free(index, generation, NONE));
        slot.home = home.number().get();
        (slot.fd, slot.receive.limit) = (Some(fd), limit.min(LIMIT_MAX));
        (slot.reader, slot.writer) = (true, true);
        set_up(common, slot);
        self.open.set(self.open.get() + 1);
        if !std::mem::replace(&mut common.round, true) {
            want_round();
        }
        StreamKey { home, slot: slot.index, generation: slot.generation }
    }

    /// Runs `f` with the stream in this place, if there is one.
    #[inline(always)]
    pub(super) fn with_slot<R>(&self, index: u32, f: impl FnOnce(&mut Common, &mut Slot) -> R) -> Option<R> {
        let Inner { slots, common, .. } = &mut *self.inner.borrow_mut();
        Some(f(common, taken(slots, index)?))
    }

    /// Runs `f` with the places of the streams.
    #[inline(always)]
    pub(super) fn with_slots<R>(&self, f: impl FnOnce(&mut Slab<Slot>) -> R) -> R {
        f(&mut self.inner.borrow_mut().slots)
    }

    /// As `with_slot`; whom `f` returns is woken when the table is free again.
    #[inline(always)]
    pub(super) fn update(&self, index: u32, f: impl FnOnce(&mut Common, &mut Slot) -> Option<Waker>) {
        if let Some(waker) = self.with_slot(index, f).flatten() {
            wake(waker);
        }
    }

    /// Runs `f` with what the streams have in common.
    pub(super) fn with_common<R>(&self, f: impl FnOnce(&mut Common) -> R) -> R {
        f(&mut self.inner.borrow_mut().common)
    }

    /// Tells who waits for the end of a stream whose last operation has ended, and frees its slot once both
    /// handles are gone.
    #[inline(never)]
    pub(super) fn retire(&self, index: u32) {
        // Goes last: its destructors are foreign code.
        let _unsent = self.with_common(|common| std::mem::take(&mut common.unsent));
        // Nothing more comes for the reader of a stream that closes.
        let reader = self.with_slot(index, |_, slot| slot.receive.waker.take_if(|_| slot.receive.discarded));
        reader.flatten().into_iter().for_each(wake);
        let ended = {
            let inner = &mut *self.inner.borrow_mut();
            let Some(slot) = taken(&mut inner.slots, index) else { return };
            if slot.fd.is_some() || slot.in_flight() {
                return;
            }
            // Of an aborted stream. Its end tells nobody, so the end of a turn looks again.
            if slot.send.is_silent() {
                inner.common.closed.push_back(index);
                return;
            }
            if slot.receive.armed == Armed::Idle {
                slot.receive.end(0);
            }
            let told = std::mem::replace(&mut slot.gone, true);
            let waiters = [slot.close_waiter.take(), slot.receive.waker.take(), slot.send.drainer.take()];
            let (origin, handled) = (slot.origin, slot.handler);
            let unused = inner.slots.give_back(index as usize, |slot, next| {
                (!slot.reader && !slot.writer && !slot.handler).then(|| {
                    let place = Slot::free(index, slot.generation.wrapping_add(1), next);
                    std::mem::replace(slot, place)
                })
            });
            self.open.set(self.open.get() - usize::from(!told));
            (told, waiters, (origin, handled), unused)
        };
        let (told, waiters, (origin, handled), unused) = ended;
        drop(unused);
        waiters.into_iter().flatten().for_each(wake);
        if let Origin::Accepted(listener) = origin
            && !told
        {
            listener.connection_gone(handled);
        }
    }

    /// Runs `f` with each stream.
    pub(super) fn each(&self, mut f: impl FnMut(&mut Common, &mut Slot)) {
        let Inner { slots, common, .. } = &mut *self.inner.borrow_mut();
        slots.iter_mut().filter(|(_, slot)| !slot.is_free()).for_each(|(_, slot)| f(common, slot));
    }

    fn each_of(&self, listener: ListenerKey, mut f: impl FnMut(&mut Common, &mut Slot)) {
        self.each(|common, slot| {
            if slot.origin == Origin::Accepted(listener) && !slot.gone {
                f(common, slot);
            }
        });
    }

    /// Closes the connections of a listener.
    pub(crate) fn close_clients(&self, listener: ListenerKey) {
        self.each_of(listener, |common, slot| slot.close(common));
    }

    /// Resets the connections of a listener, and counts them.
    pub(crate) fn abort_clients(&self, listener: ListenerKey) -> usize {
        let mut aborted = Vec::new();
        self.each_of(listener, |common, slot| {
            slot.abort(common);
            aborted.push(slot.index);
        });
        // Goes last: its destructors are foreign code.
        let _unsent = self.with_common(|common| std::mem::take(&mut common.unsent));
        aborted.iter().for_each(|index| self.retire(*index));
        aborted.len()
    }
}

impl Slot {
    pub(super) fn has_reader(&self) -> bool {
        self.reader
    }

    /// Whether the descriptor is closed and nothing is in flight.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// `close`: everything written goes out first.
    pub(super) fn close(&mut self, common: &mut Common) {
        if self.send.phase < Phase::Closing {
            self.send.phase = Phase::Closing;
            self.receive.discarded = true;
            self.receive.thrown_away = 0;
            self.stop_polling();
            News::happened();
            self.mark_dirty(common);
        }
    }

    /// `abort`: nothing more goes out, and the peer sees a reset.
    pub(super) fn abort(&mut self, common: &mut Common) {
        self.stop_watching();
        self.stop_polling();
        if let Some(fd) = &self.fd {
            let _ = fd.reset_on_close();
            self.receive.cancel();
            if let Some(key) = self.send.in_flight {
                op::cancel(key);
            }
        }
        self.send.phase = Phase::Closed;
        News::happened();
        self.send.cut |= self.send.queued > 0;
        self.send.drop_unsent(common);
        self.fd = None;
    }
}

impl Streams {
    /// Sends what was written in this turn.
    #[inline(always)]
    fn flush(&self, end: TurnEnd<'_>) {
        // What is silent may still fail: then its rest comes first.
        if !end.silent_left() && self.flush_dirty(end) {
            self.retire_closed(end);
        }
    }

    /// No foreign code runs here; what runs before the `enter` finds the silent sends in flight. Whether streams have
    /// closed.
    #[inline(always)]
    fn flush_dirty(&self, end: TurnEnd<'_>) -> bool {
        let Inner { slots, common, .. } = &mut *self.inner.borrow_mut();
        let mut flushed = 0;
        while let Some(index) = flush_blocks(slots, &common.dirty, &mut flushed, end.sends()) {
            flushed += 1;
            flush_other(slots, common, index, end);
        }
        common.dirty.clear();
        !common.closed.is_empty()
    }

    #[inline(never)]
    fn retire_closed(&self, end: TurnEnd<'_>) {
        // A panic leaves the rest to the next turn.
        for _ in 0..self.with_common(|common| common.closed.len()) {
            let Some(index) = self.with_common(|common| common.closed.pop_front()) else { break };
            self.retire(index);
        }
        // What foreign code has written or aborted meanwhile is for the next turn, too.
        if self.with_common(|common| !common.dirty.is_empty() || !common.closed.is_empty()) {
            end.stay_awake();
        }
    }

    /// Arms the receives that waited for the sends of the turn to be queued.
    fn arm_due(&self) {
        let Inner { slots, common, .. } = &mut *self.inner.borrow_mut();
        if !common.due.is_empty() {
            arm_each(slots, common);
        }
    }

    fn wants_turn(&self) -> bool {
        self.with_common(|common| {
            !common.dirty.is_empty() || !common.due.is_empty() || !common.closed.is_empty()
        })
    }

    fn busy(&self) -> bool {
        self.inner.borrow().slots.iter().any(|(_, slot)| !slot.is_free() && slot.fd.is_some())
    }

    /// Gives the memory of a peak back.
    fn tidy(&self) {
        let Inner { slots, common, .. } = &mut *self.inner.borrow_mut();
        slots.shrink();
        shrink_list(&mut common.dirty);
        shrink_list(&mut common.due);
        shrink_list(&mut common.unsent);
        let closed = &mut common.closed;
        if let Some(to) = smaller(closed.capacity(), closed.len(), size_of::<u32>()) {
            closed.shrink_to(to);
        }
        common.tidy_batches();
    }

    /// Memory of the table and its lists.
    fn bytes(&self) -> usize {
        let Inner { slots, common, .. } = &*self.inner.borrow();
        let numbers = common.dirty.capacity() + common.due.capacity() + common.closed.capacity();
        slots.bytes() + numbers * size_of::<u32>() + common.batches.len() * size_of::<Batch>()
    }

    fn clear(&self) {
        let slots = {
            let inner = &mut *self.inner.borrow_mut();
            self.open.set(0);
            News::happened();
            inner.common.dirty.clear();
            inner.common.due.clear();
            inner.common.closed.clear();
            inner.common.batches.clear();
            inner.common.round = false;
            inner.slots.take_all()
        };
        drop(slots);
    }
}

/// From the `flushed`th stream on to the first that needs more than that.
#[inline(always)]
fn flush_blocks(
    slots: &mut Slab<Slot>,
    dirty: &[u32],
    flushed: &mut usize,
    mut sends: Sends<'_>,
) -> Option<u32> {
    for &index in dirty.get(*flushed..)? {
        if let Some(slot) = taken(slots, index)
            && !slot.flush_block(&mut sends)
        {
            return Some(index);
        }
        *flushed += 1;
    }
    None
}

#[inline(never)]
fn flush_other(slots: &mut Slab<Slot>, common: &mut Common, index: u32, end: TurnEnd<'_>) {
    let Some(slot) = taken(slots, index) else { return };
    slot.flush(common, Some(end));
    if slot.send.closing() {
        if slot.fd.is_some() {
            slot.stay_closing(common);
        }
        common.closed.push_back(index);
    }
}

#[inline(never)]
fn arm_each(slots: &mut Slab<Slot>, common: &mut Common) {
    for next in 0..common.due.len() {
        if let Some(slot) = taken(slots, common.due[next]) {
            slot.arm_due(common);
        }
    }
    common.due.clear();
}

impl Share {
    fn new() -> Share {
        let streams = Streams::new();
        streams.inner.borrow_mut().home = Some(handle());
        Share(streams, KeepBlocks::new())
    }
}

/// All but `entered`, `left` and `wants_turn` are called while the loop is the running one.
impl Service for Share {
    fn entered(&self) {
        RUNNING.with(|running| running.swap(&self.0));
        News::happened();
    }

    fn left(&self) {
        RUNNING.with(|running| running.swap(&self.0));
        News::happened();
    }

    fn before_submit(&self, end: TurnEnd<'_>) {
        RUNNING.with(|streams| {
            streams.flush(end);
            streams.arm_due();
        });
    }

    fn wants_turn(&self) -> bool {
        // Only one of the two is this loop's.
        if self.0.exist() { self.0.wants_turn() } else { RUNNING.with(|streams| streams.wants_turn()) }
    }

    fn end(&self, total: Duration, idle: Duration) {
        RUNNING.with(|streams| streams.end(total, idle));
    }

    fn busy(&self) -> bool {
        RUNNING.with(|streams| streams.busy())
    }

    fn round(&self) {
        RUNNING.with(|streams| streams.round(0));
    }

    fn tidy(&self) -> bool {
        RUNNING.with(|streams| streams.tidy());
        tidy_blocks()
    }

    fn bytes(&self) -> usize {
        RUNNING.with(|streams| streams.bytes()) + free_bytes()
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
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Common, &mut Slot) -> R) -> io::Result<R> {
        let found = RUNNING.with(|streams| {
            let Inner { slots, common, .. } = &mut *streams.inner.borrow_mut();
            match slots.get_mut(self.slot as usize) {
                Some(slot) if slot.generation == self.generation && slot.home == self.home.number().get() => {
                    Some(f(common, slot))
                }
                _ => None,
            }
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
    pub(super) fn at_home(
        self,
        f: impl FnOnce(&mut Common, &mut Slot) -> Option<Waker> + std::marker::Send + 'static,
    ) {
        self.home.run_at_home(move || {
            // Goes last: its destructor is foreign code.
            if let Ok(_unused) = self.with(f) {
                self.retire();
            }
        });
    }

    pub(super) fn retire(self) {
        TABLE.try_with(|streams| streams.retire(self.slot));
    }

    /// The reader was dropped: nothing more is received, the writer goes on if there is one.
    pub(super) fn drop_reader(self) {
        self.at_home(|common, slot| {
            slot.reader = false;
            if !slot.writer {
                slot.close(common);
            }
            slot.receive.discarded = true;
            slot.receive.buf = Default::default();
            // One that closes takes in and throws away what comes.
            if !slot.send.closing() {
                slot.receive.cancel();
            }
            slot.receive.waker.take()
        });
    }

    /// The writer was dropped: as `close`.
    pub(super) fn drop_writer(self) {
        self.at_home(|common, slot| {
            slot.writer = false;
            slot.close(common);
            slot.send.drainer.take()
        });
    }

    /// The handler of an accepted stream has ended.
    pub(crate) fn handler_ended(self) {
        self.home.run_at_home(move || {
            let ended = self.with(|_, slot| {
                slot.handler = false;
                (slot.origin, !slot.gone)
            });
            if let Ok((Origin::Accepted(listener), connected)) = ended {
                listener.handler_gone(connected);
            }
            self.retire();
        });
    }

    /// From now on the multishot receive is armed ahead of the reader.
    pub(crate) fn read_ahead(self) {
        let _ = self.with(|common, slot| {
            slot.ahead = true;
            slot.arm_receive(common);
        });
    }
}
