//! What a stream needs only around its end: kept apart, as an idle one has none of it.

use std::task::Waker;

use corio_runtime::op::OpKey;

use super::watch::Linger;

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// Who waits for the end: one at most, as `wait_closed` takes the writer by `&mut`.
    pub(super) waiter: Option<Waker>,
    pub(super) linger: Option<Box<Linger>>,
    pub(super) hang_up: HangUpPoll,
    /// Bytes that came when nobody read any more; of a stream that closes, since the close.
    pub(super) thrown_away: u64,
}

/// The poll by which a stream hears of a failure where no receive would tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum HangUpPoll {
    #[default]
    NotYet,
    InFlight(OpKey),
    Over,
}
