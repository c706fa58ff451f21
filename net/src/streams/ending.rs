//! State that a stream needs only around its end, in a box of its own: an idle stream has none.

use std::task::Waker;

use corio_runtime::op::OpKey;

use super::{input_claim::InputClaim, watch::Linger};

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// The task in `wait_closed`; one at most, as it takes the writer by `&mut`.
    pub(super) waiter: Option<Waker>,
    pub(super) linger: Option<Box<Linger>>,
    pub(super) hang_up: HangUpPoll,
    /// Of the standard input: there is only one stream of it.
    pub(super) claim: Option<InputClaim>,
    /// Bytes that were received and discarded; of a closing stream, those since the close.
    pub(super) thrown_away: u64,
}

/// The poll that reports a failure while no receive is in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum HangUpPoll {
    #[default]
    NotYet,
    InFlight(OpKey),
    Over,
}
