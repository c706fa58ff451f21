//! Signals (asyncio `loop.add_signal_handler`).

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    io,
    rc::Rc,
    task::Poll,
};

use nix::libc;

use crate::{
    budget,
    event_loop::{
        current::{self, Loop},
        signals::{
            claim::Claim,
            read::{Callback, Heard, ReadSignal, Shared},
        },
    },
};

/// A kind of signal, by its number.
///
/// ```
/// use corio_runtime::signals::SignalKind;
/// assert_eq!(SignalKind::from_raw(SignalKind::TERMINATE.as_raw()), SignalKind::TERMINATE);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SignalKind(i32);

impl SignalKind {
    /// SIGINT: Ctrl-C.
    pub const INTERRUPT: SignalKind = SignalKind(libc::SIGINT);
    /// SIGTERM.
    pub const TERMINATE: SignalKind = SignalKind(libc::SIGTERM);
    /// SIGHUP.
    pub const HANGUP: SignalKind = SignalKind(libc::SIGHUP);
    /// SIGQUIT.
    pub const QUIT: SignalKind = SignalKind(libc::SIGQUIT);
    /// SIGUSR1.
    pub const USER_DEFINED1: SignalKind = SignalKind(libc::SIGUSR1);
    /// SIGUSR2.
    pub const USER_DEFINED2: SignalKind = SignalKind(libc::SIGUSR2);
    /// SIGWINCH: the terminal's size has changed.
    pub const WINDOW_CHANGE: SignalKind = SignalKind(libc::SIGWINCH);

    /// The kind with this number.
    pub const fn from_raw(number: i32) -> SignalKind {
        SignalKind(number)
    }

    /// The signal's number.
    pub const fn as_raw(self) -> i32 {
        self.0
    }
}

/// Listens to a signal, in place of its default action. Any number of loops and tasks may listen to the same signal.
/// Without a listener the default action applies again.
///
/// On a loop that listens to SIGINT, Ctrl-C no longer ends the run.
///
/// ```
/// use corio_runtime::signals::{SignalKind, signal};
/// use nix::sys::signal::{Signal, raise};
/// corio_runtime::run(async {
///     let mut signals = signal(SignalKind::USER_DEFINED1)?;
///     raise(Signal::SIGUSR1)?;
///     signals.recv().await;
///     std::io::Result::Ok(())
/// }).unwrap();
/// ```
///
/// # Errors
/// If the signal cannot be handled, such as SIGKILL; in the simulator, which has no signals.
///
/// # Panics
/// Outside a running loop.
pub fn signal(kind: SignalKind) -> io::Result<Signal> {
    Ok(Signal { listener: current::with(|lp| Listener::new(lp, kind, None))? })
}

/// Waits for Ctrl-C once, in place of its default action.
///
/// # Errors
/// As [`signal`].
pub async fn ctrl_c() -> io::Result<()> {
    signal(SignalKind::INTERRUPT)?.recv().await;
    Ok(())
}

/// Calls `f` on the loop after each signal of this kind (asyncio `loop.add_signal_handler`). It replaces this loop's
/// former handler.
///
/// # Errors
/// As [`signal`].
///
/// ```compile_fail,E0277
/// // SIG-05: a handler is a function, not a future.
/// use corio_runtime::signals::{SignalKind, add_signal_handler};
/// corio_runtime::run(async { add_signal_handler(SignalKind::HANGUP, async {}).unwrap() });
/// ```
pub fn add_signal_handler(kind: SignalKind, f: impl FnMut() + 'static) -> io::Result<()> {
    let old = current::with(|lp| {
        let callback: Callback = Rc::new(RefCell::new(f));
        let listener = Listener::new(lp, kind, Some(callback))?;
        io::Result::Ok(lp.signal_handlers.borrow_mut().insert(kind.0, Box::new(listener)))
    })?;
    drop(old);
    Ok(())
}

/// Removes this loop's handler for signals of this kind (asyncio `loop.remove_signal_handler`). Returns `false` if
/// there is none.
pub fn remove_signal_handler(kind: SignalKind) -> bool {
    let old = current::try_with(|lp| lp.signal_handlers.borrow_mut().remove(&kind.0)).flatten();
    old.is_some()
}

/// Receives signals; made by [`signal`]. Dropping it stops listening.
#[must_use = "a dropped Signal stops listening"]
pub struct Signal {
    listener: Listener,
}

impl Signal {
    /// Waits for the next signal. Several signals before a call count as one. Dropping the future loses no signal.
    pub async fn recv(&mut self) {
        let shared = &self.listener.shared;
        poll_fn(|cx| {
            if budget::is_used_up(cx) {
                return Poll::Pending;
            }
            if shared.pending.take() {
                budget::spend(1);
                return Poll::Ready(());
            }
            let waker = cx.waker().clone();
            let old = shared.waker.replace(Some(waker));
            drop(old);
            Poll::Pending
        })
        .await;
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal").field("pending", &self.listener.shared.pending.get()).finish_non_exhaustive()
    }
}

/// Listens until it is dropped.
pub(crate) struct Listener {
    shared: Rc<Shared>,
    _claim: Claim,
}

impl Listener {
    fn new(lp: &Loop, kind: SignalKind, callback: Option<Callback>) -> io::Result<Listener> {
        if lp.driver.is_simulated() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the simulator has no signals"));
        }
        let (claim, reader) = Claim::new(kind.0)?;
        if kind == SignalKind::INTERRUPT {
            drop(lp.interrupt.take());
        }
        let shared =
            Shared { pending: Cell::new(false), waker: RefCell::new(None), callback, read: Cell::new(None) };
        let shared = Rc::new(shared);
        let read = ReadSignal::start(lp, reader, Heard::Listener(Rc::clone(&shared)));
        shared.read.set(Some(read));
        Ok(Listener { shared, _claim: claim })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(read) = self.shared.read.take() {
            read.on_loop(|lp, key| lp.driver.cancel(key));
        }
    }
}
