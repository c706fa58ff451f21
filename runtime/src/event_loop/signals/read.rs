//! The operation that reads a signal's pipe.

use std::{
    cell::{Cell, RefCell},
    io::PipeReader,
    os::fd::OwnedFd,
    rc::Rc,
    task::Waker,
};

use crate::{
    event_loop::{
        current::{self, Loop},
        exception,
    },
    kernel::{
        fd::Fd,
        key::Key,
        operation::{Done, Operation},
        sqe::Sqe,
    },
    scheduler::homed::Homed,
};

/// The receiver of the signal.
pub(crate) enum Heard {
    /// The run: cancels its main future.
    Interrupt,
    /// A listener.
    Listener(Rc<Shared>),
}

/// Reads until it is cancelled.
pub(crate) struct ReadSignal {
    fd: Fd,
    bytes: [u8; 64],
    heard: Heard,
}

impl ReadSignal {
    pub(crate) fn start(lp: &Loop, reader: PipeReader, heard: Heard) -> Homed<Key> {
        let op = ReadSignal { fd: OwnedFd::from(reader).into(), bytes: [0; 64], heard };
        lp.homed(lp.driver.start(Box::new(op)))
    }
}

impl Operation for ReadSignal {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        Sqe::read(&self.fd, &mut self.bytes)
    }

    fn complete(self: Box<Self>, done: Done) {
        if done.count().is_ok_and(|n| n == 0) || done.errno().is_some() {
            return;
        }
        match &self.heard {
            Heard::Interrupt => {
                current::try_with(|lp| {
                    lp.interrupted.set(true);
                    lp.stop();
                });
            }
            Heard::Listener(shared) => {
                let shared = Rc::clone(shared);
                current::try_with(|lp| {
                    if !lp.closing.get() {
                        shared.read.set(Some(lp.homed(lp.driver.start(self))));
                    }
                });
                shared.arrived();
            }
        }
    }
}

pub(crate) type Callback = Rc<RefCell<dyn FnMut()>>;

/// State shared by a listener's read and its handle.
pub(crate) struct Shared {
    pub(crate) pending: Cell<bool>,
    pub(crate) waker: RefCell<Option<Waker>>,
    pub(crate) callback: Option<Callback>,
    pub(crate) read: Cell<Option<Homed<Key>>>,
}

impl Shared {
    fn arrived(&self) {
        if let Some(callback) = self.callback.clone() {
            let call = move || {
                // A handler that runs the loop inside itself is not called recursively.
                if let Ok(mut f) = callback.try_borrow_mut() {
                    f();
                }
            };
            current::try_with(|lp| lp.call_now(Box::new(call), None));
            return;
        }
        self.pending.set(true);
        let waker = self.waker.take();
        waker.into_iter().for_each(exception::wake);
    }
}
