//! Running the loop: `run`, `Runner`, `Builder` (asyncio `run`, `Runner`).

use std::{
    any::Any,
    fmt,
    future::Future,
    io,
    os::fd::OwnedFd,
    panic::{self, AssertUnwindSafe, Location},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use crate::{
    event_loop::{
        affinity, current,
        current::{Entered, Loop, no_main},
        exceptions::ExceptionContext,
        handle::Handle,
        signals::interrupt::{Interrupt, end_by_sigint},
    },
    kernel::{
        pool::{self, Pool},
        ring::{
            Ring, sim,
            terms::{Sizes, Wait},
            unpark::Unpark,
        },
    },
    scheduler::{clock::Clock, task_error::discard},
};

/// How long an ending loop waits for connections that close, and for one on which no byte moves.
const LINGER: (Duration, Duration) = (Duration::from_secs(5), Duration::from_millis(500));
/// The services keep the limits; a loop does not wait for one that fails to.
const LINGER_GRACE: Duration = Duration::from_secs(1);
/// How long a closing loop waits for the kernel to give anything of what was cancelled back.
const QUIESCE: Duration = Duration::from_secs(1);
/// How often it asks in that time, at least: a machine that is short of time is no kernel that refuses.
const QUIESCE_ROUNDS: usize = 20;
/// How often a closing loop cancels again what cancelled tasks left behind.
const CANCEL_ROUNDS: usize = 1000;
/// How long a closing loop waits for blocking work that has begun (asyncio's `THREAD_JOIN_TIMEOUT`).
const THREAD_JOIN: Duration = Duration::from_secs(300);
/// How long a closing loop waits for cleanups.
const CLEANUP: Duration = Duration::from_secs(10);

/// Runs `main` on a new loop to its end (asyncio `run`).
///
/// Then every task that is left is cancelled and awaited, what was written is sent, and no operation is left
/// in the kernel. A panic of `main` goes on after that.
///
/// ```
/// assert_eq!(corio_runtime::run(async { 6 * 7 }), 42);
/// ```
///
/// # Panics
/// Inside a running loop ("run() cannot be called from a running event loop"), and if the loop cannot be set
/// up: use [`Runner::new`] to handle that.
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

/// A loop that can run several main futures, one after the other (asyncio `Runner`). Dropping it closes it.
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
    backend: BackendInfo,
    debug: bool,
    thread_join: Duration,
    linger: (Duration, Duration),
    closed: bool,
}

impl Runner {
    /// A loop with the default settings.
    ///
    /// # Errors
    /// If the kernel refuses io_uring: the text names the cause seen, the setting and the remedy.
    pub fn new() -> io::Result<Runner> {
        Runner::builder().build()
    }

    /// Settings for a loop.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Runs `main` to its end. Tasks that it leaves behind go on with the next `run`.
    ///
    /// On the main thread of a process that does not handle SIGINT itself, Ctrl-C ends the run in order: `main`
    /// and all tasks are cancelled, cleanups awaited, then the process ends by the signal. A second one ends it
    /// at once.
    ///
    /// # Panics
    /// Inside a running loop; if the kernel fails the loop; and with what `main` panics with.
    #[track_caller]
    pub fn run<F: Future>(&mut self, main: F) -> F::Output {
        let entered = Entered::new(&self.lp);
        let interrupt = Interrupt::install(&self.lp).map(|interrupt| Box::new(interrupt) as Box<dyn Any>);
        // A SIGINT that came as an earlier run ended was for that one.
        self.lp.interrupted.set(false);
        self.lp.interrupt.set(interrupt);
        let result = self.drive(pin!(Some(main)), Location::caller());
        if result.is_none() {
            // A second SIGINT meanwhile ends the process at once.
            self.close_entered();
            drop(self.lp.interrupt.take());
            end_by_sigint();
        }
        drop(self.lp.interrupt.take());
        drop(entered);
        match result {
            Some(Ok(value)) => value,
            Some(Err(payload)) => panic::resume_unwind(payload),
            None => panic!("the run was interrupted"),
        }
    }

    /// `None` if SIGINT came first: `main` is dropped where it was.
    fn drive<F: Future>(
        &self,
        mut main: Pin<&mut Option<F>>,
        location: &'static Location<'static>,
    ) -> Option<Result<F::Output, Box<dyn std::any::Any + Send>>> {
        let key = self.lp.tasks.create_main(location);
        self.lp.slow_watch.start();
        let mut result = None;
        let mut lost = None;
        while result.is_none() && !self.lp.interrupted.get() {
            let mut poll_main = |cx: &mut Context<'_>| {
                let Some(main) = main.as_mut().as_pin_mut() else { return };
                let polled = panic::catch_unwind(AssertUnwindSafe(|| main.poll(cx)));
                result = match polled {
                    Ok(Poll::Ready(value)) => Some(Ok(value)),
                    Ok(Poll::Pending) => None,
                    Err(payload) => Some(Err(payload)),
                };
                self.lp.stopping.set(result.is_some());
            };
            // A service that panics ends the run, whose main future ends like any other.
            let turned = panic::catch_unwind(AssertUnwindSafe(|| {
                if let Err(e) = self.lp.turn(&mut poll_main, u64::MAX) {
                    panic!("the event loop failed: {e}");
                }
            }));
            if let Err(payload) = turned {
                lost = result.replace(Err(payload));
            }
        }
        self.lp.stopping.set(false);
        self.lp.look_before_enter();
        // Its destructors may still use the loop.
        let dropped = panic::catch_unwind(AssertUnwindSafe(|| {
            main.set(None);
            drop(lost);
        }));
        self.lp.tasks.end_main(key);
        dropped.map_or_else(|payload| Some(Err(payload)), |()| result)
    }

    /// Names the loop from any thread.
    pub fn handle(&self) -> Handle {
        self.lp.handle()
    }

    /// Whether the loop is in debug mode.
    pub fn is_debug(&self) -> bool {
        self.debug
    }

    /// Which kernel the loop runs on, and why.
    pub fn backend(&self) -> &BackendInfo {
        &self.backend
    }

    /// Cancels what is left, sends what was written, and ends every operation in the kernel.
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
        self.cancel_tasks()?;
        self.close_pool()?;
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
                // Sleeps only while nothing is ready: what is may be the end of the last cleanup.
                let idle = tasks.ready.is_empty();
                self.lp.turn(&mut no_main, if idle { deadline } else { 0 })?;
            }
        }
        Ok(())
    }

    /// Waits for blocking work while the loop turns: it may need the loop.
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
            // What they ask of the loop now is answered by a cancel, or they would wait for each other.
            self.cancel_tasks()?;
            let idle = lp.tasks.ready.is_empty();
            lp.turn(&mut no_main, if idle { deadline } else { 0 })?;
        }
        self.cancel_tasks()
    }

    /// By the loop's own clock: a simulated one need not wait.
    fn close_connections(&self) -> io::Result<()> {
        let (lp, (total, idle)) = (&self.lp, self.linger);
        lp.services.each(|service| service.end(total, idle));
        let deadline = lp.clock.after(total.saturating_add(LINGER_GRACE));
        while lp.services.any_busy() && lp.clock.now_ns() < deadline {
            lp.turn(&mut no_main, lp.clock.after(Duration::from_millis(10)))?;
        }
        Ok(())
    }

    /// Takes every operation back from the kernel; what it keeps though nothing else is left costs its memory.
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
    fn close_entered(&mut self) {
        let caught = |f: &mut dyn FnMut() -> io::Result<()>| {
            panic::catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|payload| {
                discard(payload);
                Err(io::Error::other("it panicked"))
            })
        };
        if let Err(e) = caught(&mut || self.shut_down()) {
            self.lp.exceptions.report(&ExceptionContext::new("closing the loop").with_error(e));
            // Whatever happens, the ring is not freed under an operation, and no sender waits for the loop.
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
        f.debug_struct("Runner").field("handle", &self.handle()).field("backend", &self.backend).finish()
    }
}

/// Settings of a loop.
///
/// ```
/// use corio_runtime::{Backend, Runner};
/// let mut runner = Runner::builder().entries(64).buffers(16, 2048).build()?;
/// assert_eq!(runner.backend().backend(), Backend::Uring);
/// assert_eq!(runner.run(async { 1 }), 1);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "settings do nothing until `build`"]
pub struct Builder {
    backend: Backend,
    entries: u32,
    completions: Option<u32>,
    buffer_count: u16,
    buffer_size: usize,
    pin: Option<usize>,
    slow_callback: Option<Duration>,
    debug: Option<bool>,
    thread_join: Duration,
    linger: (Duration, Duration),
    faults: Faults,
    old_kernel: bool,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            backend: Backend::Auto,
            entries: 256,
            completions: None,
            buffer_count: 128,
            buffer_size: 4096,
            pin: None,
            slow_callback: None,
            debug: None,
            thread_join: THREAD_JOIN,
            linger: LINGER,
            faults: Faults::default(),
            old_kernel: false,
        }
    }
}

impl Builder {
    /// Which kernel to run on. Default: [`Backend::Auto`], for which the environment can name one:
    /// `CORIO_BACKEND=uring`, or `CORIO_BACKEND=sim:SEED` to run a program in the simulator.
    pub fn backend(mut self, backend: Backend) -> Builder {
        self.backend = backend;
        self
    }

    /// Entries of the submission queue, 1 to 32768, rounded up to a power of two. Default: 256. More operations
    /// than that may be in flight.
    pub fn entries(mut self, entries: u32) -> Builder {
        self.entries = entries;
        self
    }

    /// Entries of the completion queue, at least as many as [`Builder::entries`], and at most the kernel's 65536; other
    /// values mean the nearest of these. Default: four times [`Builder::entries`]. What does not fit waits in the
    /// kernel.
    pub fn completion_entries(mut self, entries: u32) -> Builder {
        self.completions = Some(entries);
        self
    }

    /// Receive buffers that all idle streams of the loop share: `count` (a power of two to 32768) of `size`
    /// bytes (to 1 MiB), 1 GiB in all. Default: 128 of 4096, which stays in a core's cache.
    pub fn buffers(mut self, count: u16, size: usize) -> Builder {
        self.buffer_count = count;
        self.buffer_size = size;
        self
    }

    /// Pins the building thread to a core, by the kernel's number.
    pub fn pin(mut self, core: usize) -> Builder {
        self.pin = Some(core);
        self
    }

    /// Reports steps of tasks and callbacks that take at least `limit` to the exception handler. Default: off.
    pub fn slow_callback(mut self, limit: Duration) -> Builder {
        self.slow_callback = Some(limit);
        self
    }

    /// Turns asyncio's debug mode on or off: steps over 100 ms, or the limit of
    /// [`slow_callback`](Builder::slow_callback), are reported with their task, and callbacks. Default: on if the
    /// environment has `CORIO_DEBUG` set to something else than 0.
    ///
    /// Without it only steps of a second or more are reported: with their task too, or in a turn of many with all of
    /// that turn, and from then on for a minute each by itself.
    pub fn debug(mut self, on: bool) -> Builder {
        self.debug = Some(on);
        self
    }

    fn is_debug(&self) -> bool {
        let from_environment =
            || std::env::var_os("CORIO_DEBUG").is_some_and(|value| !value.is_empty() && value != "0");
        self.debug.unwrap_or_else(from_environment)
    }

    /// How long the end of the loop waits for calls of [`to_thread`](crate::to_thread) that have begun; the exception
    /// handler hears of those that it does not wait for any longer. Default: 300 s, as asyncio.
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

    /// How long the end of the loop waits for connections that still send what was written, or whose peers still send:
    /// at most `total`, and `idle` for one on which no byte moves. After that they are reset. Default: 5 s and 500 ms.
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

    /// Faults that the simulator injects. Without effect on a real kernel.
    pub fn faults(mut self, faults: Faults) -> Builder {
        self.faults = faults;
        self
    }

    /// Uses nothing that the self-tests at start-up try and old kernels lack: so what a program does there can be
    /// tested on a new one. Default: off.
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
    /// Settings out of range, a core that does not exist, and the kernel's refusals, each with the value.
    pub fn build(self) -> io::Result<Runner> {
        let (backend, reason) = self.chosen()?;
        self.check(backend)?;
        self.pin_thread()?;
        let (mut ring, wakes, clock) = self.kernel(backend)?;
        if self.old_kernel {
            ring.be_old();
        }
        let debug = self.is_debug();
        let slow_callback = self.slow_callback.or(debug.then_some(Duration::from_millis(100)));
        let lp = Loop::new(ring, wakes, clock, slow_callback)?;
        Ok(Runner {
            lp,
            backend: BackendInfo { backend, reason },
            debug,
            thread_join: self.thread_join,
            linger: self.linger,
            closed: false,
        })
    }

    /// What is out of range is told before anything is done to the thread.
    fn check(&self, backend: Backend) -> io::Result<()> {
        if !(1..=32768).contains(&self.entries) {
            let text = format!("{} submission entries: must be 1 to 32768", self.entries);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        pool::check(self.buffer_count, self.buffer_size)?;
        if matches!(backend, Backend::Sim { .. }) { self.faults.check() } else { Ok(()) }
    }

    /// Before the ring is made, so that its memory is near the core.
    fn pin_thread(&self) -> io::Result<()> {
        // Read before this thread is pinned.
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

    /// The backend to run on, and why.
    fn chosen(&self) -> io::Result<(Backend, &'static str)> {
        let Some(named) = std::env::var_os("CORIO_BACKEND").filter(|_| self.backend == Backend::Auto) else {
            let auto = self.backend == Backend::Auto;
            let backend = if auto { Backend::Uring } else { self.backend };
            return Ok((backend, if auto { "the kernel offers io_uring" } else { "asked for" }));
        };
        let named = named.to_string_lossy();
        let backend = match named.strip_prefix("sim:").map(str::parse) {
            Some(Ok(seed)) => Backend::Sim { seed },
            None if named == "uring" => Backend::Uring,
            _ => {
                let text = format!("CORIO_BACKEND is '{named}': it must be uring or sim:SEED");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        };
        Ok((backend, "named by CORIO_BACKEND"))
    }

    fn kernel(&self, backend: Backend) -> io::Result<(Ring, (Unpark, Option<OwnedFd>), Clock)> {
        let sizes = self.sizes();
        let (ring, clock) = match backend {
            Backend::Sim { seed } => {
                let (pool, clock) = (Pool::ours(sizes.buffer_count, sizes.buffer_size)?, Clock::simulated());
                let sim = sim::Sim::new(seed, sizes, pool, self.faults.clone(), clock.clone());
                (Ring::Sim(Box::new(sim)), clock)
            }
            Backend::Auto | Backend::Uring => {
                let (pool, clock) = (Pool::new(sizes.buffer_count, sizes.buffer_size)?, Clock::real());
                let ring =
                    Ring::uring(sizes, pool, clock.clone()).map_err(|refusal| refusal.explain(sizes))?;
                (ring, clock)
            }
        };
        let wakes = ring.unpark().map_err(|refusal| refusal.explain(sizes))?;
        Ok((ring, wakes, clock))
    }
}

pub use crate::kernel::ring::sim::Faults;

/// A kernel to run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// The best that the machine offers: io_uring.
    #[default]
    Auto,
    /// io_uring.
    Uring,
    /// The simulator: a virtual clock and an in-memory network. The same seed gives the same run.
    Sim {
        /// Decides the order and size of everything that may vary.
        seed: u64,
    },
}

/// Which kernel a loop runs on.
#[derive(Clone, Copy, Debug)]
pub struct BackendInfo {
    backend: Backend,
    reason: &'static str,
}

impl BackendInfo {
    /// The kernel, never [`Backend::Auto`].
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Why this one.
    pub fn reason(&self) -> &str {
        self.reason
    }
}

impl fmt::Display for BackendInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({})", self.backend, self.reason)
    }
}
