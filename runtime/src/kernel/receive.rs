//! Multishot receives of handles: their data, and its receivers.

use std::{cell::RefCell, fmt, mem, ptr, task::Waker};

use crate::{
    kernel::{driver::Driver, inflight::ReceiverId, operation::Done, pool::Filled},
    scheduler::task_table::TaskTable,
};

/// The callbacks for the data of receives. One static serves all receives of a kind: their tokens tell them apart.
///
/// ```
/// use corio_runtime::{fd::Fd, op::{self, Receiver}};
/// use std::{cell::{Cell, RefCell}, io::Write, os::{fd::OwnedFd, unix::net::UnixStream}};
///
/// thread_local! {
///     static GOT: RefCell<Vec<(u32, Vec<u8>)>> = RefCell::default();
///     static LAST: Cell<Option<usize>> = const { Cell::new(None) };
/// }
/// static RECEIVER: Receiver = Receiver {
///     data: |arrivals| {
///         GOT.with_borrow_mut(|got| {
///             arrivals.each(|token, data, _| {
///                 got.push((token, data.to_vec()));
///                 None
///             })
///         })
///     },
///     end: |_, done| LAST.set(Some(done.count().unwrap())),
/// };
///
/// let (ours, mut theirs) = UnixStream::pair().unwrap();
/// theirs.write_all(b"hello").unwrap();
/// drop(theirs);
/// corio_runtime::run(async {
///     op::receive(&Fd::from(OwnedFd::from(ours)), 0, 7, &RECEIVER);
///     while LAST.get().is_none() {
///         corio_runtime::yield_now().await;
///     }
/// });
/// assert_eq!((GOT.take(), LAST.get()), (vec![(7, b"hello".to_vec())], Some(0)));
/// ```
#[derive(Debug)]
pub struct Receiver {
    /// Data of receives that stay armed: to be taken by [`Arrivals::each`]. Otherwise the first data is lost, and the
    /// rest is passed in another call.
    pub data: fn(&mut Arrivals<'_>),
    /// The final completion of a receive: data, the end of the stream (0 bytes), or an error.
    pub end: fn(token: u32, done: Done),
}

/// Data for one [`Receiver`], from one or several receives, in the order of the completions. `Receiver` has an example.
pub struct Arrivals<'a> {
    driver: &'a Driver,
    tasks: &'a TaskTable,
    to: ReceiverId,
    first: Option<(u32, Filled)>,
    /// Wakers that do not belong to tasks of this loop: called last, as their code is foreign.
    others: Vec<Waker>,
    /// Calls such a waker: foreign code.
    wake: fn(Waker),
}

impl<'a> Arrivals<'a> {
    pub(crate) fn new(
        driver: &'a Driver,
        tasks: &'a TaskTable,
        to: ReceiverId,
        first: (u32, Filled),
        wake: fn(Waker),
    ) -> Arrivals<'a> {
        Arrivals { driver, tasks, to, first: Some(first), others: Vec::new(), wake }
    }

    /// Calls `f` for each: with its token, the data, and whether the data fills a whole buffer, so that more is likely.
    /// Afterwards the buffer is free again. The returned wakers are woken: tasks of this loop in this order, then
    /// others.
    ///
    /// # Panics
    /// If `f` calls into the loop: starts or cancels an operation, creates or wakes a task, or reads metrics. A panic
    /// hook that does so while `f` panics ends the process.
    #[inline(always)]
    pub fn each(&mut self, mut f: impl FnMut(u32, &[u8], bool) -> Option<Waker>) {
        let mut tasks = self.tasks.waking();
        let Some(first) = self.first.take() else { return };
        self.driver.each_data(self.to, first, |token, data, full| {
            if let Some(waker) = f(token, data, full)
                && let Err(other) = tasks.wake(waker)
            {
                self.others.push(other);
            }
        });
    }
}

impl Arrivals<'_> {
    /// Like `drop`, but inlined in the usual case.
    #[inline(always)]
    pub(crate) fn finish(self) {
        if self.first.is_none() && self.others.is_empty() {
            mem::forget(self);
        }
    }
}

impl Drop for Arrivals<'_> {
    #[inline(never)]
    fn drop(&mut self) {
        if let Some((_, filled)) = self.first.take() {
            self.driver.give_back(filled);
        }
        mem::take(&mut self.others).into_iter().for_each(self.wake);
    }
}

impl fmt::Debug for Arrivals<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrivals").field("to", &self.to).finish_non_exhaustive()
    }
}

/// The receivers of a loop: few, each a static of its crate.
#[derive(Default)]
pub(crate) struct Receivers(RefCell<Vec<&'static Receiver>>);

impl Receivers {
    pub(crate) fn id_of(&self, receiver: &'static Receiver) -> ReceiverId {
        let mut known = self.0.borrow_mut();
        let place = known.iter().position(|other| ptr::eq(*other, receiver)).unwrap_or_else(|| {
            known.push(receiver);
            known.len() - 1
        });
        ReceiverId(place as u32)
    }

    #[inline(always)]
    pub(crate) fn get(&self, id: ReceiverId) -> &'static Receiver {
        self.0.borrow()[id.0 as usize]
    }
}
