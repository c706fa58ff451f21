//! A failed `io_uring_enter`.

use std::{io, thread, time::Duration};

use crate::kernel::error;

/// What a failed `enter` means for the loop.
#[cold]
#[inline(never)]
pub(super) fn not_entered(e: io::Error) -> io::Result<()> {
    match e.raw_os_error() {
        // Slept its time, a signal, or the CQ must be drained first: the turn goes on and comes back.
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
