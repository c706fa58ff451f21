//! Driving a loop: `run`, `Runner::run`, `try_run`, `run_forever`, and how they end.

use std::{
    any::Any,
    error::Error,
    fmt,
    future::Future,
    io,
    panic::{self, AssertUnwindSafe, Location},
    pin::{Pin, pin},
    task::{Context, Poll},
    thread,
};

use crate::{
    event_loop::{
        current::{self, Entered, Loop, no_main},
        run::{CLEANUP, Runner},
        signals::interrupt::{Interrupt, end_by_sigint},
    },
    scheduler::{task_key::TaskKey, task_table::PollMain},
};

/// Runs `main` on a new loop to its end (asyncio `run`).
///
/// Afterwards every remaining task is cancelled and awaited, written data is sent, and no operation is left in the
/// kernel. Then a panic of `main` continues.
///
/// ```
/// assert_eq!(corio_runtime::run(async { 6 * 7 }), 42);
/// ```
///
/// ```compile_fail,E0277
/// // RUN-03: what is no future cannot be run.
/// corio_runtime::run(1);
/// ```
///
/// # Panics
/// Inside a running loop ("run() cannot be called from a running event loop"), if the loop cannot be set up (use
/// [`Runner::new`] to handle that), and if [`stop`](crate::stop), or a cancel of a `main` that is in
/// [`catch_cancel`](crate::catch_cancel) and does not keep it, ends it before `main` is done.
#[track_caller]
#[doc(alias = "block_on")]
pub fn run<F: Future>(main: F) -> F::Output {
    assert_not_running();
    match Runner::new() {
        Ok(mut runner) => runner.run(main),
        Err(e) => panic!("cannot start the event loop: {e}"),
    }
}

#[track_caller]
fn assert_not_running() {
    let running = current::try_with(|_| ()).is_some();
    assert!(!running, "run() cannot be called from a running event loop");
}

/// Why [`Runner::try_run`] has no value of its main future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunError {
    /// [`stop`](crate::stop) was called first.
    Stopped,
    /// The main future was cancelled.
    Cancelled,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RunError::Stopped => "event loop stopped before main completed",
            RunError::Cancelled => "the main future was cancelled",
        })
    }
}

impl Error for RunError {}

impl From<RunError> for io::Error {
    fn from(e: RunError) -> io::Error {
        io::Error::other(e)
    }
}

/// How a run ends.
enum End<T> {
    /// With main's value, or its panic.
    Done(thread::Result<T>),
    Early(RunError),
    /// By SIGINT.
    Interrupted,
}

impl Runner {
    /// Runs `main` to its end. Remaining tasks continue in the next run.
    ///
    /// On the main thread of a process that does not handle SIGINT itself, Ctrl-C ends the run gracefully: `main` and
    /// all tasks are cancelled, cleanups are awaited, then the signal ends the process. A second Ctrl-C ends it
    /// immediately.
    ///
    /// # Panics
    /// Inside a running loop, if the kernel fails the loop, if `main` panics, and if [`stop`](crate::stop) (asyncio
    /// raises `RuntimeError`), or a cancel that a `main` in [`catch_cancel`](crate::catch_cancel) does not keep, ends
    /// the run before `main` is done: [`try_run`](Runner::try_run) returns that as an error.
    #[track_caller]
    pub fn run<F: Future>(&mut self, main: F) -> F::Output {
        let location = Location::caller();
        match self.entered(|runner| runner.drive(pin!(Some(main)), false, location)) {
            Ok(value) => value,
            Err(e) => panic!("run() ended without a result: {e}"),
        }
    }

    /// As [`run`](Runner::run), for a `main` that may end without a value (asyncio `run_until_complete`).
    ///
    /// [`stop`](crate::stop) drops `main` where it is suspended; pass `&mut task` to continue in the next run. Here
    /// `main` can be cancelled like any task, by [`TaskInfo::cancel`](crate::TaskInfo::cancel) of its
    /// [`current_task`](crate::current_task): its next step drops it, and the run ends once cleanups have run, for up
    /// to 10 seconds of the loop's clock. A cancel takes precedence over a Ctrl-C that arrives later.
    ///
    /// ```
    /// use corio_runtime::{RunError, Runner, current_task, stop, time::{Duration, sleep}, yield_now};
    /// let mut runner = Runner::new()?;
    /// assert_eq!(runner.try_run(async { 1 }), Ok(1));
    ///
    /// let mut count = runner.create_task(async {
    ///     yield_now().await;
    ///     stop();
    ///     sleep(Duration::from_millis(1)).await;
    ///     2
    /// });
    /// assert!(matches!(runner.try_run(&mut count), Err(RunError::Stopped)));
    /// assert_eq!(runner.try_run(count).unwrap().unwrap(), 2);
    ///
    /// let cancelled = runner.try_run(async {
    ///     current_task().unwrap().cancel();
    ///     std::future::pending::<()>().await;
    /// });
    /// assert_eq!(cancelled, Err(RunError::Cancelled));
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// [`RunError::Stopped`] and [`RunError::Cancelled`].
    ///
    /// # Panics
    /// Inside a running loop, if the kernel fails the loop, and if `main` panics.
    #[track_caller]
    pub fn try_run<F: Future>(&mut self, main: F) -> Result<F::Output, RunError> {
        let location = Location::caller();
        self.entered(|runner| runner.drive(pin!(Some(main)), true, location))
    }

    /// Runs the loop's tasks and callbacks until [`stop`](crate::stop) is called (asyncio `run_forever`). Remaining
    /// tasks continue in the next run; closing the runner cancels them.
    ///
    /// ```
    /// use corio_runtime::{Runner, create_future, stop};
    /// let mut runner = Runner::new()?;
    /// let (resolver, future) = runner.enter(create_future);
    /// future.add_done_callback(stop);
    /// let _task = runner.create_task(async move { resolver.set_result("done") });
    /// runner.run_forever()?;
    /// assert_eq!(runner.run(future).unwrap(), "done");
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// [`RunError::Cancelled`] after Ctrl-C, where [`run`](Runner::run) would end the process (asyncio
    /// `KeyboardInterrupt`). From then on Ctrl-C does what it did before.
    ///
    /// # Panics
    /// Inside a running loop, and if the kernel fails the loop.
    #[track_caller]
    pub fn run_forever(&mut self) -> Result<(), RunError> {
        self.entered(Runner::turn_until_stopped)
    }

    fn turn_until_stopped(&self) -> End<()> {
        let lp: &Loop = &self.lp;
        lp.slow_watch.start();
        loop {
            if let Err(payload) = self.turn_caught(&mut no_main, u64::MAX) {
                lp.stopping.set(false);
                return End::Done(Err(payload));
            }
            if lp.stopping.replace(false) {
                let interrupted = lp.interrupted.get();
                return if interrupted { End::Early(RunError::Cancelled) } else { End::Done(Ok(())) };
            }
        }
    }

    /// Calls `drive` inside the loop, and ends the process if SIGINT ended the run.
    #[track_caller]
    fn entered<T>(&mut self, drive: impl FnOnce(&Runner) -> End<T>) -> Result<T, RunError> {
        let entered = Entered::new(&self.lp);
        let interrupt = Interrupt::install(&self.lp).map(|interrupt| Box::new(interrupt) as Box<dyn Any>);
        // A SIGINT that arrived at the end of an earlier run belongs to that run.
        self.lp.interrupted.set(false);
        self.lp.interrupt.set(interrupt);
        let end = drive(self);
        if matches!(end, End::Interrupted) {
            // A second SIGINT during this ends the process immediately.
            self.close_entered();
            drop(self.lp.interrupt.take());
            end_by_sigint();
        }
        drop(self.lp.interrupt.take());
        drop(entered);
        match end {
            End::Done(Ok(value)) => Ok(value),
            End::Done(Err(payload)) => panic::resume_unwind(payload),
            End::Early(e) => Err(e),
            End::Interrupted => panic!("the run was interrupted"),
        }
    }

    /// Drives `main` to its end, or to an earlier one of the run: `main` is then dropped unfinished.
    fn drive<F: Future>(
        &self,
        mut main: Pin<&mut Option<F>>,
        can_cancel: bool,
        location: &'static Location<'static>,
    ) -> End<F::Output> {
        let lp: &Loop = &self.lp;
        let key = lp.tasks.create_main(can_cancel, location);
        lp.slow_watch.start();
        let (mut end, mut lost) = (None, None);
        let end = loop {
            let mut poll_main = |cx: &mut Context<'_>| {
                if let Poll::Ready(ended) = self.step(main.as_mut(), key, cx) {
                    end = Some(ended);
                    lp.stopping.set(true);
                }
            };
            // A panic of a service ends the run; the main future is then dropped as usual.
            if let Err(payload) = self.turn_caught(&mut poll_main, u64::MAX) {
                lost = end.replace(End::Done(Err(payload)));
                lp.stopping.set(true);
            }
            if lp.stopping.get() {
                break end.unwrap_or_else(|| self.ended_from_outside(key));
            }
        };
        lp.stopping.set(false);
        lp.look_before_enter();
        // The destructors of `main` may still use the loop.
        let dropped = panic::catch_unwind(AssertUnwindSafe(|| {
            main.set(None);
            drop(lost);
        }));
        lp.tasks.end_main(key);
        match (dropped, end) {
            (Err(payload), _) => End::Done(Err(payload)),
            (Ok(()), End::Early(RunError::Cancelled)) => self.clean_up(),
            (Ok(()), end) => end,
        }
    }

    /// One step of `main`; the last one if it was cancelled.
    #[inline(always)]
    fn step<F: Future>(
        &self,
        main: Pin<&mut Option<F>>,
        key: TaskKey,
        cx: &mut Context<'_>,
    ) -> Poll<End<F::Output>> {
        if self.lp.tasks.ends_main() {
            return Poll::Ready(drop_cancelled(main));
        }
        let Some(future) = main.as_pin_mut() else { return Poll::Pending };
        let polled = panic::catch_unwind(AssertUnwindSafe(|| future.poll(cx)));
        Poll::Ready(match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            // A cancel that is not delivered yet wins over the value.
            Ok(Poll::Ready(_)) if self.lp.tasks.is_cancelled(key) => End::Early(RunError::Cancelled),
            Ok(Poll::Ready(value)) => End::Done(Ok(value)),
            Err(payload) => End::Done(Err(payload)),
        })
    }

    /// One turn, which sleeps until `deadline` at most. `Err`: its panic, or the kernel's failure.
    fn turn_caught(&self, poll_main: PollMain<'_>, deadline: u64) -> thread::Result<()> {
        panic::catch_unwind(AssertUnwindSafe(|| {
            if let Err(e) = self.lp.turn(poll_main, deadline) {
                panic!("the event loop failed: {e}");
            }
        }))
    }

    /// The end of a run that was stopped or interrupted before its main future is done.
    #[cold]
    fn ended_from_outside<T>(&self, main: TaskKey) -> End<T> {
        if !self.lp.interrupted.get() {
            return End::Early(RunError::Stopped);
        }
        // As in asyncio, a cancel that came first is not turned into an interrupt.
        if self.lp.tasks.is_cancelled(main) { End::Early(RunError::Cancelled) } else { End::Interrupted }
    }

    /// The end of a run whose main future was cancelled: waits for cleanups and for tasks that are being cancelled,
    /// unless the run is ended meanwhile.
    fn clean_up<T>(&self) -> End<T> {
        let lp = &self.lp;
        lp.interrupted.set(false);
        let deadline = lp.clock.after(CLEANUP);
        while !lp.stopping.get() && lp.tasks.is_cleaning_up() && lp.clock.now_ns() < deadline {
            let wait = if lp.tasks.ready.is_empty() { deadline } else { 0 };
            if let Err(payload) = self.turn_caught(&mut no_main, wait) {
                return End::Done(Err(payload));
            }
        }
        lp.stopping.set(false);
        End::Early(RunError::Cancelled)
    }
}

#[cold]
fn drop_cancelled<F: Future>(mut main: Pin<&mut Option<F>>) -> End<F::Output> {
    match panic::catch_unwind(AssertUnwindSafe(|| main.set(None))) {
        Ok(()) => End::Early(RunError::Cancelled),
        Err(payload) => End::Done(Err(payload)),
    }
}
