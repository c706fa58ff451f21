//! The end of a turn: services send what was written in it.

use std::fmt;

use super::op_key::OpKey;
use crate::{
    kernel::{
        driver::{self, Driver},
        fd::Fd,
        payload::Payload,
    },
    scheduler::{homed::Homed, loop_id::LoopId},
};

/// The end of a turn, as a service sees it: the `enter` comes next.
///
/// ```
/// use corio_runtime::{fd::Fd, op::{Payload, TurnEnd}, service::{LoopLocal, Service}};
/// use std::{cell::Cell, io::Read, os::{fd::OwnedFd, unix::net::UnixStream}};
///
/// struct Bye;
/// impl Payload for Bye {
///     fn bytes(&self) -> &[u8] { b"bye" }
///     fn sent(self: Box<Self>, _token: u32, _result: i32) {}
/// }
///
/// struct Says(Cell<Option<Fd>>);
/// impl Service for Says {
///     fn before_submit(&self, end: TurnEnd<'_>) {
///         if let Some(fd) = self.0.take() {
///             end.sends().send(&fd, Box::new(Bye), 0);
///         }
///     }
/// }
/// static SAYS: LoopLocal<Says> = LoopLocal::new(|| Says(Cell::new(None)));
///
/// let (ours, mut theirs) = UnixStream::pair().unwrap();
/// corio_runtime::run(async {
///     SAYS.with(|service| service.0.set(Some(Fd::from(OwnedFd::from(ours)))));
///     corio_runtime::yield_now().await;
///     assert_eq!(theirs.read(&mut [0; 8]).unwrap(), 3);
/// });
/// ```
#[derive(Clone, Copy)]
pub struct TurnEnd<'a> {
    loop_id: LoopId,
    driver: &'a Driver,
}

impl<'a> TurnEnd<'a> {
    pub(crate) fn new(loop_id: LoopId, driver: &'a Driver) -> TurnEnd<'a> {
        TurnEnd { loop_id, driver }
    }

    /// For sends of this turn.
    ///
    /// # Panics
    /// If there is another `Sends`. While one exists, every other submission to or query of the kernel panics, too.
    #[inline(always)]
    pub fn sends(self) -> Sends<'a> {
        Sends { loop_id: self.loop_id, sends: self.driver.sends() }
    }

    /// Whether a silent send of an earlier turn may still fail or be partial. Send nothing after it on the same
    /// connection before this is `false`.
    #[inline(always)]
    pub fn silent_left(self) -> bool {
        self.driver.silent_left()
    }

    /// Keeps the loop awake in this turn, as there is work for the end of the next one. (A loop driven by another loop
    /// asks [`Service::wants_turn`](crate::service::Service::wants_turn) instead.)
    ///
    /// ```
    /// use corio_runtime::{op::TurnEnd, service::{LoopLocal, Service}};
    /// use std::cell::Cell;
    ///
    /// /// Counts ten ends of turns, none of which has anything else to do.
    /// struct Counts(Cell<u32>);
    /// impl Service for Counts {
    ///     fn before_submit(&self, end: TurnEnd<'_>) {
    ///         assert!(!end.silent_left());
    ///         if self.0.get() < 10 {
    ///             self.0.set(self.0.get() + 1);
    ///             end.stay_awake();
    ///         }
    ///     }
    /// }
    /// static COUNTS: LoopLocal<Counts> = LoopLocal::new(|| Counts(Cell::new(0)));
    ///
    /// corio_runtime::run(async {
    ///     COUNTS.with(|_| ());
    ///     corio_runtime::time::sleep(std::time::Duration::from_millis(1)).await;
    ///     assert_eq!(COUNTS.with(|counts| counts.0.get()), 10);
    /// });
    /// ```
    pub fn stay_awake(self) {
        self.driver.stay_awake();
    }
}

/// Sends at the end of a turn. [`TurnEnd`] has an example.
pub struct Sends<'a> {
    loop_id: LoopId,
    sends: driver::Sends<'a>,
}

impl Sends<'_> {
    /// As [`send`](crate::op::send), but silent, if the kernel can do that (tried at start-up) and the payload is at
    /// most 2 GiB - 64 KiB long: the send is tried without blocking as it is submitted, and has a completion entry only
    /// if it fails, is partial, or would block (`-EAGAIN`). It ends in this turn, or in a later one if the kernel has
    /// not got to it, before the loop sleeps. It does not end a sleep, so nobody may start to wait for it in this turn.
    ///
    /// [`OpKey::is_silent`] tells whether a send is silent.
    #[inline(always)]
    pub fn send<P: Payload>(&mut self, fd: &Fd, payload: Box<P>, token: u32) -> OpKey {
        OpKey(Homed::new(self.loop_id, self.sends.send(fd, payload, token)))
    }
}

impl fmt::Debug for TurnEnd<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TurnEnd").field(&self.loop_id).finish()
    }
}

impl fmt::Debug for Sends<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sends").field("loop_id", &self.loop_id).finish_non_exhaustive()
    }
}
