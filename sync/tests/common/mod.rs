//! What the tests share: a run on both kernels, and a log.
#![allow(dead_code, reason = "not every test file uses all of it")]

use std::{cell::RefCell, rc::Rc};

use corio_runtime::{Backend, Runner, yield_now};

/// Runs `test` on the simulator and on io_uring.
pub(crate) fn on_both(test: impl AsyncFn()) {
    for backend in [Backend::Sim { seed: 7 }, Backend::Uring] {
        Runner::builder().backend(backend).build().unwrap().run(test());
    }
}

pub(crate) async fn turns(n: usize) {
    for _ in 0..n {
        yield_now().await;
    }
}

/// What happened, in order; clones share it.
pub(crate) struct Log<T>(Rc<RefCell<Vec<T>>>);

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Log(Rc::clone(&self.0))
    }
}

impl<T: Clone> Log<T> {
    pub(crate) fn new() -> Log<T> {
        Log(Rc::default())
    }

    pub(crate) fn push(&self, entry: T) {
        self.0.borrow_mut().push(entry);
    }

    pub(crate) fn get(&self) -> Vec<T> {
        self.0.borrow().clone()
    }
}
