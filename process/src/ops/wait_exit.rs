//! Waits for a child's exit, by pidfd: a reused process number does not matter.

use std::{io, os::fd::AsFd, sync::Arc};

use corio_runtime::{
    error,
    fd::Fd,
    op::{self, Done, Operation, Sqe},
};
use rustix::{io::Errno, process::Signal};

use crate::{
    child::{Child, Group},
    reaper,
};

/// Watches a newly spawned process, which nothing else may reap.
pub(crate) fn adopt(spawned: std::process::Child, group: Group) -> io::Result<Arc<Child>> {
    let child = Child::open(spawned, group)?;
    if child.pidfd().is_some() {
        op::start(Box::new(WaitExit::WaitId(Arc::clone(&child))));
    } else {
        watch_by_thread(&child)?;
    }
    Ok(child)
}

/// Where there are no pidfds.
fn watch_by_thread(child: &Arc<Child>) -> io::Result<()> {
    reaper::watch(Arc::clone(child)).map_err(|e| {
        // Nothing could watch it.
        let _ = child.send_signal(Signal::KILL);
        child.block_until_exit();
        child.reap();
        child.let_go();
        let text = format!("no pidfd for it, and no thread that waits for it: {e}");
        error::explain(e, text)
    })
}

const HAS_PIDFD: &str = "only a child with a pidfd is watched by an operation";

enum WaitExit {
    /// `IORING_OP_WAITID`.
    WaitId(Arc<Child>),
    /// Before Linux 6.7, and on epoll: the pidfd, which becomes readable at the exit.
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
            WaitExit::WaitId(child) => Sqe::wait_exit(child.pidfd().expect(HAS_PIDFD).as_fd()),
            WaitExit::Poll(_, pidfd) => Sqe::poll_readable(pidfd),
        }
    }

    fn complete(self: Box<Self>, done: Done) {
        let unknown = done.errno() == Some(Errno::INVAL.raw_os_error());
        match *self {
            WaitExit::WaitId(child) if unknown => poll_exit(child),
            op => reap_or_hand_over(op.child()),
        }
    }
}

/// For kernels without the WAITID operation.
fn poll_exit(child: Arc<Child>) {
    match child.pidfd().expect(HAS_PIDFD).try_clone() {
        Ok(pidfd) => {
            op::start(Box::new(WaitExit::Poll(child, Fd::from(pidfd))));
        }
        Err(_) => reaper::take(child),
    }
}

/// The operation has ended: the child has exited, or the loop is closing.
fn reap_or_hand_over(child: &Arc<Child>) {
    if !child.reap() {
        reaper::take(Arc::clone(child));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> std::process::Child {
        std::process::Command::new("sleep").arg("0.02").spawn().unwrap()
    }

    /// As before Linux 6.7.
    #[test]
    fn an_exit_is_seen_by_polling_the_pidfd() {
        corio_runtime::run(async {
            let child = Child::open(sleeper(), Group::Others).unwrap();
            poll_exit(Arc::clone(&child));
            assert_eq!(child.wait().await.unwrap(), 0);
        });
    }

    #[test]
    fn a_poll_that_outlives_its_loop_is_the_reapers() {
        let child = corio_runtime::run(async {
            let child = Child::open(sleeper(), Group::Others).unwrap();
            poll_exit(Arc::clone(&child));
            child
        });
        assert_eq!(corio_runtime::run(child.wait()).unwrap(), 0);
    }
}
