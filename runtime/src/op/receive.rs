//! Multishot receives without a future, into buffers of the loop's pool.

use crate::{
    event_loop::{current, op_key::OpKey},
    kernel::{fd::Fd, receive::Receiver},
};

/// Receives (multishot `IORING_OP_RECV`) until cancelled. A kernel that knows such limits ends the receive after about
/// `cap` bytes, or 32 full buffers if that is less or `cap` is 0. On other kernels the caller should cancel after 32
/// full buffers and start again: the kernel may miss a reset behind them. After a [`cancel`](super::cancel) the last
/// result is `ECANCELED`, unless something came first. [`Receiver`] has an example.
///
/// # Panics
/// Outside a running loop.
pub fn receive(fd: &Fd, cap: u32, token: u32, to: &'static Receiver) -> OpKey {
    current::with(|lp| OpKey(lp.homed(lp.driver.receive(fd, cap, token, lp.receivers.id_of(to)))))
}
