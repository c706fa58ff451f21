//! Claims on signals. An unclaimed signal has its default action.
//!
//! A handler stays installed for good, as safe code cannot restore the earlier one; without a claim it performs the
//! default action. So after a first claim, other actions registered for the signal through `signal-hook` run only while
//! there is a claim: otherwise the default action comes first.

use std::{
    collections::{HashMap, hash_map::Entry},
    io::{self, PipeReader},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use signal_hook::{SigId, consts::FORBIDDEN, flag, low_level};

use crate::kernel::error;

/// The signals that this process has ever claimed.
static KNOWN: Mutex<Option<HashMap<i32, Known>>> = Mutex::new(None);

struct Known {
    by_default: Arc<AtomicBool>,
    claims: usize,
}

fn with_known<R>(f: impl FnOnce(&mut HashMap<i32, Known>) -> R) -> R {
    f(KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

/// Whether this process has ever claimed the signal.
pub(crate) fn was_claimed(signal: i32) -> bool {
    with_known(|known| known.contains_key(&signal))
}

/// While it lives, the signal is reported through a pipe.
pub(crate) struct Claim {
    signal: i32,
    tell: SigId,
    by_default: Arc<AtomicBool>,
}

impl Claim {
    /// Claims `signal`: each signal, or several together, put a byte into the pipe.
    ///
    /// # Errors
    /// If the signal cannot be handled, and errors of the system.
    pub(crate) fn new(signal: i32) -> io::Result<(Claim, PipeReader)> {
        let refused = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        if FORBIDDEN.contains(&signal) {
            return refused(format!("signal {signal} cannot be handled"));
        }
        // A number without a name is a real-time signal, whose default action is unknown here, or no signal.
        if low_level::signal_name(signal).is_none() {
            return refused(format!("{signal} is not the number of a signal that can be handled"));
        }
        Claim::register(signal).map_err(|e| {
            let text = format!("cannot listen to signal {signal}: {e}");
            error::explain(e, text)
        })
    }

    fn register(signal: i32) -> io::Result<(Claim, PipeReader)> {
        let (reader, writer) = io::pipe()?;
        with_known(|known| {
            let known = match known.entry(signal) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => {
                    let by_default = Arc::new(AtomicBool::new(true));
                    flag::register_conditional_default(signal, Arc::clone(&by_default))?;
                    place.insert(Known { by_default, claims: 0 })
                }
            };
            let tell = low_level::pipe::register(signal, OwnedFd::from(writer))?;
            known.claims += 1;
            known.by_default.store(false, Ordering::SeqCst);
            let by_default = Arc::clone(&known.by_default);
            Ok((Claim { signal, tell, by_default }, reader))
        })
    }

    /// The flag for whether the next signal performs the default action.
    pub(crate) fn by_default(&self) -> &Arc<AtomicBool> {
        &self.by_default
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        low_level::unregister(self.tell);
        with_known(|known| {
            if let Some(known) = known.get_mut(&self.signal) {
                known.claims -= 1;
                known.by_default.store(known.claims == 0, Ordering::SeqCst);
            }
        });
    }
}
