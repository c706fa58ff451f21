//! The operation that reads what a signal's handler writes.

use std::{io::PipeReader, os::fd::OwnedFd, rc::Rc};

use super::Shared;
use crate::{
    current::{self, Loop},
    kernel::{
        fd::Fd,
        key::Key,
        operation::{Done, Operation},
        sqe::Sqe,
    },
    scheduler::homed::Homed,
};

/// Who is told.
pub(super) enum Heard {
    /// The run: its main future is cancelled.
    Interrupt,
    /// A listener.
    Listener(Rc<Shared>),
}

/// Reads on until it is cancelled.
pub(super) struct ReadSignal {
    fd: Fd,
    bytes: [u8; 64],
    heard: Heard,
}

impl ReadSignal {
    pub(super) fn start(lp: &Loop, reader: PipeReader, heard: Heard) -> Homed<Key> {
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
                current::try_with(|lp| lp.interrupted.set(true));
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
