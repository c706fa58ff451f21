//! `getaddrinfo` on threads of its own: a slow name server holds up lookups, and nothing else.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, Condvar, Mutex},
    task::{Poll, Waker},
    thread,
    time::Duration,
};

/// Lookups that run at once; more wait their turn.
const THREADS_MAX: usize = 8;
/// A thread that finds no work for so long ends.
const IDLE: Duration = Duration::from_secs(10);

struct Lookup {
    host: String,
    port: u16,
    answer: Arc<Mutex<Answer>>,
}

#[derive(Default)]
struct Answer {
    addresses: Option<io::Result<Vec<SocketAddr>>>,
    waker: Option<Waker>,
}

struct Pool {
    waiting: VecDeque<Lookup>,
    threads: usize,
    idle: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { waiting: VecDeque::new(), threads: 0, idle: 0 });
static WORK: Condvar = Condvar::new();

/// Looks `host` up on a thread.
pub(crate) async fn lookup(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    let answer = Arc::new(Mutex::new(Answer::default()));
    submit(Lookup { host, port, answer: Arc::clone(&answer) })?;
    poll_fn(|cx| {
        let mut answer = answer.lock().unwrap_or_else(|e| e.into_inner());
        match answer.addresses.take() {
            Some(addresses) => Poll::Ready(addresses),
            None => {
                answer.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    })
    .await
}

fn submit(lookup: Lookup) -> io::Result<()> {
    let mut pool = POOL.lock().unwrap_or_else(|e| e.into_inner());
    pool.waiting.push_back(lookup);
    if pool.idle >= pool.waiting.len() || pool.threads >= THREADS_MAX {
        WORK.notify_one();
        return Ok(());
    }
    match thread::Builder::new().name("corio-resolver".to_owned()).spawn(work) {
        Ok(_) => pool.threads += 1,
        // The threads there are will come to it.
        Err(_) if pool.threads > 0 => {}
        Err(e) => {
            pool.waiting.pop_back();
            return Err(io::Error::new(e.kind(), format!("cannot start a thread to look names up: {e}")));
        }
    }
    Ok(())
}

fn work() {
    while let Some(lookup) = next() {
        let found = (lookup.host.as_str(), lookup.port).to_socket_addrs();
        let addresses = found
            .map(Iterator::collect)
            .map_err(|e| io::Error::new(e.kind(), format!("cannot resolve {:?}: {e}", lookup.host)));
        let waker = {
            let mut answer = lookup.answer.lock().unwrap_or_else(|e| e.into_inner());
            answer.addresses = Some(addresses);
            answer.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The next lookup; `None` ends the thread.
fn next() -> Option<Lookup> {
    let mut pool = POOL.lock().unwrap_or_else(|e| e.into_inner());
    loop {
        if let Some(lookup) = pool.waiting.pop_front() {
            return Some(lookup);
        }
        pool.idle += 1;
        let (again, timed_out) = WORK.wait_timeout(pool, IDLE).unwrap_or_else(|e| e.into_inner());
        pool = again;
        pool.idle -= 1;
        if timed_out.timed_out() && pool.waiting.is_empty() {
            pool.threads -= 1;
            return None;
        }
    }
}
