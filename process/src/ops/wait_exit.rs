//! Waits for the exit of a child: by its pidfd, so that no other process can be meant.

use std::{os::fd::AsFd, sync::Arc};

use corio_runtime::{
    fd::Fd,
    op::{Done, Operation, Sqe},
};
use rustix::io::Errno;

use crate::child::Child;

pub(crate) enum WaitExit {
    /// `IORING_OP_WAITID`.
    WaitId(Arc<Child>),
    /// Before Linux 6.7: the pidfd, which is readable from the exit on.
    Poll(Arc<Child>, Fd),
}

impl WaitExit {
    fn child(&self) -> &Arc<Child> {
        match self {
            WaitExit::WaitId(child) | WaitExit::Poll(child, _) => child,
        }
    }
}

impl Operation for WaitExit {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        match self {
            WaitExit::WaitId(child) => Sqe::wait_exit(child.pidfd().as_fd()),
            WaitExit::Poll(_, pidfd) => Sqe::poll_readable(pidfd),
        }
    }

    fn complete(self: Box<Self>, done: Done) {
        let unknown = done.errno() == Some(Errno::INVAL.raw_os_error());
        match *self {
            WaitExit::WaitId(child) if unknown => child.poll_exit(),
            op => op.child().reap_or_hand_over(),
        }
    }
}
