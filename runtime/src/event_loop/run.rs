//! `Runner`, which owns a loop and closes it, and `Builder` (asyncio `Runner`).

use std::{
    fmt, io,
    panic::{self, AssertUnwindSafe},
    rc::Rc,
    time::{Duration, Instant},
};

use crate::{
    event_loop::{
        affinity,
        backend::{self, Backend, BackendInfo, Reason},
        current::{Entered, Loop, no_main},
        exceptions::{ExceptionContext, SharedHandler},
        handle::Handle,
        tidy::tidy_later,
    },
    kernel::{
        pool::{self, Pool},
        ring::{
            Ring,
            refusal::Refusal,
            sim,
            terms::{Sizes, Wait},
        },
    },
    scheduler::{clock::Clock, task_error::discard},
};

/// How long an ending loop waits for connections that close: in total, and for one that transfers no byte.
const LINGER: (Duration, Duration) = (Duration::from_secs(5), Duration::from_millis(500));
/// The services enforce the limits of `LINGER`; the loop waits only this much longer for one that fails to.
const LINGER_GRACE: Duration = Duration::from_secs(1);
/// How long a closing loop waits for the kernel to end another cancelled operation.
const QUIESCE: Duration = Duration::from_secs(1);
/// The least number of cancel rounds in that time: a slow machine must not look like a kernel that ends nothing.
const QUIESCE_ROUNDS: usize = 20;
/// The most rounds in which a closing loop cancels tasks, including those that cancelled tasks leave behind.
const CANCEL_ROUNDS: usize = 1000;
/// How long a closing loop waits for calls of `to_thread` in progress (asyncio's `THREAD_JOIN_TIMEOUT`).
const THREAD_JOIN: Duration = Duration::from_secs(300);
/// How long a closing loop waits for cleanups.
pub(super) const CLEANUP: Duration = Duration::from_secs(10);

/// A loop that can run several main futures, one after the other (asyncio `Runner`). Dropping it closes the loop.
///
/// ```
/// let mut runner = corio_runtime::Runner::new()?;
/// let task = runner.create_task(async { 1 });
/// assert_eq!(runner.run(task).unwrap(), 1);
/// assert_eq!(runner.run(async { 2 }), 2);
/// let handle = runner.handle();
/// runner.close();
/// assert!(handle.is_closed());
/// # std::io::Result::Ok(())
/// ```
pub struct Runner {
    pub(crate) lp: Rc<Loop>,
    debug: bool,
    thread_join: Duration,
    linger: (Duration, Duration),
    closed: bool,
}

impl Runner {
    /// A loop with the default settings.
    ///
    /// # Errors
    /// If the kernel refuses what a loop needs: the text names the cause, the setting and the remedy.
    pub fn new() -> io::Result<Runner> {
        Runner::builder().build()
    }

    /// Settings for a loop.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A handle to the loop, for any thread.
    pub fn handle(&self) -> Handle {
        self.lp.handle()
    }

    /// Whether the loop is in debug mode.
    pub fn is_debug(&self) -> bool {
        self.debug
    }

    /// Which kernel the loop runs on, and why.
    pub fn backend(&self) -> BackendInfo {
        self.lp.backend
    }

    /// Cancels the remaining tasks, sends written data, and ends every operation in the kernel.
    ///
    /// ```compile_fail,E0382
    /// // LOOP-26, RUN-15: a closed loop is gone; it can be closed no more, and runs nothing.
    /// let mut runner = corio_runtime::Runner::new().unwrap();
    /// runner.close();
    /// runner.run(async {});
    /// ```
    ///
    /// ```compile_fail,E0505
    /// // LOOP-28: its run borrows it.
    /// let mut runner = corio_runtime::Runner::new().unwrap();
    /// runner.run(async { runner.close() });
    /// ```
    pub fn close(self) {
        drop(self);
    }

    fn shut_down(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        let lp = &self.lp;
        lp.slow_watch.start();
        lp.ending.set(true);
        lp.stopping.set(false);
        self.cancel_tasks()?;
        self.close_pool()?;
        self.drop_values()?;
        self.close_connections()?;
        lp.closing.set(true);
        lp.discard(lp.signal_handlers.take().into_values().collect());
        lp.discard(lp.calls.clear());
        lp.services.each(|service| service.close());
        for task in lp.tasks.infos() {
            let context = ExceptionContext::new("Task was destroyed but it is pending!");
            lp.exceptions.report(&context.with_task(Some(task)));
        }
        lp.discard(lp.tasks.clear());
        lp.discard(lp.values.clear());
        self.quiesce()?;
        lp.inbox.close();
        Ok(())
    }

    fn cancel_tasks(&self) -> io::Result<()> {
        let (tasks, clock) = (&self.lp.tasks, &self.lp.clock);
        let deadline = clock.after(CLEANUP);
        let mut rounds = 0;
        while tasks.live() > 0 && rounds < CANCEL_ROUNDS {
            let late = clock.now_ns() >= deadline;
            if late || tasks.live() > tasks.cleanups() {
                rounds += 1;
                tasks.cancel_all(late);
                self.lp.turn(&mut no_main, 0)?;
            } else {
                // Sleeps only if the ready queue is empty: a ready task may end the last cleanup.
                let idle = tasks.ready.is_empty();
                self.lp.turn(&mut no_main, if idle { deadline } else { 0 })?;
            }
        }
        Ok(())
    }

    /// Waits for blocking work while the loop turns, because the work may need the loop.
    fn close_pool(&self) -> io::Result<()> {
        let lp = &self.lp;
        let deadline = lp.clock.after(self.thread_join);
        while lp.close_pool() > 0 {
            if lp.clock.now_ns() >= deadline {
                let limit = self.thread_join;
                let text =
                    format!("a thread of to_thread did not end within {limit:?}: the loop closes without it");
                lp.exceptions.report(&ExceptionContext::new(text));
                break;
            }
            // Their requests to the loop are now answered by a cancel: otherwise they and the loop would wait for each
            // other.
            self.cancel_tasks()?;
            let idle = lp.tasks.ready.is_empty();
            lp.turn(&mut no_main, if idle { deadline } else { 0 })?;
        }
        self.cancel_tasks()
    }

    /// No task is left that uses the values of `OnLoop`. Their destructors may begin cleanups, and close connections.
    fn drop_values(&self) -> io::Result<()> {
        self.lp.discard(self.lp.values.clear());
        self.cancel_tasks()
    }

    /// Waits for connections that close, by the loop's clock: virtual time does not wait.
    fn close_connections(&self) -> io::Result<()> {
        let (lp, (total, idle)) = (&self.lp, self.linger);
        lp.services.each(|service| service.end(total, idle));
        let deadline = lp.clock.after(total.saturating_add(LINGER_GRACE));
        while lp.services.any_busy() && lp.clock.now_ns() < deadline {
            lp.turn(&mut no_main, lp.clock.after(Duration::from_millis(10)))?;
        }
        Ok(())
    }

    /// Ends every operation in the kernel. If the kernel does not end them all, their memory is leaked.
    fn quiesce(&self) -> io::Result<()> {
        let driver = &self.lp.driver;
        let (mut since, mut rounds) = (Instant::now(), 0);
        driver.check()?;
        while driver.in_flight() > 0 {
            if rounds >= QUIESCE_ROUNDS && since.elapsed() >= QUIESCE {
                driver.leak();
                return Err(io::Error::other("the kernel did not end all operations of a closing loop"));
            }
            let before = driver.in_flight();
            driver.cancel_all();
            let wait = Wait::Until(self.lp.clock.after(Duration::from_millis(50)));
            driver.enter(wait, self.lp.to())?;
            rounds += 1;
            if driver.in_flight() < before {
                (since, rounds) = (Instant::now(), 0);
            }
        }
        Ok(())
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let entered = panic::catch_unwind(AssertUnwindSafe(|| Entered::over(&self.lp)));
        self.close_entered();
        drop(entered);
    }
}

impl Runner {
    pub(super) fn close_entered(&mut self) {
        let caught = |f: &mut dyn FnMut() -> io::Result<()>| {
            panic::catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|payload| {
                discard(payload);
                Err(io::Error::other("it panicked"))
            })
        };
        if let Err(e) = caught(&mut || self.shut_down()) {
            self.lp.exceptions.report(&ExceptionContext::new("closing the loop").with_error(e));
            // Even after an error or a panic the ring is not freed while operations use it, and no sender waits for the
            // loop.
            self.lp.inbox.close();
            self.lp.closing.set(true);
            self.lp.services.each(|service| {
                if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| service.close())) {
                    discard(payload);
                }
            });
            if caught(&mut || self.quiesce()).is_err() {
                self.lp.driver.leak();
            }
        }
        self.lp.exceptions.finish();
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("handle", &self.handle()).field("backend", &self.backend()).finish()
    }
}

/// Settings of a loop.
///
/// ```
/// use corio_runtime::{Backend, Runner};
/// let mut runner = Runner::builder().entries(64).buffers(16, 2048).build()?;
/// assert_ne!(runner.backend().backend(), Backend::Auto);
/// assert_eq!(runner.run(async { 1 }), 1);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "settings do nothing until `build`"]
pub struct Builder {
    backend: Backend,
    /// Chosen by another loop of the same group.
    decided: Option<BackendInfo>,
    entries: u32,
    completions: Option<u32>,
    buffer_count: u16,
    buffer_size: usize,
    pin: Option<usize>,
    slow_callback: Option<Duration>,
    debug: Option<bool>,
    thread_join: Duration,
    linger: (Duration, Duration),
    pub(super) exception_handler: Option<SharedHandler>,
    faults: Faults,
    old_kernel: bool,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            backend: Backend::Auto,
            decided: None,
            entries: 256,
            completions: None,
            buffer_count: 128,
            buffer_size: 4096,
            pin: None,
            slow_callback: None,
            debug: None,
            thread_join: THREAD_JOIN,
            linger: LINGER,
            exception_handler: None,
            faults: Faults::default(),
            old_kernel: false,
        }
    }
}

impl Builder {
    /// The kernel to run on. Default: [`Backend::Auto`], for which the environment can name one: `CORIO_BACKEND` is
    /// `auto`, `uring`, `epoll`, or `sim:SEED` for the simulator. [`Runner::backend`] returns the kernel in use.
    pub fn backend(mut self, backend: Backend) -> Builder {
        self.backend = backend;
        self
    }

    /// Runs on the kernel of another loop of the same group.
    pub(crate) fn decided(mut self, backend: BackendInfo) -> Builder {
        self.decided = Some(backend);
        self
    }

    /// Entries of the submission queue, 1 to 32768, rounded up to a power of two. Default: 256. More operations may be
    /// in flight. No effect on epoll.
    pub fn entries(mut self, entries: u32) -> Builder {
        self.entries = entries;
        self
    }

    /// Entries of the completion queue, at least [`Builder::entries`], and at most the kernel's 65536; other values
    /// mean the nearest of these. Default: four times [`Builder::entries`]. Completions that do not fit wait in the
    /// kernel. No effect on epoll.
    pub fn completion_entries(mut self, entries: u32) -> Builder {
        self.completions = Some(entries);
        self
    }

    /// Receive buffers that all idle streams of the loop share: `count` (a power of two, at most 32768) buffers of
    /// `size` bytes (at most 1 MiB), at most 1 GiB in total. Default: 128 of 4096 bytes, which stays in a core's cache.
    pub fn buffers(mut self, count: u16, size: usize) -> Builder {
        self.buffer_count = count;
        self.buffer_size = size;
        self
    }

    /// Pins the thread that builds the loop to a core, by the kernel's number.
    pub fn pin(mut self, core: usize) -> Builder {
        self.pin = Some(core);
        self
    }

    /// Reports steps of tasks and callbacks that take at least `limit` to the exception handler. Default: off.
    pub fn slow_callback(mut self, limit: Duration) -> Builder {
        self.slow_callback = Some(limit);
        self
    }

    /// Turns asyncio's debug mode on or off. It reports steps of tasks, with the task, and of callbacks that take over
    /// 100 ms, or over the limit of [`slow_callback`](Builder::slow_callback). The loop also prints which kernel it
    /// runs on, and why. Default: on if `CORIO_DEBUG` is set to anything but 0.
    ///
    /// Without debug mode only steps of a second or more are reported: with their task, or, in a turn of many steps,
    /// with all of that turn. From then on each step is reported by itself for a minute.
    pub fn debug(mut self, on: bool) -> Builder {
        self.debug = Some(on);
        self
    }

    fn is_debug(&self) -> bool {
        let from_environment =
            || std::env::var_os("CORIO_DEBUG").is_some_and(|value| !value.is_empty() && value != "0");
        self.debug.unwrap_or_else(from_environment)
    }

    /// How long the end of the loop waits for calls of [`to_thread`](crate::to_thread) in progress. The exception
    /// handler gets a report if the loop stops waiting. Default: 300 s, as in asyncio.
    ///
    /// ```
    /// use corio_runtime::{Runner, time::Duration, to_thread};
    /// let mut runner = Runner::builder().thread_join_timeout(Duration::from_secs(5)).build()?;
    /// assert_eq!(runner.run(to_thread(|| 7)), 7);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn thread_join_timeout(mut self, limit: Duration) -> Builder {
        self.thread_join = limit;
        self
    }

    /// How long the end of the loop waits for connections that still send written data, or whose peers still send: at
    /// most `total`, and `idle` for one that transfers no byte. After that they are reset. Default: 5 s and 500 ms.
    ///
    /// ```
    /// use corio_runtime::{Runner, time::Duration};
    /// let at_once = Runner::builder().linger(Duration::ZERO, Duration::ZERO).build()?;
    /// at_once.close();
    /// # std::io::Result::Ok(())
    /// ```
    pub fn linger(mut self, total: Duration, idle: Duration) -> Builder {
        self.linger = (total, idle);
        self
    }

    /// Faults that the simulator injects. No effect on a real kernel.
    pub fn faults(mut self, faults: Faults) -> Builder {
        self.faults = faults;
        self
    }

    /// Uses no ability that old kernels may lack (those that the self-tests at start-up try), to test a program's
    /// behaviour there. Default: off.
    ///
    /// ```
    /// let mut runner = corio_runtime::Runner::builder().old_kernel(true).build()?;
    /// assert_eq!(runner.run(async { corio_runtime::op::pipes_are_quiet() }), false);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn old_kernel(mut self, on: bool) -> Builder {
        self.old_kernel = on;
        self
    }

    /// Makes the loop on this thread.
    ///
    /// # Errors
    /// Settings out of range, a core that does not exist, and refusals of the kernel; the text names the value.
    pub fn build(self) -> io::Result<Runner> {
        let (named, reason) = match self.decided {
            Some(decided) => (decided.backend, decided.reason),
            None => backend::named(self.backend)?,
        };
        self.check(named)?;
        self.pin_thread()?;
        let (mut ring, backend, clock) = self.kernel(named, reason)?;
        let wakes = ring.unpark().map_err(|refusal| refusal.explain(self.sizes()))?;
        if self.old_kernel {
            ring.be_old();
        }
        let debug = self.is_debug();
        let slow_callback = self.slow_callback.or(debug.then_some(Duration::from_millis(100)));
        let lp = Loop::new(ring, wakes, backend, clock, slow_callback)?;
        lp.debug.set(debug);
        if let Some(handler) = &self.exception_handler {
            lp.exceptions.set_default(handler.clone());
        }
        if debug {
            lp.exceptions.note(format!("the loop runs on {backend}"));
        }
        Ok(Runner { lp, debug, thread_join: self.thread_join, linger: self.linger, closed: false })
    }

    /// Checks all settings before anything is changed on the thread.
    fn check(&self, backend: Backend) -> io::Result<()> {
        if !(1..=32768).contains(&self.entries) {
            let text = format!("{} submission entries: must be 1 to 32768", self.entries);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        pool::check(self.buffer_count, self.buffer_size)?;
        if matches!(backend, Backend::Sim { .. }) { self.faults.check() } else { Ok(()) }
    }

    /// Pins the thread before the ring is made, so that its memory is near the core.
    fn pin_thread(&self) -> io::Result<()> {
        // Reads the allowed cores before this thread is pinned.
        affinity::allowed();
        if let Some(core) = self.pin
            && !(core < 1024 && core_affinity::set_for_current(core_affinity::CoreId { id: core }))
        {
            let text =
                format!("cannot pin the loop to core {core}: it does not exist or is not allowed here");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(())
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            sq: self.entries,
            cq: self.completions.unwrap_or(self.entries.saturating_mul(4)).max(self.entries),
            buffer_count: self.buffer_count,
            buffer_size: self.buffer_size,
        }
    }

    /// Makes the ring: of the named kernel, or for `Auto` of the best one available.
    fn kernel(&self, backend: Backend, reason: Reason) -> io::Result<(Ring, BackendInfo, Clock)> {
        let explain = |refusal: Refusal| refusal.explain(self.sizes());
        let clock = Clock::real();
        let (ring, backend, reason) = match backend {
            Backend::Sim { seed } => {
                let (ring, clock) = self.simulator(seed)?;
                return Ok((ring, BackendInfo { backend, reason }, clock));
            }
            Backend::Uring => (self.uring(&clock)?.map_err(explain)?, backend, reason),
            Backend::Epoll => (self.epoll(&clock)?.map_err(explain)?, backend, reason),
            Backend::Auto => match self.uring(&clock)? {
                Ok(ring) => (ring, Backend::Uring, reason),
                Err(refusal) => {
                    let reason = backend::without_uring(refusal).map_err(explain)?;
                    (self.epoll(&clock)?.map_err(explain)?, Backend::Epoll, reason)
                }
            },
        };
        Ok((ring, BackendInfo { backend, reason }, clock))
    }

    fn uring(&self, clock: &Clock) -> io::Result<Result<Ring, Refusal>> {
        let pool = Pool::new(self.buffer_count, self.buffer_size)?;
        Ok(Ring::uring(self.sizes(), pool, clock.clone()))
    }

    fn epoll(&self, clock: &Clock) -> io::Result<Result<Ring, Refusal>> {
        let pool = Pool::ours(self.buffer_count, self.buffer_size)?;
        Ok(Ring::epoll(self.sizes(), pool, clock.clone(), tidy_later))
    }

    fn simulator(&self, seed: u64) -> io::Result<(Ring, Clock)> {
        let (pool, clock) = (Pool::ours(self.buffer_count, self.buffer_size)?, Clock::simulated());
        let sim = sim::Sim::new(seed, self.sizes(), pool, self.faults.clone(), clock.clone());
        Ok((Ring::Sim(Box::new(sim)), clock))
    }
}

pub use crate::kernel::ring::sim::Faults;
