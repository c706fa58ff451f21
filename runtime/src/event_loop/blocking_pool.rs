//! A loop's thread pool for blocking work.

use std::{
    collections::VecDeque,
    io,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use crate::{
    event_loop::registry::post,
    scheduler::{loop_id::LoopId, task_error::discard},
};

pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// An idle thread ends after this time.
const IDLE: Duration = Duration::from_secs(10);

/// See the head of the file.
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    most: usize,
    /// Woken when a thread of a closing pool ends.
    home: LoopId,
}

struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closing: bool,
}

impl Pool {
    pub(crate) fn new(home: LoopId) -> Pool {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let state = State { jobs: VecDeque::new(), threads: 0, idle: 0, closing: false };
        let most = (cores + 4).min(32);
        Pool { shared: Arc::new(Shared { state: Mutex::new(state), work: Condvar::new(), most, home }) }
    }

    /// Queues `job`. If no thread is idle, starts one, up to the limit; if the system refuses that, the job waits for
    /// an existing thread.
    ///
    /// # Errors
    /// If there is no thread at all. The job is dropped then.
    pub(crate) fn submit(&self, job: Job) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() {
            self.shared.work.notify_one();
        } else if state.threads < self.shared.most {
            state.threads += 1;
            drop(state);
            if let Err(e) = self.start_thread() {
                return self.without_another(e);
            }
        }
        Ok(())
    }

    fn start_thread(&self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name("corio-blocking".to_owned()).spawn(move || shared.work());
        thread.map(drop)
    }

    /// Without any thread, drops the last job: it is the only one, as no thread ends while a job waits.
    #[cold]
    fn without_another(&self, e: io::Error) -> io::Result<()> {
        let job = {
            let mut state = self.shared.lock();
            state.threads -= 1;
            if state.threads == 0 { state.jobs.pop_back() } else { None }
        };
        // The job's destructor is foreign code: it runs outside the lock.
        if job.is_some() { Err(e) } else { Ok(()) }
    }

    /// Takes no more work. Returns the jobs that have not started, to be dropped, and the number of busy threads.
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

    /// Body of a thread.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                // A job catches its own panic; this catches panics of destructors.
                if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(job)) {
                    discard(payload);
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
            // The loop may be waiting for this thread's end.
            let _ = post(self.home, Box::new(|| ()));
        }
    }
}
