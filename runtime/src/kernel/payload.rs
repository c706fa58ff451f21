//! `Payload`: the bytes of one send.

/// The data of one send. The in-flight table owns it, and does not move, touch or free it, until the kernel is
/// finished.
///
/// ```
/// use corio_runtime::{Resolver, create_future, fd::Fd, op::{self, Payload}};
/// use std::{io::Read, os::{fd::OwnedFd, unix::net::UnixStream}};
///
/// struct Greeting(Resolver<(u32, i32)>);
///
/// impl Payload for Greeting {
///     fn bytes(&self) -> &[u8] { b"hello" }
///     fn sent(self: Box<Self>, token: u32, result: i32) { self.0.set_result((token, result)).unwrap() }
/// }
///
/// let (ours, mut theirs) = UnixStream::pair().unwrap();
/// corio_runtime::run(async {
///     let (resolver, sent) = create_future();
///     op::send(&Fd::from(OwnedFd::from(ours)), Box::new(Greeting(resolver)), 7);
///     assert_eq!(sent.await, Ok((7, 5)));
/// });
/// assert_eq!(theirs.read(&mut [0; 8]).unwrap(), 5);
/// ```
pub trait Payload: 'static {
    /// The bytes to send: the same at each call. Must not call into the loop, which may be borrowed, and must not
    /// panic.
    fn bytes(&self) -> &[u8];

    /// The kernel is finished with `self`: `result` is the number of bytes sent, or a negated error number. `token` is
    /// the one that the send was started with.
    fn sent(self: Box<Self>, token: u32, result: i32);

    /// The kernel is finished with `self`, which was sent by [`Sends::send`](crate::op::Sends::send): it has sent
    /// everything, without a completion. (For a send that was not [silent](crate::op::OpKey::is_silent),
    /// [`sent`](Payload::sent) is called instead.)
    fn sent_silently(self: Box<Self>) {
        drop(self);
    }
}
