//! A loop embedded in another one: in tokio, a plain `poll`, a game's frame loop (asyncio has no equivalent).
//!
//! The host sleeps until the descriptor is readable or the deadline is reached, and then runs a turn of the loop. On
//! io_uring the descriptor is an eventfd that the kernel and other threads signal: the kernel at every completion. On
//! epoll it is the epoll descriptor itself.
//!
//! No wake is lost: a turn empties the descriptor, and only then checks whether the ring has more
//! ([`Runner::next_deadline`]). Later completions signal again.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use crate::{
    event_loop::{
        current::{Entered, Loop, no_main},
        run::Runner,
    },
    kernel::ring::embedded::Embedded,
};

/// The result of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    ran: usize,
    left: bool,
}

impl Turn {
    /// The number of steps of tasks and callbacks that ran.
    pub fn ran(&self) -> usize {
        self.ran
    }

    /// Whether the loop can run another turn immediately.
    pub fn is_left(&self) -> bool {
        self.left
    }
}

impl Runner {
    /// The descriptor that becomes readable when the loop has something to do: for the host's `poll`, `epoll` or
    /// `AsyncFd`. The host only waits for it; [`turn`](Runner::turn) empties it. On io_uring it is an eventfd, on epoll
    /// the loop's epoll descriptor.
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
    /// At the first call, if the process has no free descriptor; and on the simulator.
    #[track_caller]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        match self.lp.embed() {
            Ok(fd) => fd.as_fd(),
            Err(e) => panic!("the loop cannot be embedded: {e}"),
        }
    }

    /// Runs `f` inside the loop, with access to its tasks, timers and streams, without a turn.
    ///
    /// It may be called inside another loop's run.
    pub fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        let _entered = Entered::over(&self.lp);
        f()
    }

    /// Runs one turn: runs ready tasks, and takes completions. If there are none, waits at most `max_wait` (`None`:
    /// without limit). A host that waits itself passes `Some(Duration::ZERO)`.
    ///
    /// It may be called inside another loop's run.
    ///
    /// # Errors
    /// If the kernel fails the loop.
    pub fn turn(&mut self, max_wait: Option<Duration>) -> io::Result<Turn> {
        let lp = &self.lp;
        let _entered = Entered::over(lp);
        lp.inbox.awake();
        if let Some(embedded) = lp.embedded.get() {
            embedded.empty();
        }
        // The time spent in the host did not delay the tasks of this loop.
        lp.slow_watch.start();
        // A turn without a wait may skip the kernel. But the host calls because something happened.
        lp.look_at_kernel();
        // Spinning for messages would keep the host from its other work.
        lp.spin.stop();
        let deadline = match max_wait {
            _ if lp.has_work() => 0,
            Some(wait) if wait.is_zero() => 0,
            Some(wait) => lp.clock.after(wait),
            None => u64::MAX,
        };
        let ran = lp.turn(&mut no_main, deadline);
        // The host decides whether there is another turn.
        lp.stopping.set(false);
        lp.note_numbers();
        // From here on other threads signal the descriptor, even if the turn failed.
        lp.inbox.prepare_sleep();
        let ran = ran?;
        Ok(Turn { ran, left: lp.has_work() })
    }

    /// When the loop needs its next turn if the descriptor stays unreadable: now, if there is something to do; `None`
    /// for never.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.lp.has_work() {
            return Some(self.lp.clock.now());
        }
        let timer = self.lp.timers.borrow_mut().next_deadline();
        let tidy = self.lp.untidy.get().then(|| self.lp.tidy_at.get());
        let pause = self.lp.driver.next_pause();
        self.lp.clock.to_instant(timer.into_iter().chain(tidy).chain(pause).min()?)
    }
}

impl Loop {
    /// The descriptor that the host waits for; made at the first call.
    fn embed(&self) -> io::Result<&Embedded> {
        if let Some(fd) = self.embedded.get() {
            return Ok(fd);
        }
        let (embedded, others) = self.driver.embed()?;
        if let Some(host) = others {
            self.inbox.change_notifier(|unpark| unpark.embedded(host));
        }
        self.inbox.prepare_sleep();
        Ok(self.embedded.get_or_init(|| embedded))
    }

    /// Wakes the host after a change to the loop from outside its turns.
    pub(crate) fn tell_host(&self) {
        if self.embedded.get().is_some() && self.has_work() {
            let _ = self.handle().post(|_| ());
        }
    }

    /// Whether a turn has something to do immediately.
    fn has_work(&self) -> bool {
        !self.tasks.ready.is_empty()
            || !self.inbox.is_empty()
            || self.driver.submitted()
            || self.driver.wants_enter()
            || self.services.any_wants_turn()
    }
}
