//! The end of a connection: what was written arrives, whatever the peer goes on sending, and no peer keeps it for ever.
//!
//! ```text
//!            all is with the kernel            the peer's end, or its kernel has everything and it sends nothing
//!   Closing ───────────────────────▶ Lingering ─────────────────────────────────────────────────────────────▶ Closed
//!      │ shuts the sending side down     │
//!      └──────── a limit has passed ─────┴──▶ Closed, by a reset if something was not acknowledged
//! ```
//! A socket that is closed with something unread, or that gets something afterwards, answers by a reset, which takes
//! what was not delivered with it. So from `close` on, what arrives is received and thrown away. Nothing tells when the
//! peer has acknowledged everything: a timer looks, in growing intervals, only while a connection is on its way out.

use std::time::Duration;

use corio_runtime::{TimerHandle, call_later, socket::Unread, time::now};

use super::{
    common::Common,
    send_state::Phase,
    slot::Slot,
    table::{Streams, running},
    watch::{Linger, Progress, Watch},
};

/// How long a connection lingers, and how long one on which no byte moves.
const TOTAL: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(5);
/// The first look is this long after the close; the next ones have twice the time each.
const FIRST_LOOK: Duration = Duration::from_millis(1);
/// An idle time is noticed a sixteenth of it late, at most.
const LOOKS_PER_IDLE: u32 = 16;

impl Slot {
    /// Sets the limits, also of an end that has begun.
    pub(super) fn set_linger(&mut self, total: Duration, idle: Duration) {
        self.make_ending().linger = Some(Box::new(Linger { total, idle, watch: None }));
        if self.send.closing() {
            self.watch_end();
        }
    }

    /// Everything is with the kernel: closes at once where that loses nothing, else lingers.
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

    /// Whether the peer's kernel has everything, and nothing of the peer's is unread.
    ///
    /// # Errors
    /// The connection's failure, as the number that the kernel tells once, here or to a receive.
    fn is_settled(&self) -> Result<bool, i32> {
        let Some(fd) = &self.fd else { return Ok(true) };
        match fd.unread() {
            Ok(Unread::End) => Ok(true),
            Ok(Unread::Data) => Ok(false),
            Ok(Unread::Nothing) => Ok(!fd.delivery().is_ok_and(|delivery| delivery.outstanding)),
            // What is no socket has nothing to settle.
            Err(e) => e.raw_os_error().filter(|errno| *errno != libc::ENOTSOCK).map_or(Ok(true), Err),
        }
    }

    /// A turn has ended, and the stream is closing but not closed: it takes in what comes, and is looked after.
    pub(super) fn stay_closing(&mut self, common: &mut Common) {
        self.arm_receive(common);
        self.watch_end();
    }

    /// Begins to look. A pipe has no limits but those it was given: who reads it may take its time.
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

    /// One look at a stream on its way out: closes it if it is settled, gives it up if a limit has passed.
    fn look(&mut self, common: &mut Common) {
        let seen = self.progress();
        let lingers = self.send.phase == Phase::Lingering;
        // One that sends is waited for: a close would answer what it sends by a reset.
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

    /// A limit has passed. A peer whose kernel has everything has lost nothing; any other is told by a reset.
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

/// The loop that calls is the stream's own.
fn look_later(pause: Duration, index: u32, generation: u32) -> TimerHandle {
    call_later(pause, move || running(|streams| streams.look(index, generation)))
}

impl Streams {
    /// The time for a look has come.
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

    /// The loop ends: every stream closes, within these limits.
    pub(super) fn end(&self, total: Duration, idle: Duration) {
        self.each(|common, slot| {
            slot.set_linger(total, idle);
            slot.close(common);
        });
    }
}
