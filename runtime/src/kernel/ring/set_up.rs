//! Sets up an io_uring instance.

use std::{io, thread, time::Duration};

use io_uring::IoUring;

use super::{refusal::Refusal, terms::Sizes};

/// Builds a ring and completes it by `finish`. The kernel frees locked memory late, so ENOMEM is retried before the
/// ring is made smaller.
pub(super) fn set_up(
    sizes: Sizes,
    finish: impl Fn(IoUring) -> Result<IoUring, Refusal>,
) -> Result<IoUring, Refusal> {
    let mut last = Refusal::of(SETUP)(io::Error::from_raw_os_error(libc::ENOMEM));
    for shrink in [1, 2, 4] {
        let (sq, cq) = ((sizes.sq / shrink).max(1), (sizes.cq / shrink).max(2));
        for pause_ms in [0, 10, 20, 50] {
            thread::sleep(Duration::from_millis(pause_ms));
            match build(sq, cq).and_then(&finish) {
                Ok(ring) => return Ok(ring),
                Err(refusal) if refusal.errno() == Some(libc::ENOMEM) => last = refusal,
                Err(refusal) => return Err(refusal),
            }
        }
    }
    Err(last)
}

const SETUP: &str = "io_uring_setup";

fn build(sq: u32, cq: u32) -> Result<IoUring, Refusal> {
    let base = |no_sqarray: bool| {
        let mut builder = IoUring::builder();
        builder
            .dontfork()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(cq)
            .setup_clamp();
        if no_sqarray {
            builder.setup_no_sqarray();
        }
        builder.build(sq)
    };
    match base(true) {
        // Kernels before 6.6 do not know NO_SQARRAY.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => base(false),
        other => other,
    }
    .map_err(Refusal::of(SETUP))
}
