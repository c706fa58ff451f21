//! A latch: opens once and wakes the waiting tasks, of any loop.

use std::{
    future::poll_fn,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

/// See the head of the file.
#[derive(Debug, Default)]
pub(crate) struct Latch(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    open: bool,
    waiters: Vec<Waker>,
}

impl Latch {
    pub(crate) fn open(&self) {
        let waiters = {
            let mut state = self.state();
            state.open = true;
            std::mem::take(&mut state.waiters)
        };
        waiters.into_iter().for_each(Waker::wake);
    }

    pub(crate) async fn wait(&self) {
        poll_fn(|cx| {
            let waker = cx.waker().clone();
            let mut state = self.state();
            if state.open {
                return Poll::Ready(());
            }
            if !state.waiters.iter().any(|known| known.will_wake(&waker)) {
                state.waiters.push(waker);
            }
            Poll::Pending
        })
        .await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
