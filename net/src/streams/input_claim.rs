//! The right to read the standard input.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

/// Whether a stream of the standard input is open.
static OPEN: AtomicBool = AtomicBool::new(false);

/// The right to read the standard input, held by its stream until that is gone.
#[derive(Debug)]
pub(crate) struct InputClaim(());

impl InputClaim {
    pub(crate) fn take() -> io::Result<InputClaim> {
        if OPEN.swap(true, Ordering::Relaxed) {
            let text = "stdin: there is a stream of the standard input already, and it may hold bytes of it";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        Ok(InputClaim(()))
    }
}

impl Drop for InputClaim {
    fn drop(&mut self) {
        OPEN.store(false, Ordering::Relaxed);
    }
}
