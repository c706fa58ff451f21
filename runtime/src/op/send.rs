//! Sends of one buffer, on behalf of a handle.

use crate::{
    event_loop::{
        current::{self},
        op_key::OpKey,
    },
    kernel::{fd::Fd, payload::Payload},
};

/// Sends `payload` (`IORING_OP_SEND` with `MSG_WAITALL`, never raising SIGPIPE), which is told the result; [`Payload`]
/// has an example. After a [`cancel`](super::cancel) that is how much was sent, or `-ECANCELED`.
///
/// # Panics
/// Outside a running loop.
pub fn send<P: Payload>(fd: &Fd, payload: Box<P>, token: u32) -> OpKey {
    current::with(|lp| OpKey(lp.homed(lp.driver.send(fd, payload, token))))
}
