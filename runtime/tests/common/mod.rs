//! Helpers of the integration tests: operations, wakers, logs.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]

mod shared;

use std::{
    cell::Cell,
    future::Future,
    io,
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use corio_runtime::{
    fd::Fd,
    op::{Done, Operation, SockAddr, Sqe},
};
pub(crate) use shared::*;

/// A socket for operations, and its other end.
pub(crate) fn pair() -> (Fd, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Fd::from(OwnedFd::from(ours)), theirs)
}

/// Polls once with a waker that does nothing.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_with(future, Waker::noop())
}

pub(crate) fn poll_with<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// Counts the wakes it gets.
#[derive(Default)]
pub(crate) struct CountWakes(pub(crate) AtomicUsize);

impl CountWakes {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for CountWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Panics when it is woken.
pub(crate) struct PanicWaker;

impl Wake for PanicWaker {
    fn wake(self: Arc<Self>) {
        panic!("a foreign waker panics");
    }
}

/// Counts its drops.
#[derive(Clone, Default)]
pub(crate) struct DropCount(Rc<Cell<usize>>);

impl DropCount {
    pub(crate) fn probe(&self) -> DropProbe {
        DropProbe(self.0.clone())
    }

    pub(crate) fn get(&self) -> usize {
        self.0.get()
    }
}

pub(crate) struct DropProbe(Rc<Cell<usize>>);

impl Drop for DropProbe {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// One receive; gives the bytes.
pub(crate) struct Recv {
    pub(crate) fd: Fd,
    pub(crate) buf: Vec<u8>,
}

impl Operation for Recv {
    type Output = io::Result<Vec<u8>>;

    fn prepare(&mut self) -> Sqe<'_> {
        Sqe::recv(&self.fd, &mut self.buf)
    }

    fn complete(mut self: Box<Self>, done: Done) -> Self::Output {
        self.buf.truncate(done.count()?);
        Ok(self.buf)
    }
}

pub(crate) fn recv(fd: &Fd, size: usize) -> Recv {
    Recv { fd: fd.clone(), buf: vec![0; size] }
}

pub(crate) struct Send {
    pub(crate) fd: Fd,
    pub(crate) data: Vec<u8>,
}

impl Operation for Send {
    type Output = io::Result<usize>;

    fn prepare(&mut self) -> Sqe<'_> {
        Sqe::send(&self.fd, &self.data)
    }

    fn complete(self: Box<Self>, done: Done) -> Self::Output {
        done.count()
    }
}

pub(crate) struct Nop;

impl Operation for Nop {
    type Output = io::Result<()>;

    fn prepare(&mut self) -> Sqe<'_> {
        Sqe::nop()
    }

    fn complete(self: Box<Self>, done: Done) -> Self::Output {
        done.unit()
    }
}

pub(crate) struct Connect {
    pub(crate) fd: Fd,
    pub(crate) addr: SockAddr,
}

impl Operation for Connect {
    type Output = io::Result<()>;

    fn prepare(&mut self) -> Sqe<'_> {
        Sqe::connect(&self.fd, &self.addr)
    }

    fn complete(self: Box<Self>, done: Done) -> Self::Output {
        done.unit()
    }
}

pub(crate) struct ShutDown {
    pub(crate) fd: Fd,
    pub(crate) how: Shutdown,
}

impl Operation for ShutDown {
    type Output = io::Result<()>;

    fn prepare(&mut self) -> Sqe<'_> {
        Sqe::shutdown(&self.fd, self.how)
    }

    fn complete(self: Box<Self>, done: Done) -> Self::Output {
        done.unit()
    }
}

/// Runs `test` on the simulator alone: for tests whose order is that of time.
pub(crate) fn on_sim(test: impl AsyncFn()) {
    on(corio_runtime::Backend::Sim { seed: 7 }).run(test());
}

pub(crate) async fn turns(n: usize) {
    for _ in 0..n {
        corio_runtime::yield_now().await;
    }
}

pub(crate) fn ms(n: u64) -> std::time::Duration {
    std::time::Duration::from_millis(n)
}

/// What happened, in order; clones share it.
pub(crate) struct Log<T>(Rc<std::cell::RefCell<Vec<T>>>);

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

/// Adds one to a count when it is dropped.
pub(crate) struct OnDrop(pub(crate) Rc<Cell<u32>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}
