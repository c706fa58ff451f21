//! A child: its pidfd, its exit status, and the tasks that wait for it.
//!
//! ```text
//!    spawned ──▶ running ── exit; the first thread to notice calls `waitid` ──▶ reaped
//!                   └── its loop closes ──▶ watched by the reaper, until it exits
//! ```
//! The handle, the operation that waits for the exit, and the reaper share it, on any thread. Only `reap` takes the
//! exit status from the kernel.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use corio_runtime::{error, wake};
use rustix::{
    io::Errno,
    process::{self as sys, PidfdFlags, Signal, WaitId, WaitIdOptions},
};

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct Child {
    pid: u32,
    pidfd: OwnedFd,
    state: Mutex<State>,
    next_waiter: AtomicU64,
}

#[derive(Debug)]
enum State {
    /// Waiting tasks, each with a number.
    Running(Vec<(u64, Waker)>),
    /// asyncio's return code: the exit status, or minus the signal's number.
    Exited(i32),
    /// Something else reaped it, SIGCHLD is ignored, or it could not be watched.
    Lost,
}

impl Child {
    /// A newly spawned process, which nothing else may reap. The caller must watch it.
    pub(crate) fn open(mut spawned: std::process::Child) -> io::Result<Arc<Child>> {
        let pid = spawned.id();
        let opened = sys::Pid::from_raw(pid.cast_signed())
            .ok_or(Errno::SRCH)
            .and_then(|pid| sys::pidfd_open(pid, PidfdFlags::empty()));
        let pidfd = match opened {
            Ok(pidfd) => pidfd,
            Err(e) => {
                // Nothing could watch it.
                let _ = spawned.kill();
                let _ = spawned.wait();
                let e = io::Error::from(e);
                let text = format!("no pidfd for it: {e}");
                return Err(error::explain(e, text));
            }
        };
        let (state, next_waiter) = (Mutex::new(State::Running(Vec::new())), AtomicU64::new(0));
        Ok(Arc::new(Child { pid, pidfd, state, next_waiter }))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// The return code; `None` while the child runs, and if the status was lost.
    pub(crate) fn returncode(&self) -> Option<i32> {
        match *self.state() {
            State::Exited(code) => Some(code),
            State::Running(_) | State::Lost => None,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(*self.state(), State::Running(_))
    }

    /// Waits for the exit.
    pub(crate) fn wait(&self) -> Wait<'_> {
        Wait { child: self, waiter: None }
    }

    /// Sends `signal` by pidfd: never to another process that got the child's number.
    pub(crate) fn send_signal(&self, signal: Signal) -> io::Result<()> {
        let gone = || {
            let text = format!("process {} has ended: no signal can be sent to it", self.pid);
            io::Error::new(io::ErrorKind::InvalidInput, text)
        };
        if !self.is_running() {
            return Err(gone());
        }
        match sys::pidfd_send_signal(&self.pidfd, signal) {
            Err(Errno::SRCH) => Err(gone()),
            other => Ok(other?),
        }
    }

    /// Takes the exit status, and wakes the waiting tasks. `false` while the child runs.
    pub(crate) fn reap(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let state = match sys::waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(None) | Err(Errno::INTR) => return false,
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => State::Exited(code),
                (None, Some(signal)) => State::Exited(-signal),
                (None, None) => return false,
            },
            Err(_) => State::Lost,
        };
        self.end(state);
        true
    }

    /// Nothing can watch it any more.
    pub(crate) fn lose(&self) {
        self.end(State::Lost);
    }

    fn end(&self, state: State) {
        let before = std::mem::replace(&mut *self.state(), state);
        if let State::Running(waiters) = before {
            waiters.into_iter().for_each(|(_, waiter)| wake(waiter));
        }
    }

    /// Poisoning is ignored: a panic of a waker's destructor leaves a valid state.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for a child's exit. Dropping it leaves nothing behind.
pub(crate) struct Wait<'a> {
    child: &'a Child,
    waiter: Option<u64>,
}

impl Future for Wait<'_> {
    type Output = io::Result<i32>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<i32>> {
        let child = self.child;
        // Cloned before the lock, and the replaced waker is dropped after it: both are foreign code.
        let mut waker = cx.waker().clone();
        match &mut *child.state() {
            State::Exited(code) => Poll::Ready(Ok(*code)),
            State::Lost => Poll::Ready(Err(io::Error::other(format!(
                "the exit status of process {} is lost: SIGCHLD is ignored, something else waited for it, or no \
                 descriptor was left to watch it by",
                child.pid
            )))),
            State::Running(waiters) => {
                let next = || child.next_waiter.fetch_add(1, Ordering::Relaxed);
                let id = *self.waiter.get_or_insert_with(next);
                match waiters.iter_mut().find(|(known, _)| *known == id) {
                    Some((_, known)) => std::mem::swap(known, &mut waker),
                    None => waiters.push((id, waker)),
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let Some(id) = self.waiter else { return };
        let waker = match &mut *self.child.state() {
            State::Running(waiters) => {
                let place = waiters.iter().position(|(known, _)| *known == id);
                place.map(|place| waiters.remove(place))
            }
            State::Exited(_) | State::Lost => None,
        };
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> std::process::Child {
        std::process::Command::new("sleep").arg("0.02").spawn().unwrap()
    }

    #[test]
    fn a_child_that_nobody_can_watch_tells_who_waits() {
        corio_runtime::run(async {
            let child = Child::open(sleeper()).unwrap();
            let mut wait = std::pin::pin!(child.wait());
            let polled = wait.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
            child.lose();
            assert!(wait.await.unwrap_err().to_string().contains("lost"));
            assert_eq!((child.returncode(), child.is_running()), (None, false));
            // No zombie is left.
            sys::waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
        });
    }
}
