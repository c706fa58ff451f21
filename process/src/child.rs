//! A child: its pidfd, its exit status, and the tasks that wait for it.
//!
//! ```text
//!    spawned ──▶ running ── exit; the first thread to notice calls `waitid` ──▶ reaped
//!                   └── its loop closes ──▶ watched by the reaper, until it exits
//! ```
//! A child whose group is to be killed is kept after its exit, as a zombie, until its handle goes: as long as it is not
//! reaped, no other process and no other group gets its number.
//!
//! The handle, the operation that waits for the exit, and the reaper share it, on any thread. Only `reap` takes the
//! exit status from the kernel.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use corio_runtime::{error, wake};
use rustix::{
    io::Errno,
    process::{self as sys, Pid, PidfdFlags, Signal, WaitId, WaitIdOptions},
};

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct Child {
    pid: u32,
    /// `None` if the kernel has no `pidfd_open`, or a filter refuses it. Then the process number names the child: it is
    /// not reused before `reap` has taken the exit status.
    pidfd: Option<OwnedFd>,
    /// It leads a process group of its own, which has its number.
    leads: bool,
    /// Its exit status is left to the kernel, so that its number stays its own.
    kept: AtomicBool,
    state: Mutex<State>,
    next_waiter: AtomicU64,
}

/// What becomes of a process group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// The child is in a group of others.
    Others,
    /// The child leads a group of its own.
    Own,
    /// As `Own`; the child is kept after its exit, until `let_go`.
    Kept,
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
    pub(crate) fn open(mut spawned: std::process::Child, group: Group) -> io::Result<Arc<Child>> {
        let pid = spawned.id();
        let opened = Pid::from_raw(pid.cast_signed())
            .ok_or(Errno::SRCH)
            .and_then(|pid| sys::pidfd_open(pid, PidfdFlags::empty()));
        let pidfd = match opened {
            Ok(pidfd) => Some(pidfd),
            Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS) => None,
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
        let (leads, kept) = (group != Group::Others, AtomicBool::new(group == Group::Kept));
        Ok(Arc::new(Child { pid, pidfd, leads, kept, state, next_waiter }))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn pidfd(&self) -> Option<&OwnedFd> {
        self.pidfd.as_ref()
    }

    /// The child, for `waitid`.
    fn id(&self) -> WaitId<'_> {
        match &self.pidfd {
            Some(pidfd) => WaitId::PidFd(pidfd.as_fd()),
            None => WaitId::Pid(self.number()),
        }
    }

    fn number(&self) -> Pid {
        Pid::from_raw(self.pid.cast_signed()).expect("a child has a number")
    }

    /// Blocks the thread until the child exits, without taking the exit status.
    pub(crate) fn block_until_exit(&self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(sys::waitid(self.id(), options), Err(Errno::INTR)) {}
    }

    /// The return code; `None` while the child runs, and if the status was lost.
    pub(crate) fn returncode(&self) -> Option<i32> {
        match *self.state() {
            State::Exited(code) => Some(code),
            State::Running(_) | State::Lost => None,
        }
    }

    /// Waits for the exit.
    pub(crate) fn wait(&self) -> Wait<'_> {
        Wait { child: self, waiter: None }
    }

    /// Sends `signal`, never to another process that got the child's number: by pidfd, or under the lock, without which
    /// `reap` cannot free the number. (Without a pidfd a program can still free it, if it ignores SIGCHLD or waits for
    /// all its children.)
    pub(crate) fn send_signal(&self, signal: Signal) -> io::Result<()> {
        let state = self.state();
        if !matches!(*state, State::Running(_)) {
            return Err(self.refuse("has ended: no signal can be sent to it"));
        }
        let sent = match &self.pidfd {
            Some(pidfd) => sys::pidfd_send_signal(pidfd, signal),
            None => sys::kill_process(self.number(), signal),
        };
        match sent {
            Err(Errno::SRCH) => Err(self.refuse("has ended: no signal can be sent to it")),
            other => Ok(other?),
        }
    }

    /// Sends `signal` to the group that the child leads, never to another one that got its number: under the lock,
    /// without which `reap` cannot free the number.
    pub(crate) fn send_signal_group(&self, signal: Signal) -> io::Result<()> {
        if !self.leads {
            return Err(self.refuse("has no group of its own: `process_group(0)` makes one"));
        }
        let state = self.state();
        let held = match *state {
            State::Running(_) => true,
            State::Exited(_) => self.kept.load(Ordering::Relaxed),
            State::Lost => false,
        };
        if !held {
            return Err(self.refuse("has ended, and its number is free: no signal can be sent to its group"));
        }
        match sys::kill_process_group(self.number(), signal) {
            Err(Errno::SRCH) => Err(self.refuse("has no group any more: no signal can be sent to it")),
            other => Ok(other?),
        }
    }

    fn refuse(&self, why: &str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidInput, format!("process {} {why}", self.pid))
    }

    /// Its handle has gone: it need not be kept any more.
    pub(crate) fn let_go(&self) {
        let state = self.state();
        if self.kept.swap(false, Ordering::Relaxed) && matches!(*state, State::Exited(_)) {
            let _ = sys::waitid(self.id(), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        }
    }

    /// Takes the exit status, and wakes the waiting tasks. `false` while the child runs.
    pub(crate) fn reap(&self) -> bool {
        let mut options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let mut locked = self.state();
        if !matches!(*locked, State::Running(_)) {
            return true;
        }
        // Read under the lock, as `let_go` changes it there.
        options.set(WaitIdOptions::NOWAIT, self.kept.load(Ordering::Relaxed));
        let state = match sys::waitid(self.id(), options) {
            Ok(None) | Err(Errno::INTR) => return false,
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => State::Exited(code),
                (None, Some(signal)) => State::Exited(-signal),
                (None, None) => return false,
            },
            Err(_) => State::Lost,
        };
        let before = std::mem::replace(&mut *locked, state);
        drop(locked);
        wake_all(before);
        true
    }

    /// Nothing can watch it any more.
    pub(crate) fn lose(&self) {
        let before = std::mem::replace(&mut *self.state(), State::Lost);
        wake_all(before);
    }

    /// Poisoning is ignored: a panic of a waker's destructor leaves a valid state.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Called without the lock: wakers are foreign code.
fn wake_all(before: State) {
    if let State::Running(waiters) = before {
        waiters.into_iter().for_each(|(_, waiter)| wake(waiter));
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
            let child = Child::open(sleeper(), Group::Others).unwrap();
            let mut wait = std::pin::pin!(child.wait());
            let polled = wait.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
            child.lose();
            assert!(wait.await.unwrap_err().to_string().contains("lost"));
            assert_eq!(child.returncode(), None);
            assert!(child.send_signal(Signal::KILL).is_err(), "it is not ours any more");
            // No zombie is left.
            sys::waitid(child.id(), WaitIdOptions::EXITED).unwrap();
        });
    }
}
