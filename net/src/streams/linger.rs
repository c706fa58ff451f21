//! Lingering: after `close`, what was written arrives although the peer may send on, and no peer holds a connection for
//! ever.
//!
//! ```text
//!             kernel has everything            end of stream from the peer, or all acknowledged and nothing received
//!    Closing ───────────────────────▶ Lingering ─────────────────────────────────────────────────────────────▶ Closed
//!       │ half-closes the connection     │
//!       └──────── a limit has passed ────┴──▶ Closed, by a reset if something was not acknowledged
//! ```
//! A socket that is closed with unread data, or that receives data after its close, answers with a RST, which discards
//! data that the peer has not read. So after `close` the stream receives on and discards. The kernel has no event for
//! "all acknowledged", so a timer checks for it, in growing intervals, only while a connection closes.

use std::time::Duration;

use corio_runtime::{TimerHandle, call_later, socket::Unread, time::now};

use super::{
    common::Common,
    send_state::Phase,
    slot::Slot,
    table::{Streams, running},
    watch::{Linger, Progress, Watch},
};

/// Default limits: for all of the lingering, and for a time in which no byte moves.
const TOTAL: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(5);
/// Interval of the first check after the close; each further one is twice as long.
const FIRST_LOOK: Duration = Duration::from_millis(1);
/// Checks per idle limit: the limit is noticed a sixteenth late at most.
const LOOKS_PER_IDLE: u32 = 16;

impl Slot {
    /// Sets the limits, also of a stream that is closing.
    pub(super) fn set_linger(&mut self, total: Duration, idle: Duration) {
        self.make_ending().linger = Some(Box::new(Linger { total, idle, watch: None }));
        if self.send.closing() {
            self.watch_end();
        }
    }

    /// The kernel has taken everything: closes at once if no data can be lost, else lingers.
    pub(super) fn finish(&mut self, common: &mut Common) {
        if self.one_way || self.receive.has_ended() || self.send.broken != 0 {
            return self.close_fd();
        }
        match self.is_settled() {
            Ok(true) => self.close_fd(),
            Ok(false) => {
                self.send.phase = Phase::Lingering;
                self.shut_down_writing();
                self.arm_receive(common);
            }
            Err(errno) => self.fail(common, errno),
        }
    }

    /// Whether the peer has acknowledged everything and nothing received is unread.
    ///
    /// # Errors
    /// The connection's error number. The kernel reports it only once, here or to a receive.
    fn is_settled(&self) -> Result<bool, i32> {
        let Some(fd) = &self.fd else { return Ok(true) };
        match fd.unread() {
            Ok(Unread::End) => Ok(true),
            Ok(Unread::Data) => Ok(false),
            Ok(Unread::Nothing) => Ok(!fd.delivery().is_ok_and(|delivery| delivery.outstanding)),
            // Not a socket: nothing to settle.
            Err(e) => e.raw_os_error().filter(|errno| *errno != libc::ENOTSOCK).map_or(Ok(true), Err),
        }
    }

    /// At the end of a turn, for a stream that is closing but not closed: keeps receiving and checks the limits.
    pub(super) fn stay_closing(&mut self, common: &mut Common) {
        self.arm_receive(common);
        self.watch_end();
    }

    /// Starts the checks. A pipe has limits only if they were set: its reader may take its time.
    fn watch_end(&mut self) {
        if self.fd.is_none() || self.one_way && !self.has_linger() {
            return;
        }
        let (seen, index, generation) = (self.progress(), self.index, self.generation);
        let limits = || Box::new(Linger { total: TOTAL, idle: IDLE, watch: None });
        let linger = self.make_ending().linger.get_or_insert_with(limits);
        if linger.watch.is_none() {
            let pause = FIRST_LOOK.min(linger.total).min(linger.idle);
            let timer = look_later(pause, index, generation);
            linger.watch = Some(Watch { since: now(), moved: now(), seen, pause, timer });
        }
    }

    fn progress(&self) -> Progress {
        let delivery = self.fd.as_ref().and_then(|fd| fd.delivery().ok()).unwrap_or_default();
        let (queued, thrown_away) = (self.send.queued, self.thrown_away());
        Progress { queued, acknowledged: delivery.acknowledged, thrown_away }
    }

    /// One check of a closing stream: closes it if it is settled, gives up if a limit has passed.
    fn look(&mut self, common: &mut Common) {
        let seen = self.progress();
        let lingers = self.send.phase == Phase::Lingering;
        // A peer that sent something may send more, and a close would answer by a reset: wait for its end of stream.
        if lingers && seen.thrown_away == 0 {
            match self.is_settled() {
                Ok(true) => return self.close_fd(),
                Ok(false) => {}
                Err(errno) => return self.fail(common, errno),
            }
        }
        let (index, generation) = (self.index, self.generation);
        let Some(linger) = self.linger() else { return };
        let Some(watch) = &mut linger.watch else { return };
        let now = now();
        if seen != watch.seen {
            (watch.seen, watch.moved) = (seen, now);
        }
        let (age, still) =
            (now.saturating_duration_since(watch.since), now.saturating_duration_since(watch.moved));
        if age >= linger.total || still >= linger.idle {
            return self.give_up(common);
        }
        let left = (linger.total - age).min(linger.idle - still);
        watch.pause = (watch.pause * 2).min(linger.idle / LOOKS_PER_IDLE).max(FIRST_LOOK);
        watch.timer = look_later(watch.pause.min(left), index, generation);
    }

    /// A limit has passed: closes if the peer has acknowledged everything, else resets.
    fn give_up(&mut self, common: &mut Common) {
        let delivered = self.fd.as_ref().and_then(|fd| fd.delivery().ok()).is_some_and(|d| !d.outstanding);
        if self.send.phase == Phase::Lingering && delivered {
            return self.close_fd();
        }
        if self.send.broken == 0 {
            (self.send.broken, self.send.cut) = (libc::ETIMEDOUT, true);
        }
        self.abort(common);
    }
}

/// Runs on the stream's own loop.
fn look_later(pause: Duration, index: u32, generation: u32) -> TimerHandle {
    call_later(pause, move || running(|streams| streams.look(index, generation)))
}

impl Streams {
    /// The timer of a check has fired.
    fn look(&self, index: u32, generation: u32) {
        let closed = self.with_slot(index, |common, slot| {
            let same = slot.generation == generation;
            if same {
                slot.look(common);
            }
            same && slot.fd.is_none()
        });
        if closed == Some(true) {
            self.retire(index);
        }
    }

    /// The loop ends: closes every stream, within these limits.
    pub(super) fn end(&self, total: Duration, idle: Duration) {
        self.each(|common, slot| {
            slot.set_linger(total, idle);
            slot.close(common);
        });
    }
}
