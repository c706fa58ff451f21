//! The end of a turn: what was written in it leaves, receives that waited for that are armed, closed streams retire.

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
