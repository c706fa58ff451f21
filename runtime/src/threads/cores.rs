//! One loop per core, each on a thread pinned to its core.
//!
//! ```text
//!    all loops are made ──▶ each core runs its main ──▶ all mains end ──▶ all loops close
//!         │ one fails            │ one panics, or SIGINT                     ▲
//!         └──▶ no main runs      └──▶ cancels the others ────────────────────┘
//! ```
//! A loop keeps running after its own main until all mains have ended, so it still answers calls from other cores.

use std::{
    cell::RefCell,
    fmt,
    future::Future,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use super::latch::Latch;
use crate::{
    event_loop::{affinity::allowed, backend::BackendInfo, current, handle::Handle, run::Builder},
    kernel::error,
    scheduler::{
        loop_id::MAX_LOOPS,
        task_error::{PanicPayload, TaskError},
    },
    task::{cancel::CancelHandle, create_task, with_cleanup},
};

/// The cores that get a loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// All cores that this process may use.
    All,
    /// So many loops, at most 4096. With more loops than cores, loops share cores.
    Count(usize),
    /// Cores by the kernel's numbers, including ones isolated from the scheduler.
    Ids(Vec<usize>),
}

/// Runs a loop with a future of `f` on each of `cores`; returns their outputs in order of the cores. The first core's
/// loop runs on the calling thread, which is pinned meanwhile.
///
/// All loops exist before the first future starts, and none closes before the last future has ended. If a future
/// panics, the others are cancelled, all loops close, and the panic continues here. SIGINT on the main thread does the
/// same, and then ends the process.
///
/// ```
/// use corio_runtime::{Cores, run_coroutine_threadsafe, run_per_core};
/// let sums = run_per_core(Cores::Count(2), |core| async move {
///     // Each core asks the other one.
///     let other = core.handle(1 - core.index());
///     let index = core.index();
///     run_coroutine_threadsafe(&other, move || async move { 10 + index }).await.unwrap()
/// });
/// assert_eq!(sums, [10, 11]);
/// ```
///
/// # Panics
/// Inside a running loop; for no cores, or a core that does not exist or is not allowed; if a loop cannot be set up;
/// and if a future panics.
#[track_caller]
pub fn run_per_core<F, Fut, T>(cores: Cores, f: F) -> Vec<T>
where
    F: Fn(Core) -> Fut + Send + Clone + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    Builder::default().run_per_core(cores, f)
}

impl Builder {
    /// As [`run_per_core`](crate::run_per_core()), with these settings for each loop.
    ///
    /// # Panics
    /// As [`run_per_core`](crate::run_per_core()), and for settings out of range.
    #[track_caller]
    pub fn run_per_core<F, Fut, T>(self, cores: Cores, f: F) -> Vec<T>
    where
        F: Fn(Core) -> Fut + Send + Clone + 'static,
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let shared = Shared::new(self, &cores);
        let first = f.clone();
        let (first, others) = run_all(&shared, first, |_| f.clone());
        shared.resume_panic();
        let values = std::iter::once(first).chain(others);
        values.map(|value| value.expect(CANCELLED)).collect()
    }
}

const CANCELLED: &str = "a main that was cancelled leaves a panic to go on with";

/// Runs `main` on the first of `cores`, and an idle loop on each of the others until `main` ends: this is
/// `#[corio::main(cores = "all")]`. [`current_core`] gives the loops.
///
/// ```
/// use corio_runtime::{Cores, current_core, run_coroutine_threadsafe, run_on_cores};
/// let there = run_on_cores(Cores::Count(2), async {
///     let core = current_core().unwrap();
///     run_coroutine_threadsafe(&core.handle(1), || async { current_core().unwrap().index() }).await.unwrap()
/// });
/// assert_eq!(there, 1);
/// ```
///
/// # Panics
/// As [`run_per_core`].
#[track_caller]
pub fn run_on_cores<T: 'static>(cores: Cores, main: impl Future<Output = T> + 'static) -> T {
    let shared = Shared::new(Builder::default(), &cores);
    let (value, _) = run_all(&shared, move |_| main, |_| |_| std::future::ready(()));
    shared.resume_panic();
    value.expect(CANCELLED)
}

/// The running loop's core, if it was started by [`run_per_core`] or [`run_on_cores`].
pub fn current_core() -> Option<Core> {
    CORE.with_borrow(Option::clone)
}

thread_local! {
    static CORE: RefCell<Option<Core>> = const { RefCell::new(None) };
}

/// One of several cores with a loop.
#[derive(Clone)]
pub struct Core {
    id: usize,
    index: usize,
    handles: Arc<[Handle]>,
}

impl Core {
    /// The kernel's number of the core.
    pub fn id(&self) -> usize {
        self.id
    }

    /// Its index among the cores with a loop, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Number of cores with a loop.
    pub fn count(&self) -> usize {
        self.handles.len()
    }

    /// The loop of the core at `index`.
    ///
    /// # Panics
    /// If `index` is out of range.
    #[track_caller]
    pub fn handle(&self, index: usize) -> Handle {
        match self.handles.get(index) {
            Some(handle) => *handle,
            None => panic!("there is no core at index {index}: {} have a loop", self.count()),
        }
    }

    /// The loops of all cores, in order.
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("id", &self.id).field("index", &self.index).finish_non_exhaustive()
    }
}

/// Runs the first core's main on this thread, and the others on threads of their own.
fn run_all<M, Fut, O, OFut>(
    shared: &Arc<Shared>,
    first: impl FnOnce(Core) -> Fut + 'static,
    others: M,
) -> (Option<Fut::Output>, Vec<Option<OFut::Output>>)
where
    M: Fn(usize) -> O,
    Fut: Future + 'static,
    O: FnOnce(Core) -> OFut + Send + 'static,
    OFut: Future + 'static,
    OFut::Output: Send,
{
    // Foreign code that may panic: called before threads exist that would wait for the others.
    let others: Vec<O> = (1..shared.ids.len()).map(others).collect();
    let _mask = RestoreMask(sched_getaffinity(Pid::from_raw(0)).ok());
    thread::scope(|scope| {
        let threads: Vec<_> = (1..)
            .zip(others)
            .map(|(index, main)| {
                let thread = thread::Builder::new().name(format!("corio-{index}"));
                let spawned = thread.spawn_scoped(scope, move || {
                    // Counted in any case: the first core waits for it.
                    let _closed = Closed(shared);
                    shared.run_core(index, main)
                });
                spawned.map_err(|e| {
                    let text = format!("no thread for it: {e}");
                    shared.started(index, Err(error::explain(e, text)));
                    drop(Closed(shared));
                })
            })
            .collect();
        let value = shared.run_core(0, first);
        let joined = threads.into_iter().map(|thread| match thread.ok()?.join() {
            Ok(value) => value,
            Err(payload) => {
                shared.panicked(PanicPayload::new(payload));
                None
            }
        });
        (value, joined.collect())
    })
}

/// State shared by the threads.
struct Shared {
    builder: Builder,
    ids: Vec<usize>,
    /// Loops made, or failed.
    startup: Mutex<Startup>,
    changed: Condvar,
    /// Mains that have not ended.
    mains: AtomicUsize,
    mains_over: Latch,
    /// Threads that have not ended, without the first core's.
    threads: AtomicUsize,
    threads_over: Latch,
    stopping: AtomicBool,
    cancels: Mutex<Vec<CancelHandle>>,
    panic: Mutex<Option<PanicPayload>>,
}

#[derive(Default)]
struct Startup {
    handles: Vec<Option<Handle>>,
    made: usize,
    /// What they run on, once the first core has decided: nothing, if it has no loop.
    backend: Option<Option<BackendInfo>>,
    failed: Option<String>,
}

impl Shared {
    #[track_caller]
    fn new(builder: Builder, cores: &Cores) -> Arc<Shared> {
        let ids = match cores.ids() {
            Ok(ids) => ids,
            Err(e) => panic!("cannot start the loops: {e}"),
        };
        let running = current::try_with(|_| ()).is_some();
        assert!(!running, "loops cannot be started from a running event loop");
        let count = ids.len();
        let shared = Shared {
            builder,
            ids,
            startup: Mutex::new(Startup { handles: vec![None; count], ..Startup::default() }),
            changed: Condvar::new(),
            mains: AtomicUsize::new(count),
            mains_over: Latch::default(),
            threads: AtomicUsize::new(count - 1),
            threads_over: Latch::default(),
            stopping: AtomicBool::new(false),
            cancels: Mutex::default(),
            panic: Mutex::default(),
        };
        if count == 1 {
            shared.threads_over.open();
        }
        Arc::new(shared)
    }

    /// Runs one core. `None` if its main was cancelled, panicked, or never ran.
    fn run_core<Fut: Future + 'static>(
        self: &Arc<Shared>,
        index: usize,
        main: impl FnOnce(Core) -> Fut + 'static,
    ) -> Option<Fut::Output> {
        let builder = self.builder.clone().pin(self.ids[index]);
        // The first core decides: loops on different kernels cannot share a listener.
        let built = if index == 0 { builder.build() } else { builder.decided(self.decision()?).build() };
        let mut runner = match built {
            Ok(runner) => {
                self.decide(Some(runner.backend()));
                self.started(index, Ok(runner.handle()));
                runner
            }
            Err(e) => {
                self.decide(None);
                self.started(index, Err(e));
                return None;
            }
        };
        let core = Core { id: self.ids[index], index, handles: self.all_started()? };
        CORE.set(Some(core.clone()));
        let _forget = ForgetCore;
        // Made here, as SIGINT may come before the first step.
        let over = MainOver { shared: Arc::clone(self), by_itself: false };
        let main = Arc::clone(self).main(core, main, over);
        if index > 0 {
            return runner.run(main);
        }
        // SIGINT drops the first main: its cleanup ends the others before the process ends.
        let shared = Arc::clone(self);
        runner.run(with_cleanup(main, move || async move {
            shared.stop();
            shared.threads_over.wait().await;
        }))
    }

    /// Runs a core's main, then waits for the mains of all cores.
    async fn main<Fut: Future + 'static>(
        self: Arc<Shared>,
        core: Core,
        main: impl FnOnce(Core) -> Fut + 'static,
        mut over: MainOver,
    ) -> Option<Fut::Output> {
        let task = create_task(async move { main(core).await });
        self.cancels().push(task.cancel_handle());
        if self.stopping.load(Ordering::SeqCst) {
            task.cancel();
        }
        let value = match task.await {
            Ok(value) => Some(value),
            Err(TaskError::Panicked(payload)) => {
                self.panicked(payload);
                None
            }
            Err(_) => None,
        };
        over.by_itself = true;
        drop(over);
        self.mains_over.wait().await;
        value
    }

    /// Keeps the first panic, which `resume_panic` continues.
    fn panicked(&self, payload: PanicPayload) {
        self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(payload);
        self.stop();
    }

    /// Cancels all mains.
    fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.cancels().iter().for_each(|cancel| {
            cancel.cancel();
        });
    }

    fn started(&self, index: usize, made: io::Result<Handle>) {
        let mut startup = self.startup();
        startup.made += 1;
        match made {
            Ok(handle) => startup.handles[index] = Some(handle),
            Err(e) => {
                startup.failed.get_or_insert_with(|| format!("the loop of core {}: {e}", self.ids[index]));
            }
        }
        self.changed.notify_all();
    }

    /// Notes what the loops run on: the first core decides, by the loop that it makes or fails to make.
    fn decide(&self, backend: Option<BackendInfo>) {
        self.startup().backend.get_or_insert(backend);
        self.changed.notify_all();
    }

    /// Waits for the first core's decision; `None` if it has no loop.
    fn decision(&self) -> Option<BackendInfo> {
        let waited = self.changed.wait_while(self.startup(), |startup| startup.backend.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).backend.flatten()
    }

    /// Waits until all loops are made; `None` if one failed.
    fn all_started(&self) -> Option<Arc<[Handle]>> {
        let startup = self.startup();
        let waited = self.changed.wait_while(startup, |startup| startup.made < startup.handles.len());
        waited.unwrap_or_else(PoisonError::into_inner).handles.iter().copied().collect()
    }

    /// Panics with the first failure, once all loops have closed.
    #[track_caller]
    fn resume_panic(&self) {
        if let Some(failed) = self.startup().failed.take() {
            panic!("cannot start {failed}");
        }
        let panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(payload) = panic {
            payload.resume();
        }
    }

    fn startup(&self) -> MutexGuard<'_, Startup> {
        self.startup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancels(&self) -> MutexGuard<'_, Vec<CancelHandle>> {
        self.cancels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts the end of a main. One that was dropped cancels the others.
struct MainOver {
    shared: Arc<Shared>,
    by_itself: bool,
}

impl Drop for MainOver {
    fn drop(&mut self) {
        if !self.by_itself {
            self.shared.stop();
        }
        if self.shared.mains.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.shared.mains_over.open();
        }
    }
}

/// Counts the end of a thread.
struct Closed<'a>(&'a Shared);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        if self.0.threads.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.threads_over.open();
        }
    }
}

struct ForgetCore;

impl Drop for ForgetCore {
    fn drop(&mut self) {
        CORE.set(None);
    }
}

/// A thread's CPU mask from before it was pinned; restored when dropped.
struct RestoreMask(Option<CpuSet>);

impl Drop for RestoreMask {
    fn drop(&mut self) {
        if let Some(mask) = &self.0 {
            let _ = sched_setaffinity(Pid::from_raw(0), mask);
        }
    }
}

impl Cores {
    fn ids(&self) -> io::Result<Vec<usize>> {
        if let Cores::Count(count) = self
            && *count > MAX_LOOPS
        {
            let text = format!("{self:?}: at most {MAX_LOOPS} loops can live at once");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let ids = match self {
            Cores::All => allowed().to_vec(),
            Cores::Count(count) => allowed().iter().copied().cycle().take(*count).collect(),
            Cores::Ids(ids) => ids.clone(),
        };
        if ids.is_empty() {
            let text = format!("{self:?} names no core: at least one is needed");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(ids)
    }
}
