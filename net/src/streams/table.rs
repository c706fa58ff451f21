//! The table of a loop's streams; the handles name its slots.

use std::{
    cell::{Cell, RefCell},
    io,
    mem::ManuallyDrop,
    task::Waker,
};

use corio_runtime::{
    Handle,
    fd::Fd,
    op::Receiver,
    service::{tidy_later, want_round},
    slab::{NONE, Slab},
    wake,
};

use super::{common::Common, slot::Slot};

/// Default limit of a stream, as asyncio's.
pub(crate) const DEFAULT_LIMIT: usize = 64 << 10;
/// Larger limits mean no limit. Twice the limit must not overflow.
const LIMIT_MAX: usize = usize::MAX / 2;

thread_local! {
    /// The table of the running loop, so that the hot path finds it in a few instructions; otherwise an empty table. No
    /// destructor, so an access need not check for it: it is empty outside a run.
    pub(super) static RUNNING: ManuallyDrop<Streams> =
        const { ManuallyDrop::new(Streams::new(None, &NOBODY)) };
}

/// For the empty table, which arms nothing.
static NOBODY: Receiver = Receiver { data: |_| {}, end: |_, _| {} };

/// Runs `f` with the table of the running loop. For completions of the streams' operations: there is always a table.
#[inline(always)]
pub(super) fn running<R>(f: impl FnOnce(&Streams) -> R) -> R {
    RUNNING.with(|streams| {
        debug_assert!(streams.exist(), "the loop has no streams");
        f(streams)
    })
}

/// As `running`; `None` if there is no table.
#[inline(always)]
pub(super) fn try_running<R>(f: impl FnOnce(&Streams) -> R) -> Option<R> {
    // No borrow is held here: `f` may drop another loop.
    RUNNING.with(|streams| streams.exist().then(|| f(streams)))
}

/// Names a stream of one loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamKey {
    pub(crate) home: Handle,
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// See the head of the file.
pub(crate) struct Streams {
    pub(super) inner: RefCell<Inner>,
    /// Streams whose end was not reported yet.
    pub(super) open: Cell<usize>,
}

pub(super) struct Inner {
    /// `None` in an empty table.
    pub(super) home: Option<Handle>,
    pub(super) slots: Slab<Slot>,
    pub(super) common: Common,
}

/// The stream in this slot, if there is one.
#[inline(always)]
pub(super) fn taken(slots: &mut Slab<Slot>, index: u32) -> Option<&mut Slot> {
    slots.get_mut(index as usize).filter(|slot| !slot.is_free())
}

impl Streams {
    /// The table of loop `home`, or an empty one.
    pub(super) const fn new(home: Option<Handle>, receiver: &'static Receiver) -> Streams {
        let inner = Inner { home, slots: Slab::new(tidy_later), common: Common::new(receiver) };
        Streams { inner: RefCell::new(inner), open: Cell::new(0) }
    }

    pub(super) fn swap(&self, other: &Streams) {
        self.inner.swap(&other.inner);
        self.open.swap(&other.open);
    }

    pub(super) fn any_open(&self) -> bool {
        self.open.get() > 0
    }

    pub(super) fn exist(&self) -> bool {
        self.inner.borrow().home.is_some()
    }

    /// A new stream on `fd`, with both handles and no receive. `set_up` adjusts it.
    pub(super) fn insert(
        &self,
        fd: Fd,
        limit: usize,
        set_up: impl FnOnce(&mut Common, &mut Slot),
    ) -> StreamKey {
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

    /// Runs `f` with the stream in this slot, if there is one.
    #[inline(always)]
    pub(super) fn with_slot<R>(&self, index: u32, f: impl FnOnce(&mut Common, &mut Slot) -> R) -> Option<R> {
        let Inner { slots, common, .. } = &mut *self.inner.borrow_mut();
        Some(f(common, taken(slots, index)?))
    }

    /// Runs `f` with all slots.
    #[inline(always)]
    pub(super) fn with_slots<R>(&self, f: impl FnOnce(&mut Slab<Slot>) -> R) -> R {
        f(&mut self.inner.borrow_mut().slots)
    }

    /// As `with_slot`; wakes the waker that `f` returns once the table is no longer borrowed.
    #[inline(always)]
    pub(super) fn update(&self, index: u32, f: impl FnOnce(&mut Common, &mut Slot) -> Option<Waker>) {
        if let Some(waker) = self.with_slot(index, f).flatten() {
            wake(waker);
        }
    }

    /// Runs `f` with what the streams share.
    pub(super) fn with_common<R>(&self, f: impl FnOnce(&mut Common) -> R) -> R {
        f(&mut self.inner.borrow_mut().common)
    }

    /// Runs `f` with each stream.
    pub(super) fn each(&self, mut f: impl FnMut(&mut Common, &mut Slot)) {
        let Inner { slots, common, .. } = &mut *self.inner.borrow_mut();
        slots.iter_mut().filter(|(_, slot)| !slot.is_free()).for_each(|(_, slot)| f(common, slot));
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
}
