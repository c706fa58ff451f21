//! Multishot receives on behalf of a handle, into buffers of the loop's pool.

use crate::{
    event_loop::{current, op_key::OpKey},
    kernel::{fd::Fd, receive::Receiver},
};

/// Receives (multishot `IORING_OP_RECV`) until told to stop. Where the kernel knows such a limit it ends after about
/// `cap` bytes in total, or after what fills 32 buffers if that is less, or if `cap` is 0. Where it does not, who has
/// had 32 full buffers should cancel and begin anew: the kernel may not see a reset behind them. After a
/// [`cancel`](super::cancel) the last result is `ECANCELED`, unless something came first. [`Receiver`] has an example.
///
/// # Panics
/// Outside a running loop.
pub fn receive(fd: &Fd, cap: u32, token: u32, to: &'static Receiver) -> OpKey {
    current::with(|lp| OpKey(lp.homed(lp.driver.receive(fd, cap, token, lp.receivers.id_of(to)))))
}
