//! A failed `io_uring_enter`.

use std::{io, thread, time::Duration};

use crate::kernel::error;

/// Decides whether the loop can continue after a failed `enter`.
#[cold]
#[inline(never)]
pub(super) fn not_entered(e: io::Error) -> io::Result<()> {
    match e.raw_os_error() {
        // The timeout expired, a signal arrived, or the CQ must be drained first: the turn continues, and enters again
        // later.
        Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
        Some(libc::ENOMEM) => {
            thread::sleep(Duration::from_millis(1));
            Ok(())
        }
        Some(libc::EBADR) => Err(error::explain(
            e,
            "the kernel dropped completions (EBADR): it had no memory to keep them; the loop cannot go on",
        )),
        _ => {
            let text = format!("io_uring_enter failed: {e}");
            Err(error::explain(e, text))
        }
    }
}
