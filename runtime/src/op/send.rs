//! Sends of one buffer, without a future.

use crate::{
    event_loop::{
        current::{self},
        op_key::OpKey,
    },
    kernel::{fd::Fd, payload::Payload},
};

/// Sends `payload` (`IORING_OP_SEND` with `MSG_WAITALL`, never raising SIGPIPE), which gets the result; [`Payload`] has
/// an example. After a [`cancel`](super::cancel) the result is the count sent so far, or `-ECANCELED`.
///
/// # Panics
/// Outside a running loop.
pub fn send<P: Payload>(fd: &Fd, payload: Box<P>, token: u32) -> OpKey {
    current::with(|lp| OpKey(lp.homed(lp.driver.send(fd, payload, token))))
}
