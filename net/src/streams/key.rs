//! What handles do to their streams by key, on the stream's loop or on another one.

use std::task::Waker;

use super::{
    common::Common,
    slot::Slot,
    table::{StreamKey, try_running},
};
use crate::listener::ListenerKey;

impl StreamKey {
    /// Runs `f` on the stream's own loop, then retires the stream if it has ended. The waker that `f` returns is
    /// dropped while nothing is borrowed.
    pub(super) fn at_home(self, f: impl FnOnce(&mut Common, &mut Slot) -> Option<Waker> + Send + 'static) {
        self.home.run_at_home(move || {
            // Last: its destructor is foreign code.
            if let Ok(_unused) = self.with(f) {
                self.retire();
            }
        });
    }

    pub(super) fn retire(self) {
        try_running(|streams| streams.retire(self.slot));
    }

    /// The reader was dropped: nothing more is received for it. The writer, if there is one, continues.
    pub(super) fn drop_reader(self) {
        self.at_home(|common, slot| {
            slot.reader = false;
            if !slot.writer {
                slot.close(common);
            }
            slot.receive.discarded = true;
            slot.receive.buf = Default::default();
            // A closing stream receives on, and discards the bytes.
            if !slot.send.closing() {
                slot.receive.cancel();
            }
            slot.receive.waker.take()
        });
    }

    /// The writer was dropped, which closes the stream.
    pub(super) fn drop_writer(self) {
        self.at_home(|common, slot| {
            slot.writer = false;
            slot.close(common);
            slot.send.drainer.take()
        });
    }

    /// For a task of the stream's loop.
    pub(crate) fn local(self) -> LocalStream {
        LocalStream { slot: self.slot, generation: self.generation }
    }

    /// From now on the multishot receive is armed ahead of the reader.
    pub(crate) fn read_ahead(self) {
        let _ = self.with(|common, slot| {
            slot.ahead = true;
            slot.arm_receive(common);
        });
    }
}

/// Names a stream of the running loop. Only for what never leaves its loop, as a task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalStream {
    slot: u32,
    generation: u32,
}

impl LocalStream {
    /// The handler of an accepted stream has ended.
    pub(crate) fn handler_ended(self) {
        let Some(home) = try_running(|streams| streams.inner.borrow().home).flatten() else { return };
        let key = StreamKey { home, slot: self.slot, generation: self.generation };
        let ended = key.with(|_, slot| {
            slot.handler = false;
            (slot.listener, !slot.gone)
        });
        if let Ok((Some(listener), connected)) = ended {
            ListenerKey::of(home, listener).handler_gone(connected);
        }
        key.retire();
    }
}
