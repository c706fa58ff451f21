//! The end of a turn: sends what was written, arms the receives that waited for that, retires closed streams.

use corio_runtime::{
    op::{Sends, TurnEnd},
    slab::Slab,
};

use super::{
    common::Common,
    slot::Slot,
    table::{Inner, Streams, taken},
};

impl Streams {
    /// Sends what was written in this turn.
    #[inline(always)]
    pub(super) fn flush(&self, end: TurnEnd<'_>) {
        // A silent send of an earlier turn may still be partial: its rest must go first.
        if !end.silent_left() && self.flush_dirty(end) {
            self.retire_closed(end);
        }
    }

    /// Submits the sends; whether streams have closed. No foreign code runs here: code that runs before the `enter`
    /// must find the silent sends in flight.
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
        // After a panic the next turn continues.
        for _ in 0..self.with_common(|common| common.closed.len()) {
            let Some(index) = self.with_common(|common| common.closed.pop_front()) else { break };
            self.retire(index);
        }
        // Foreign code may have written or aborted: the next turn sees to that.
        if self.with_common(|common| !common.dirty.is_empty() || !common.closed.is_empty()) {
            end.stay_awake();
        }
    }

    /// Arms the single receives, after the sends of this turn.
    pub(super) fn arm_due(&self) {
        let Inner { slots, common, .. } = &mut *self.inner.borrow_mut();
        if !common.due.is_empty() {
            arm_each(slots, common);
        }
    }

    pub(super) fn wants_turn(&self) -> bool {
        self.with_common(|common| {
            !common.dirty.is_empty() || !common.due.is_empty() || !common.closed.is_empty()
        })
    }
}

/// Sends for the streams from number `flushed` on, up to the first one that needs more than a silent send.
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
