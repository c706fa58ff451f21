//! The contract of an operation: what the kernel works on, and what it returns.

use std::io;

use crate::kernel::{fd::Fd, pool::PoolBuf, sqe::Sqe};

/// One operation of the kernel with one result.
pub trait Operation: 'static {
    /// The result for the task that waits for the operation.
    type Output;

    /// Describes the work. Every pointer of the entry borrows from `self`, so the compiler checks it.
    ///
    /// Called on the operation in its final place. The kernels that make plain calls (epoll, the simulator) call it
    /// again when they execute the operation: it must describe the same work each time, and must not call into the
    /// loop. A panic reaches the caller that submits; in a later call it fails the operation with `EFAULT`.
    fn prepare(&mut self) -> Sqe<'_>;

    /// The kernel is finished with `self`.
    fn complete(self: Box<Self>, done: Done) -> Self::Output;

    /// The kernel is finished with `self`, and the [`Op`](crate::op::Op) that waited for it was dropped.
    fn abandoned(self: Box<Self>, done: Done) {
        drop(done);
    }
}

/// One operation of the kernel with many results. The kernel only reads what it points to.
pub trait Multishot: 'static {
    /// Like [`Operation::prepare`], but the kernel may not write to `self`: completions arrive while it is armed.
    fn prepare(&self) -> Sqe<'_>;

    /// A result; the operation stays armed.
    fn item(&self, done: Done);

    /// The last result (data, end or error): the kernel is finished with `self`, which is dropped after this.
    fn end(&self, done: Done);
}

/// The result of a completion, as owned values: dropping it leaks nothing.
#[derive(Debug)]
pub struct Done {
    pub(crate) res: i32,
    pub(crate) more: bool,
    pub(crate) brought: Brought,
}

/// The value that a completion carries besides its number.
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

    /// The count that the kernel returned, or its error.
    pub fn count(&self) -> io::Result<usize> {
        usize::try_from(self.res).map_err(|_| io::Error::from_raw_os_error(-self.res))
    }

    /// The number that the kernel returned: a count, or a negated error number.
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

    /// The provided buffer that holds the received bytes; it returns to the pool when dropped.
    pub fn buffer(&self) -> Option<&PoolBuf> {
        match &self.brought {
            Brought::Buf(buf) => Some(buf),
            _ => None,
        }
    }
}
