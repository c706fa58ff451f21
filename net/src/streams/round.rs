//! Once a minute the loop polls each stream for a hang-up: some kernels do not report one that arrives together with
//! data.

use corio_runtime::{call_soon, fd::Fd, service::want_round, socket::hung_up};

use super::{
    receive_state::Armed,
    table::{Streams, taken, try_running},
};

/// Streams polled in one turn.
const AT_ONCE: usize = 256;

impl Streams {
    /// Polls the streams from slot `from` on.
    #[cold]
    pub(super) fn round(&self, from: usize) {
        let next = self.with_slots(|slots| {
            let mut waiting = Vec::new();
            let end = slots.end().min(from + AT_ONCE);
            let last = end == slots.end();
            let strays = slots.strays().filter(|_| last);
            for slot in (from..end).filter_map(|index| slots.get(index)).chain(strays) {
                if let (Armed::Multi(_), Some(fd)) = (slot.receive.armed, &slot.fd) {
                    waiting.push((slot.index, fd.clone()));
                }
            }
            let (indices, fds): (Vec<u32>, Vec<Fd>) = waiting.into_iter().unzip();
            for place in hung_up(&fds) {
                // The next receive looks at the socket anew.
                if let Some(slot) = taken(slots, indices[place]) {
                    slot.receive.cancel();
                }
            }
            (!last).then_some(end)
        });
        match next {
            Some(next) => drop(call_soon(move || {
                try_running(|streams| streams.round(next));
            })),
            None if self.any_open() => want_round(),
            None => self.with_common(|common| common.round = false),
        }
    }
}
