//! Threads for blocking jobs that cannot be stopped, such as name lookups.
//!
//! ```text
//!    ask ──▶ waiting ──a thread takes it──▶ running ──▶ answered ──poll──▶ gone
//!               │                              │
//!               └── Question dropped: gone     └── Question dropped: given up, until its thread is free again
//! ```
//! A thread with a job that was given up is not available, so another one is started in its place.

use std::{
    any::Any,
    collections::BTreeMap,
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{Condvar, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use corio_runtime::{error, wake};

/// Threads for jobs that are awaited; more jobs wait their turn.
const THREADS_MAX: usize = 32;
/// Further threads, in place of those with given-up jobs. Beyond that the next job waits for one of them.
const GIVEN_UP_MAX: usize = 32;

type Job<T> = Box<dyn FnOnce() -> T + Send>;
type Answer<T> = Result<T, Box<dyn Any + Send>>;

/// See the head of the file.
pub(super) struct Pool<T> {
    state: Mutex<State<T>>,
    work: Condvar,
    /// An idle thread ends after this time.
    idle: Duration,
    /// A thread that replaces a given-up one starts after this pause: the waiting jobs may be dropped in the same turn.
    grace: Duration,
}

struct State<T> {
    next: u64,
    /// Jobs that have not started, in order.
    waiting: BTreeMap<u64, Job<T>>,
    /// All awaited jobs.
    asked: BTreeMap<u64, Asked<T>>,
    threads: usize,
    /// Idle threads, including those about to look for work.
    idle: usize,
    /// Threads whose job was given up.
    given_up: usize,
}

struct Asked<T> {
    waker: Option<Waker>,
    answer: Option<Answer<T>>,
}

/// Waits for an answer. Dropping it cancels the job if no thread has started it.
pub(super) struct Question<T: Send + 'static> {
    pool: &'static Pool<T>,
    id: u64,
}

impl<T> Pool<T> {
    pub(super) const fn new(idle: Duration, grace: Duration) -> Pool<T> {
        let state = State {
            next: 0,
            waiting: BTreeMap::new(),
            asked: BTreeMap::new(),
            threads: 0,
            idle: 0,
            given_up: 0,
        };
        Pool { state: Mutex::new(state), work: Condvar::new(), idle, grace }
    }

    /// No foreign code runs under this lock, so it is never poisoned.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn work(&self) {
        while let Some((id, job)) = self.next() {
            self.answer(id, catch_unwind(AssertUnwindSafe(job)));
        }
    }

    /// The next job; `None` ends the thread.
    fn next(&self) -> Option<(u64, Job<T>)> {
        let mut state = self.lock();
        loop {
            if let Some(next) = state.waiting.pop_first() {
                state.idle -= 1;
                return Some(next);
            }
            let (again, waited) = self.work.wait_timeout(state, self.idle).unwrap_or_else(|e| e.into_inner());
            state = again;
            if waited.timed_out() && state.waiting.is_empty() {
                (state.idle, state.threads) = (state.idle - 1, state.threads - 1);
                return None;
            }
        }
    }

    fn answer(&self, id: u64, answer: Answer<T>) {
        let mut state = self.lock();
        state.idle += 1;
        let (waker, unwanted) = match state.asked.get_mut(&id) {
            Some(asked) => {
                asked.answer = Some(answer);
                (asked.waker.take(), None)
            }
            None => {
                state.given_up -= 1;
                (None, Some(answer))
            }
        };
        drop(state);
        drop(unwanted);
        waker.into_iter().for_each(wake);
    }
}

impl<T: Send> Pool<T> {
    /// Runs `job` on a thread.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(super) fn ask(&'static self, job: Job<T>) -> io::Result<Question<T>> {
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        state.waiting.insert(id, job);
        state.asked.insert(id, Asked { waker: None, answer: None });
        let staffed = self.staff(&mut state, Duration::ZERO);
        drop(state);
        let question = Question { pool: self, id };
        staffed.map(|()| question)
    }

    /// Wakes a thread for the waiting jobs. If all are busy it starts one, which begins after `pause`.
    fn staff(&'static self, state: &mut State<T>, pause: Duration) -> io::Result<()> {
        let useful = state.threads - state.given_up;
        let full = useful >= THREADS_MAX || state.threads >= THREADS_MAX + GIVEN_UP_MAX;
        if state.idle >= state.waiting.len() || full {
            self.work.notify_one();
            return Ok(());
        }
        let body = move || {
            thread::sleep(pause);
            self.work();
        };
        match thread::Builder::new().name("corio-resolver".to_owned()).spawn(body) {
            Ok(_) => (state.threads, state.idle) = (state.threads + 1, state.idle + 1),
            // An existing thread will get to it.
            Err(_) if useful > 0 => {}
            Err(e) => {
                let text = format!("cannot start a thread to look names up: {e}");
                return Err(error::explain(e, text));
            }
        }
        Ok(())
    }
}

impl<T: Send> Future for Question<T> {
    type Output = T;

    /// # Panics
    /// With the job's panic; and if polled after completion.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let waker = cx.waker().clone();
        let mut state = self.pool.lock();
        let asked = state.asked.get_mut(&self.id);
        let replaced = match asked {
            Some(Asked { answer: None, waker: place }) => place.replace(waker),
            _ => {
                let over = state.asked.remove(&self.id);
                drop(state);
                let answer = over.and_then(|asked| asked.answer).expect("a lookup was polled after it ended");
                return Poll::Ready(answer.unwrap_or_else(|payload| resume_unwind(payload)));
            }
        };
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl<T: Send> Drop for Question<T> {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        let job = state.waiting.remove(&self.id);
        let asked = state.asked.remove(&self.id);
        if job.is_none() && asked.as_ref().is_some_and(|asked| asked.answer.is_none()) {
            state.given_up += 1;
            if !state.waiting.is_empty() {
                // If no thread can be started, the existing ones will get to the jobs.
                let _ = self.pool.staff(&mut state, self.pool.grace);
            }
        }
        drop(state);
        // Last: their destructors are foreign code.
        drop((job, asked));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        time::Instant,
    };

    use corio_runtime::{create_task, run, time::timeout};

    use super::*;

    /// Longer than any step takes.
    const HANG: Duration = Duration::from_secs(30);

    fn pool(idle: Duration) -> &'static Pool<usize> {
        forever(Pool::new(idle, Duration::from_millis(1)))
    }

    /// Keeps the pool reachable, for the leak detector.
    fn forever(pool: Pool<usize>) -> &'static Pool<usize> {
        static POOLS: Mutex<Vec<&'static Pool<usize>>> = Mutex::new(Vec::new());
        let pool: &'static Pool<usize> = Box::leak(Box::new(pool));
        POOLS.lock().unwrap().push(pool);
        pool
    }

    /// A name server that answers on command.
    #[derive(Clone, Default)]
    struct Server(Arc<(Mutex<bool>, Condvar)>, Arc<AtomicUsize>);

    impl Server {
        fn job(&self, number: usize) -> Job<usize> {
            let Server(gate, asked) = self.clone();
            Box::new(move || {
                asked.fetch_add(1, Ordering::SeqCst);
                let (open, told) = &*gate;
                drop(told.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
                number
            })
        }

        fn asked(&self) -> usize {
            self.1.load(Ordering::SeqCst)
        }

        fn answer_all(&self) {
            *self.0.0.lock().unwrap() = true;
            self.0.1.notify_all();
        }
    }

    fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
        let began = Instant::now();
        while !done() {
            assert!(began.elapsed() < HANG, "{what}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn threads(pool: &Pool<usize>) -> usize {
        pool.lock().threads
    }

    #[test]
    fn threads_grow_to_32_while_all_are_busy_and_end_when_they_are_not() {
        let (pool, server) = (pool(Duration::from_millis(20)), Server::default());
        let questions: Vec<_> = (0..40).map(|number| pool.ask(server.job(number)).unwrap()).collect();
        wait_until("they do not begin", || server.asked() == THREADS_MAX);
        assert_eq!((threads(pool), pool.lock().waiting.len()), (THREADS_MAX, 8));
        server.answer_all();
        run(async {
            for (number, question) in questions.into_iter().enumerate() {
                assert_eq!(timeout(HANG, question).await.expect("no answer"), number);
            }
        });
        assert_eq!(server.asked(), 40);
        wait_until("idle threads stay", || threads(pool) == 0);
        let again = pool.ask(Box::new(|| 7)).unwrap();
        assert_eq!(run(again), 7);
    }

    #[test]
    fn one_after_the_other_needs_one_thread() {
        let pool = pool(HANG);
        run(async {
            for number in 0..100 {
                assert_eq!(pool.ask(Box::new(move || number)).unwrap().await, number);
            }
        });
        assert_eq!(threads(pool), 1);
    }

    /// A hundred names whose server does not answer, all given up; then a name that another server answers.
    #[test]
    fn what_was_given_up_holds_up_nothing_but_its_thread() {
        let dead = Server::default();
        let pool = forever(Pool::new(HANG, Duration::from_secs(1)));
        run(async {
            for round in 1..=3 {
                let began = dead.asked();
                let given_up: Vec<_> = (0..100).map(|number| pool.ask(dead.job(number)).unwrap()).collect();
                if round < 3 {
                    wait_until("they do not begin", || dead.asked() == began + THREADS_MAX);
                }
                drop(given_up);
                assert_eq!(pool.lock().waiting.len(), 0, "what has not begun goes with its future");
                assert!(threads(pool) <= THREADS_MAX + GIVEN_UP_MAX);
                if round == 1 {
                    assert_eq!(dead.asked(), THREADS_MAX);
                    let answer = timeout(HANG, pool.ask(Box::new(|| 80)).unwrap()).await;
                    assert_eq!(answer.expect("it waits for those that nobody waits for"), 80);
                }
            }
            // All threads are blocked now: the next job waits, and is answered later.
            let last = create_task(pool.ask(Box::new(|| 81)).unwrap());
            dead.answer_all();
            assert_eq!(timeout(HANG, last).await.unwrap().unwrap(), 81);
            wait_until("a thread is still counted as given up", || pool.lock().given_up == 0);
            assert!(pool.lock().asked.is_empty());
        });
    }

    #[test]
    fn what_has_not_begun_goes_with_its_future() {
        let (pool, dead) = (pool(HANG), Server::default());
        let running: Vec<_> = (0..THREADS_MAX).map(|number| pool.ask(dead.job(number)).unwrap()).collect();
        let (sender, receiver) = mpsc::channel::<()>();
        let waits = pool
            .ask(Box::new(move || {
                sender.send(()).unwrap();
                0
            }))
            .unwrap();
        drop(waits);
        // The job was dropped, and the sender with it.
        assert_eq!(receiver.try_recv(), Err(mpsc::TryRecvError::Disconnected));
        // A running job is given up: the waiting one gets a new thread.
        let next = pool.ask(Box::new(|| 5)).unwrap();
        let mut running = running.into_iter();
        drop(running.next());
        assert_eq!(run(async { timeout(HANG, next).await }).expect("no thread comes for it"), 5);
        dead.answer_all();
        let answers: Vec<_> = run(async {
            let mut answers = Vec::new();
            for question in running {
                answers.push(question.await);
            }
            answers
        });
        assert_eq!(answers, (1..THREADS_MAX).collect::<Vec<_>>());
    }

    #[test]
    fn a_panic_of_a_job_reaches_who_asked_and_costs_no_thread() {
        let pool = pool(HANG);
        let asked = pool.ask(Box::new(|| panic!("as asked"))).unwrap();
        let thrown = catch_unwind(AssertUnwindSafe(|| run(asked))).unwrap_err();
        assert_eq!(thrown.downcast_ref(), Some(&"as asked"));
        assert_eq!(run(pool.ask(Box::new(|| 1)).unwrap()), 1);
        assert_eq!(threads(pool), 1);
        // A given-up job's panic goes nowhere.
        drop(pool.ask(Box::new(|| panic!("as asked"))).unwrap());
        wait_until("the thread is lost", || pool.lock().idle == 1 && pool.lock().given_up == 0);
    }
}
