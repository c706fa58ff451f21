//! Ending a run from inside or from another thread (asyncio `loop.stop`).

use crate::event_loop::{
    current::{self, Loop},
    handle::Handle,
    registry::LoopClosed,
};

/// Ends the run of this loop with the present turn (asyncio `loop.stop`): tasks and callbacks that are ready now still
/// run. Tasks stay, and continue in the next run.
///
/// [`Runner::run_forever`](crate::Runner::run_forever) then returns, [`Runner::try_run`](crate::Runner::try_run)
/// returns [`RunError::Stopped`](crate::RunError::Stopped), and [`run`](crate::run) panics. Between two runs, it limits
/// the next one to a single turn. No effect once the loop is closing, and none beyond a turn without a wait on a loop
/// that its host turns ([`Runner::turn`](crate::Runner::turn)).
///
/// ```
/// use corio_runtime::{Runner, stop, time::{Duration, sleep}};
/// let mut runner = Runner::new()?;
/// let task = runner.create_task(async {
///     sleep(Duration::from_millis(1)).await;
///     stop();
///     7
/// });
/// runner.run_forever()?;
/// assert!(runner.enter(|| task.done()));
/// assert_eq!(runner.run(task).unwrap(), 7);
/// # std::io::Result::Ok(())
/// ```
///
/// # Panics
/// Outside a running loop: "no running event loop".
#[track_caller]
pub fn stop() {
    current::with(Loop::stop);
}

impl Handle {
    /// As [`stop`], from any thread (asyncio `loop.call_soon_threadsafe(loop.stop)`): what was sent to the loop before
    /// still runs. On the loop's own thread it acts at once, even between runs.
    ///
    /// ```
    /// let mut runner = corio_runtime::Runner::new()?;
    /// let handle = runner.handle();
    /// let thread = std::thread::spawn(move || handle.stop());
    /// runner.run_forever()?;
    /// assert!(thread.join().unwrap().is_ok());
    /// runner.close();
    /// assert!(handle.stop().is_err());
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// [`LoopClosed`] if the loop has ended.
    pub fn stop(&self) -> Result<(), LoopClosed> {
        match current::at_home(self.loop_id, Loop::stop) {
            Some(()) => Ok(()),
            None => self.call_soon_threadsafe(stop),
        }
    }
}

impl Loop {
    /// Ends the run with the present turn.
    pub(crate) fn stop(&self) {
        // A closing loop turns until its tasks have ended.
        if !self.ending.get() {
            self.stopping.set(true);
        }
    }
}
