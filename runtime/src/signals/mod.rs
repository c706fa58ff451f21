//! Signals of the process (asyncio `loop.add_signal_handler`).

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
    /// SIGWINCH: the terminal has another size.
    pub const WINDOW_CHANGE: SignalKind = SignalKind(libc::SIGWINCH);

    /// The kind of this number.
    pub const fn from_raw(number: i32) -> SignalKind {
        SignalKind(number)
    }

    /// The number of the signal.
    pub const fn as_raw(self) -> i32 {
        self.0
    }
}

/// Listens to a signal, in place of its default action. Several may listen to one, on any loops; without any the
/// default action is back.
///
/// A loop that listens to SIGINT ends no more by Ctrl-C on its own.
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
/// A signal that cannot be handled, such as SIGKILL; in the simulator, which has none.
///
/// # Panics
/// Outside a running loop.
pub fn signal(kind: SignalKind) -> io::Result<Signal> {
    Ok(Signal { listener: current::with(|lp| Listener::new(lp, kind, None))? })
}

/// Waits for Ctrl-C once, in place of its default action.
///
/// # Errors
/// As [`signal`]'s.
pub async fn ctrl_c() -> io::Result<()> {
    signal(SignalKind::INTERRUPT)?.recv().await;
    Ok(())
}

/// Calls `f` in the loop after each signal of this kind (asyncio `loop.add_signal_handler`), in place of the handler
/// that this loop had for it.
///
/// # Errors
/// As [`signal`]'s.
pub fn add_signal_handler(kind: SignalKind, f: impl FnMut() + 'static) -> io::Result<()> {
    let old = current::with(|lp| {
        let callback: Callback = Rc::new(RefCell::new(f));
        let listener = Listener::new(lp, kind, Some(callback))?;
        io::Result::Ok(lp.signal_handlers.borrow_mut().insert(kind.0, Box::new(listener)))
    })?;
    drop(old);
    Ok(())
}

/// Removes the handler that this loop has for signals of this kind (asyncio `loop.remove_signal_handler`); `false` if
/// there is none.
pub fn remove_signal_handler(kind: SignalKind) -> bool {
    let old = current::try_with(|lp| lp.signal_handlers.borrow_mut().remove(&kind.0)).flatten();
    old.is_some()
}

/// Made by [`signal`]. Dropping it stops listening.
#[must_use = "a dropped Signal stops listening"]
pub struct Signal {
    listener: Listener,
}

impl Signal {
    /// Waits for the next signal. Several that come before it is asked count as one. Dropped while it waits, it loses
    /// none.
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
