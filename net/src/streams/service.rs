//! The streams as a service of their loop: made at first use, called at the end of each turn, closed with the loop.

use std::time::Duration;

use corio_runtime::{
    handle,
    op::TurnEnd,
    service::{LoopLocal, Service},
    slab::{shrink_list, smaller},
};

use super::{
    chunk::{KeepBlocks, free_bytes, tidy_blocks},
    completions::RECV_MULTI,
    news::News,
    table::{Inner, RUNNING, Streams, running},
};
use crate::ops::Batch;

static SERVICE: LoopLocal<Share> = LoopLocal::new(Share::new);

/// Table of a loop. While the loop runs, its table is in `RUNNING`, and the empty one is here.
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
        // Made at first use.
        SERVICE.with(|_| ());
        running(f)
    }

    /// As `with`; `None` outside a running loop.
    #[inline(always)]
    pub(crate) fn try_with<R>(&self, f: impl FnOnce(&Streams) -> R) -> Option<R> {
        // No borrow is held here: `f` may drop another loop.
        RUNNING.with(|streams| {
            if !streams.exist() {
                // Making it moves it into `RUNNING`.
                SERVICE.try_with(|_| ())?;
            }
            Some(f(streams))
        })
    }
}

impl Share {
    fn new() -> Share {
        Share(Streams::new(Some(handle()), &RECV_MULTI), KeepBlocks::new())
    }
}

/// All methods but `entered`, `left` and `wants_turn` are called while the loop runs on this thread.
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
        // If the table here is not empty, it is this loop's; else this loop's is in `RUNNING`.
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

impl Streams {
    fn busy(&self) -> bool {
        self.inner.borrow().slots.iter().any(|(_, slot)| !slot.is_free() && slot.fd.is_some())
    }

    /// Frees memory after a peak.
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
