//! Claims on signals: a signal that nobody has claimed has its default action.
//!
//! A handler that was installed once stays so for good, as safe code cannot put the earlier one back; without a claim
//! it acts as the system's default. So after a first claim, actions that others register for the same signal through
//! `signal-hook` come too late while there is no claim: the default action is before them.

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

/// The signals of this process that were ever claimed.
static KNOWN: Mutex<Option<HashMap<i32, Known>>> = Mutex::new(None);

struct Known {
    by_default: Arc<AtomicBool>,
    claims: usize,
}

fn with_known<R>(f: impl FnOnce(&mut HashMap<i32, Known>) -> R) -> R {
    f(KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

/// Whether this process has claimed the signal before.
pub(crate) fn was_claimed(signal: i32) -> bool {
    with_known(|known| known.contains_key(&signal))
}

/// A signal that is told of through a pipe, until this is dropped.
pub(crate) struct Claim {
    signal: i32,
    tell: SigId,
    by_default: Arc<AtomicBool>,
}

impl Claim {
    /// Claims `signal`: a byte comes out of the pipe after each, or for several.
    ///
    /// # Errors
    /// A signal that cannot be handled, and those of the system.
    pub(crate) fn new(signal: i32) -> io::Result<(Claim, PipeReader)> {
        let refused = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        if FORBIDDEN.contains(&signal) {
            return refused(format!("signal {signal} cannot be handled"));
        }
        // One without a name is a real-time signal, of which the default action is not known, or none at all.
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

    /// The flag that says whether the next signal has its default action.
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
