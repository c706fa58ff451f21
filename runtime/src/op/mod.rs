//! Operations: how a crate gives them to the kernel and gets their results.
//!
//! An [`Operation`] owns everything its SQE points to. [`submit`] hands it to the in-flight table, which holds it for
//! the kernel: it is neither moved, touched nor freed before its final CQE. The caller keeps an [`Op`], a claim on the
//! result; dropping that cancels the operation. Operations of a handle (such as a listener's accepts) have no future:
//! [`start`] and [`start_multishot`] deliver each completion to the operation itself. The two that each message needs,
//! [`send`] and [`receive`], have fast paths of their own.
//!
//! ```
//! use corio_runtime::{fd::Fd, op::{self, Done, Operation, Sqe}};
//!
//! struct Write { fd: Fd, data: Vec<u8> }
//!
//! impl Operation for Write {
//!     type Output = std::io::Result<usize>;
//!     fn prepare(&mut self) -> Sqe<'_> { Sqe::write(&self.fd, &self.data) }
//!     fn complete(self: Box<Self>, done: Done) -> Self::Output { done.count() }
//! }
//!
//! corio_runtime::run(async {
//!     let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
//!     let written = op::submit(Write { fd: Fd::from(std::os::fd::OwnedFd::from(null)), data: vec![7; 9] }).await?;
//!     assert_eq!(written, 9);
//!     std::io::Result::Ok(())
//! }).unwrap();
//! ```

mod future;
mod receive;
mod send;

pub use crate::event_loop::{
    op_key::OpKey,
    turn_end::{Sends, TurnEnd},
};
pub use crate::kernel::{
    operation::{Done, Multishot, Operation},
    payload::Payload,
    receive::{Arrivals, Receiver},
    sqe::{PeerAddr, SockAddr, Sqe},
};
pub use future::{Op, Prepared, prepare, submit};
pub use receive::receive;
pub use send::send;

use crate::event_loop::current;

/// Submits `op` without a future: `complete` runs when its completion arrives.
///
/// # Panics
/// Outside a running loop, and if `op` has many results.
#[inline]
pub fn start<O: Operation<Output = ()>>(op: Box<O>) -> OpKey {
    current::with(|lp| OpKey(lp.homed(lp.driver.start(op))))
}

/// As [`start`], for an operation with many results.
///
/// # Panics
/// Outside a running loop.
pub fn start_multishot<M: Multishot>(op: M) -> OpKey {
    current::with(|lp| OpKey(lp.homed(lp.driver.start_multishot(op))))
}

/// Whether the running loop's writes to a pipe without readers fail with EPIPE only, and raise no SIGPIPE
/// (`RWF_NOSIGNAL`, Linux 6.18).
///
/// # Panics
/// Outside a running loop.
pub fn pipes_are_quiet() -> bool {
    current::with(|lp| lp.driver.abilities().quiet_writes)
}

/// Whether an operation of the running loop is in flight. (The keys of silent sends repeat after 2³² of them.)
///
/// ```
/// use corio_runtime::op::{self, Done, Operation, Sqe};
/// struct Nop;
/// impl Operation for Nop {
///     type Output = ();
///     fn prepare(&mut self) -> Sqe<'_> { Sqe::nop() }
///     fn complete(self: Box<Self>, _: Done) {}
/// }
/// corio_runtime::run(async {
///     let key = op::start(Box::new(Nop));
///     assert!(op::is_in_flight(key) && !key.is_silent());
///     while op::is_in_flight(key) {
///         corio_runtime::yield_now().await;
///     }
/// });
/// ```
///
/// # Panics
/// Outside a running loop.
pub fn is_in_flight(key: OpKey) -> bool {
    current::with(|_| key.0.here(|lp, key| lp.driver.is_in_flight(key))).unwrap_or(false)
}

/// Cancels an operation without a future. Its final completion still arrives, with what had happened before. A key of
/// an ended operation is ignored. On another loop or thread, the cancel is sent to the operation's own loop.
pub fn cancel(key: OpKey) {
    key.0.on_loop(|lp, key| lp.driver.cancel(key));
}
