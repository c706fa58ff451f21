//! Children that outlive their loop: a thread waits for all of them, as long as there are any.

use std::{
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

/// What the thread is given; `None` while there is no thread.
static INBOX: Mutex<Option<Inbox>> = Mutex::new(None);

struct Inbox {
    new: Vec<Arc<Child>>,
    /// Ends the thread's sleep.
    wake: Arc<OwnedFd>,
}

/// Waits for `child` on behalf of a loop that cannot any more.
pub(crate) fn take(child: Arc<Child>) {
    if !hand_over(&child) {
        // Reaped when this process ends; nobody waits for that. The wakers that hear of it are foreign code.
        child.lose();
    }
}

/// `false` without a descriptor or a thread left.
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
            children.iter().map(|child| PollFd::new(child.pidfd(), PollFlags::IN)).collect();
        fds.push(PollFd::new(wake, PollFlags::IN));
        if poll(&mut fds, None).is_err_and(|e| e != Errno::INTR) {
            // Want of memory: it looks again later.
            thread::sleep(Duration::from_millis(100));
        }
        let _ = read(wake, &mut [0u8; 8]);
        children.retain(|child| !child.reap());
    }
}
