//! The threads of one loop for work that blocks.

use std::{
    collections::VecDeque,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use crate::{Handle, exception};

pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// A thread without work ends after this time.
const IDLE: Duration = Duration::from_secs(10);

/// See the head of the file.
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    most: usize,
    /// Woken at the end of each job of a pool that is closing.
    home: Handle,
}

struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closing: bool,
}

impl Pool {
    pub(crate) fn new(home: Handle) -> Pool {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let state = State { jobs: VecDeque::new(), threads: 0, idle: 0, closing: false };
        let most = (cores + 4).min(32);
        Pool { shared: Arc::new(Shared { state: Mutex::new(state), work: Condvar::new(), most, home }) }
    }

    /// Queues `job`, and starts a thread if none is free and there may be another one. Without any thread, because
    /// the system gives none, it runs here.
    pub(crate) fn submit(&self, job: Job) {
        let mut state = self.shared.lock();
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() {
            return self.shared.work.notify_one();
        }
        if state.threads < self.shared.most {
            state.threads += 1;
            drop(state);
            if self.start_thread().is_err() {
                self.without_a_thread();
            }
        }
    }

    fn start_thread(&self) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name("corio-blocking".to_owned()).spawn(move || shared.work());
        thread.map(drop)
    }

    fn without_a_thread(&self) {
        let job = {
            let mut state = self.shared.lock();
            state.threads -= 1;
            if state.threads == 0 { state.jobs.pop_back() } else { None }
        };
        if let Some(job) = job {
            job();
        }
    }

    /// Takes no more work. Gives back the jobs that have not begun, to be dropped, and how many threads still work.
    pub(crate) fn close(&self) -> (Vec<Job>, usize) {
        let (jobs, busy) = {
            let mut state = self.shared.lock();
            state.closing = true;
            (std::mem::take(&mut state.jobs), state.threads - state.idle)
        };
        self.shared.work.notify_all();
        (jobs.into(), busy)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread's life.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                // A job keeps its own panic; this is for destructors.
                if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(job)) {
                    exception::discard(payload);
                }
                state = self.lock();
                continue;
            }
            if state.closing {
                break;
            }
            state.idle += 1;
            let (woken, waited) = self.work.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.jobs.is_empty() {
                break;
            }
        }
        state.threads -= 1;
        let closing = state.closing;
        drop(state);
        if closing {
            // The loop may be waiting for this one.
            let _ = self.home.call_soon_threadsafe(|| ());
        }
    }
}
