//! When asyncio's group would end: it hears of its children's ends by callbacks, a turn later than who awaits them.

use std::{
    cell::Cell,
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

use corio::{event_loop::call_soon, yield_now};

/// How many children of a group have not ended, and of how many asyncio's group would not have heard the end.
#[derive(Default)]
pub(super) struct Children {
    live: Cell<usize>,
    unheard: Cell<usize>,
    waker: Cell<Option<Waker>>,
    /// When the body ended.
    left: Cell<Left>,
}

#[derive(Clone, Copy, Default)]
enum Left {
    #[default]
    Nobody,
    /// All have ended, and asyncio's group has not heard it.
    Unheard,
    Living,
}

/// The body of a group, until it ends.
pub(super) struct BodyOf<'a>(pub(super) &'a Children);

impl Drop for BodyOf<'_> {
    fn drop(&mut self) {
        self.0.left.set(match (self.0.live.get(), self.0.unheard.get()) {
            (_, 0) => Left::Nobody,
            (0, _) => Left::Unheard,
            _ => Left::Living,
        });
    }
}

impl Children {
    /// After the group has ended here: until asyncio's would.
    pub(super) async fn end_of_asyncio(&self) {
        match self.left.get() {
            Left::Nobody => {}
            Left::Unheard => self.all_heard().await,
            Left::Living => yield_now().await,
        }
    }

    async fn all_heard(&self) {
        poll_fn(|cx| {
            self.waker.set(Some(cx.waker().clone()));
            if self.unheard.get() == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await
    }

    fn heard(&self) {
        self.unheard.update(|n| n - 1);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A child of a group, until it ends.
pub(super) struct Counted(Rc<Children>);

impl Counted {
    pub(super) fn new(children: &Rc<Children>) -> Counted {
        children.live.update(|n| n + 1);
        children.unheard.update(|n| n + 1);
        Counted(children.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.live.update(|n| n - 1);
        let children = self.0.clone();
        call_soon(move || children.heard());
    }
}
