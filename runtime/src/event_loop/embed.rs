//! A loop that another loop drives: tokio, a plain `poll`, a game's frame loop (asyncio has no such thing).
//!
//! The host sleeps in its own way until the descriptor is readable or the deadline has come, and then lets the loop
//! make a turn. The descriptor is an eventfd that the kernel signals at every completion: the ring's own descriptor
//! does not wake a `poll`. Other threads signal it, too.
//!
//! No wake is lost: a turn empties the eventfd, and only then looks whether the ring has more
//! ([`Runner::next_deadline`]); what comes after that signals again.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::event_loop::{
    current::{Entered, Loop, no_main},
    run::Runner,
};

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    ran: usize,
    left: bool,
}

impl Turn {
    /// How many steps of tasks and callbacks ran.
    pub fn ran(&self) -> usize {
        self.ran
    }

    /// Whether there is more to do at once.
    pub fn is_left(&self) -> bool {
        self.left
    }
}

impl Runner {
    /// The descriptor that becomes readable when the loop has something to do: for the host's `poll`, `epoll` or
    /// `AsyncFd`. The host only waits for it; [`turn`](Runner::turn) empties it.
    ///
    /// ```
    /// use corio_runtime::{Runner, time::{Duration, sleep}};
    /// use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    /// let mut runner = Runner::new()?;
    /// let task = runner.create_task(sleep(Duration::from_millis(5)));
    /// while !runner.enter(|| task.done()) {
    ///     let wait = runner.next_deadline().map(|at| at.saturating_duration_since(std::time::Instant::now()));
    ///     let wait = wait.map_or(PollTimeout::NONE, |wait| {
    ///         PollTimeout::try_from(wait + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
    ///     });
    ///     poll(&mut [PollFd::new(runner.as_fd(), PollFlags::POLLIN)], wait)?;
    ///     runner.turn(Some(Duration::ZERO))?;
    /// }
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Panics
    /// At the first call, if no descriptor is left, and under the simulator.
    #[track_caller]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        match self.lp.embed() {
            Ok(fd) => fd.as_fd(),
            Err(e) => panic!("the loop cannot be embedded: {e}"),
        }
    }

    /// Runs `f` as the loop's own code, with its tasks, timers and streams at hand, and without a turn.
    ///
    /// It may be called inside another loop's run.
    pub fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        let _entered = Entered::over(&self.lp);
        f()
    }

    /// Makes one turn: runs what is ready, and takes what the kernel has. If nothing is, it waits `max_wait` at
    /// most (for ever if that is `None`): `Some(Duration::ZERO)` for a host that waits itself.
    ///
    /// It may be called inside another loop's run.
    ///
    /// # Errors
    /// If the kernel fails the loop.
    pub fn turn(&mut self, max_wait: Option<Duration>) -> io::Result<Turn> {
        let lp = &self.lp;
        let _entered = Entered::over(lp);
        lp.inbox.awake();
        if let Some(fd) = lp.embedded.get() {
            // Empty is an error, and as good.
            let _ = fd.read();
        }
        // What the host did meanwhile has kept nobody of this loop.
        lp.slow_watch.start();
        // Without a wait a turn may skip the kernel; the host only calls if there is something.
        lp.look_at_kernel();
        // The host has other things to do than to look out for messages.
        lp.spin.stop();
        let deadline = match max_wait {
            _ if lp.has_work() => 0,
            Some(wait) if wait.is_zero() => 0,
            Some(wait) => lp.clock.after(wait),
            None => u64::MAX,
        };
        let ran = lp.turn(&mut no_main, deadline);
        lp.note_numbers();
        // From here on other threads signal, also if the turn failed.
        lp.inbox.prepare_sleep();
        let ran = ran?;
        Ok(Turn { ran, left: lp.has_work() })
    }

    /// When the loop wants its next turn if the descriptor stays silent: now, if there is something to do; `None` for
    /// never.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.lp.has_work() {
            return Some(self.lp.clock.now());
        }
        let timer = self.lp.timers.borrow_mut().next_deadline();
        let tidy = self.lp.untidy.get().then(|| self.lp.tidy_at.get());
        self.lp.clock.to_instant(timer.into_iter().chain(tidy).min()?)
    }
}

impl Loop {
    /// The eventfd of an embedded loop.
    fn embed(&self) -> io::Result<&EventFd> {
        if let Some(fd) = self.embedded.get() {
            return Ok(fd);
        }
        // Made first: what fails leaves nothing with the kernel, and the next call may succeed.
        let fd = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let host = fd.as_fd().try_clone_to_owned()?;
        self.driver.embed(fd.as_fd())?;
        self.inbox.change_notifier(|unpark| unpark.embedded(host));
        self.inbox.prepare_sleep();
        // Nobody signals what was complete before. It fails only if the counter is full, which is as good.
        let _ = fd.write(1);
        Ok(self.embedded.get_or_init(|| fd))
    }

    /// Something was done to the loop from outside its turns: a host that waits for it has to know.
    pub(crate) fn tell_host(&self) {
        if self.embedded.get().is_some() && self.has_work() {
            let _ = self.handle().post(|_| ());
        }
    }

    /// Whether a turn has something to do at once.
    fn has_work(&self) -> bool {
        !self.tasks.ready.is_empty()
            || !self.inbox.is_empty()
            || self.driver.submitted()
            || self.driver.wants_enter()
            || self.services.any_wants_turn()
    }
}
