//! `OpKey`: names an operation that a handle gave to the kernel.

use crate::{kernel::key::Key, scheduler::homed::Homed};

/// Names an operation that a handle gave to the kernel, by [`start`](crate::op::start) and the like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpKey(pub(crate) Homed<Key>);

impl OpKey {
    /// Whether it is a send of which the kernel tells only if it does not send everything
    /// ([`Sends::send`](crate::op::Sends::send)); for an example see [`is_in_flight`](crate::op::is_in_flight).
    #[inline(always)]
    pub fn is_silent(self) -> bool {
        self.0.about(Key::silent).is_some()
    }
}
