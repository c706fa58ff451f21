//! Children that outlive their loop: one thread waits for all of them, and ends with the last one. A child without a
//! pidfd has a thread of its own, from its start.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, eventfd, poll},
    io::{Errno, read, write},
};

use crate::child::Child;

/// The thread's inbox; `None` while there is no thread.
static INBOX: Mutex<Option<Inbox>> = Mutex::new(None);

struct Inbox {
    new: Vec<Arc<Child>>,
    /// An eventfd that ends the thread's sleep.
    wake: Arc<OwnedFd>,
}

/// Waits for `child` in place of a loop that closed.
pub(crate) fn take(child: Arc<Child>) {
    if !hand_over(&child) {
        // Nothing waits for it; init reaps it after this process ends. Called outside the lock: wakers are foreign
        // code.
        child.lose();
    }
}

/// Waits for a child without a pidfd on a thread of its own.
///
/// # Errors
/// If the system gives no thread.
pub(crate) fn watch(child: Arc<Child>) -> io::Result<()> {
    let thread = thread::Builder::new().name(format!("corio-child-{}", child.pid()));
    thread.spawn(move || {
        child.block_until_exit();
        child.reap();
    })?;
    Ok(())
}

/// `false` if no descriptor or no thread is available.
fn hand_over(child: &Arc<Child>) -> bool {
    let mut inbox = inbox();
    if let Some(inbox) = &mut *inbox {
        inbox.new.push(Arc::clone(child));
        let _ = write(&inbox.wake, &1u64.to_ne_bytes());
        return true;
    }
    let Ok(wake) = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK) else { return false };
    let wake = Arc::new(wake);
    let reaper = thread::Builder::new().name("corio-reaper".into());
    let its_wake = Arc::clone(&wake);
    if reaper.spawn(move || reap_all(&its_wake)).is_err() {
        return false;
    }
    *inbox = Some(Inbox { new: vec![Arc::clone(child)], wake });
    true
}

fn inbox() -> MutexGuard<'static, Option<Inbox>> {
    INBOX.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reap_all(wake: &OwnedFd) {
    let mut children: Vec<Arc<Child>> = Vec::new();
    loop {
        {
            let mut inbox = inbox();
            children.extend(inbox.iter_mut().flat_map(|inbox| inbox.new.drain(..)));
            if children.is_empty() {
                *inbox = None;
                return;
            }
        }
        let mut fds: Vec<PollFd<'_>> =
            children.iter().filter_map(|child| Some(PollFd::new(child.pidfd()?, PollFlags::IN))).collect();
        fds.push(PollFd::new(wake, PollFlags::IN));
        if poll(&mut fds, None).is_err_and(|e| e != Errno::INTR) {
            // Lack of memory: try again later.
            thread::sleep(Duration::from_millis(100));
        }
        let _ = read(wake, &mut [0u8; 8]);
        children.retain(|child| !child.reap());
    }
}
