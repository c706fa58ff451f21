//! `OpKey`: names an operation that has no future.

use crate::{kernel::key::Key, scheduler::homed::Homed};

/// Names an operation that has no future, as made by [`start`](crate::op::start).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpKey(pub(crate) Homed<Key>);

impl OpKey {
    /// Whether it is a silent send, which has a completion only if it fails or is partial
    /// ([`Sends::send`](crate::op::Sends::send)). [`is_in_flight`](crate::op::is_in_flight) has an example.
    #[inline(always)]
    pub fn is_silent(self) -> bool {
        self.0.about(Key::silent).is_some()
    }
}
