//! Multishot receives on behalf of a handle, into buffers of the loop's pool.

use std::task::Waker;

use super::{Done, OpKey};
use crate::{current, fd::Fd};

/// Where receives deliver to. One static serves all of a kind: their tokens tell them apart.
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
///     data: |token, data, _| {
///         GOT.with_borrow_mut(|got| got.push((token, data.to_vec())));
///         None
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
    /// Something came, with more to come; `full` if it fills a whole buffer, so that more is likely to be there. The
    /// buffer goes back to the pool after this, and then who is returned is woken.
    pub data: fn(token: u32, data: &[u8], full: bool) -> Option<Waker>,
    /// The last of it: data, the end (0 bytes), or an error.
    pub end: fn(token: u32, done: Done),
}

/// Receives (multishot `IORING_OP_RECV`) until told to stop, or after about `cap` bytes in total where the kernel knows
/// such a limit (0 = none); [`Receiver`] has an example. After a [`cancel`](super::cancel) the last result is
/// `ECANCELED`, unless something came first.
///
/// # Panics
/// Outside a running loop.
pub fn receive(fd: &Fd, cap: u32, token: u32, to: &'static Receiver) -> OpKey {
    current::with(|lp| OpKey { loop_id: lp.id(), key: lp.driver.receive(fd, cap, token, to) })
}
