//! The contract of an operation: what the kernel works on, and what it gives back.
//!
//! An [`Operation`] owns everything its SQE points to. [`submit`] hands it to the in-flight table,
//! which is the kernel's share: it is neither moved, touched nor freed before its final CQE. The
//! caller keeps an [`Op`], a claim on the result; dropping the claim asks the kernel to cancel.
//! Operations that belong to a handle (a listener's accept) have no future: [`start`] and [`start_multishot`]
//! deliver straight to them as completions arrive. What each message needs, [`send`] and [`receive`], has the shortest
//! way there.
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
pub(crate) mod inflight;
mod receive;
mod send;
pub(crate) mod silent;
mod sqe;

use std::io;

pub use future::{Op, Prepared, prepare, submit};
pub use receive::{Arrivals, Receiver, receive};
pub use send::{Payload, Sends, TurnEnd, send};
pub(crate) use sqe::{Kind, Pause};
pub use sqe::{PeerAddr, SockAddr, Sqe};

use crate::{current, fd::Fd, home::Homed, pool::PoolBuf};

/// One operation of the kernel with one result.
pub trait Operation: 'static {
    /// What the operation gives to whoever waits for it.
    type Output;

    /// Describes the work. Every pointer of the entry borrows from `self`, so the compiler checks it.
    ///
    /// Called on the operation in its final place; may be called again while the simulator executes it,
    /// so it must describe the same work each time, and must not call into the loop. A panic goes to who submits; one
    /// of a later call fails the operation with `EFAULT`.
    fn prepare(&mut self) -> Sqe<'_>;

    /// The kernel is finished with `self`.
    fn complete(self: Box<Self>, done: Done) -> Self::Output;

    /// The kernel is finished with `self`, and the [`Op`] that waited for it was dropped.
    fn abandoned(self: Box<Self>, done: Done) {
        drop(done);
    }
}

/// One operation of the kernel with many results. The kernel only reads what it points to.
pub trait Multishot: 'static {
    /// As [`Operation::prepare`], but nothing may be written to: completions arrive while it is armed.
    fn prepare(&self) -> Sqe<'_>;

    /// A result, with more to come.
    fn item(&self, done: Done);

    /// The last result (data, end or error): the kernel is finished with `self`, which is dropped after this.
    fn end(&self, done: Done);
}

/// What a completion brought, as owned values: dropping it leaks nothing.
#[derive(Debug)]
pub struct Done {
    pub(crate) res: i32,
    pub(crate) more: bool,
    pub(crate) brought: Brought,
}

/// What a completion carries besides its number.
#[derive(Debug)]
pub(crate) enum Brought {
    Nothing,
    Fd(Fd),
    Buf(PoolBuf),
}

impl Done {
    pub(crate) fn new(res: i32) -> Done {
        Done { res, more: false, brought: Brought::Nothing }
    }

    /// The count the kernel returned, or its error.
    pub fn count(&self) -> io::Result<usize> {
        usize::try_from(self.res).map_err(|_| io::Error::from_raw_os_error(-self.res))
    }

    /// What the kernel returned: a count, or an error number, negated.
    ///
    /// ```
    /// use corio_runtime::op::{self, Done, Operation, Sqe};
    /// struct Nop;
    /// impl Operation for Nop {
    ///     type Output = i32;
    ///     fn prepare(&mut self) -> Sqe<'_> { Sqe::nop() }
    ///     fn complete(self: Box<Self>, done: Done) -> i32 { done.number() }
    /// }
    /// assert_eq!(corio_runtime::run(async { op::submit(Nop).await }), 0);
    /// ```
    pub fn number(&self) -> i32 {
        self.res
    }

    /// The error number of a failed operation.
    pub fn errno(&self) -> Option<i32> {
        (self.res < 0).then_some(-self.res)
    }

    /// Success or the kernel's error.
    pub fn unit(&self) -> io::Result<()> {
        self.count().map(drop)
    }

    /// The descriptor that the operation made.
    pub fn into_fd(self) -> io::Result<Fd> {
        self.unit()?;
        match self.brought {
            Brought::Fd(fd) => Ok(fd),
            _ => Err(io::Error::other("the operation makes no descriptor")),
        }
    }

    /// The provided buffer that holds the received bytes; it goes back to the pool when dropped.
    pub fn buffer(&self) -> Option<&PoolBuf> {
        match &self.brought {
            Brought::Buf(buf) => Some(buf),
            _ => None,
        }
    }
}

/// Names an operation that a handle gave to the kernel, by [`start`] and the like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpKey(Homed<inflight::Key>);

impl OpKey {
    /// Whether it is a send of which the kernel tells only if it does not send everything ([`Sends::send`]); for an
    /// example see [`is_in_flight`].
    #[inline(always)]
    pub fn is_silent(self) -> bool {
        self.0.about(inflight::Key::silent).is_some()
    }
}

/// Hands `op` to the kernel on behalf of a handle: `complete` runs when the completion arrives.
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

/// Whether writes of the running loop into a pipe that nobody reads fail with EPIPE alone, without a SIGPIPE to
/// the thread (`RWF_NOSIGNAL`, Linux 6.18).
///
/// # Panics
/// Outside a running loop.
pub fn pipes_are_quiet() -> bool {
    current::with(|lp| lp.driver.abilities().quiet_writes)
}

/// Whether the kernel is not yet finished with an operation of the running loop. (The key of a silent send that has
/// ended is that of another one 2³² silent sends later.)
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

/// Asks the kernel to end an operation of a handle. Its final completion still arrives, with whatever happened first. A
/// key of an ended operation is ignored. On another loop or thread the operation's own loop is told.
pub fn cancel(key: OpKey) {
    key.0.on_loop(|lp, key| lp.driver.cancel(key));
}
