//! The attempts to connect to several addresses, of which the first success wins (asyncio `staggered_race`).

use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use corio_runtime::{
    error,
    fd::Fd,
    op::{self, Op},
    socket,
    time::{Sleep, sleep},
};

use super::errors;
use crate::ops::Connect;

/// Returns the first connection. After a failure the next address is tried at once, otherwise after the delay; without
/// one only after a failure.
pub(super) async fn race(
    addrs: Vec<SocketAddr>,
    local: Option<SocketAddr>,
    delay: Option<Duration>,
) -> io::Result<(SocketAddr, Fd)> {
    let (attempts, errors, addrs) = (Vec::new(), Vec::new(), addrs.into_iter().enumerate());
    let mut race = Race { addrs, local, delay, attempts, errors, stagger: None };
    poll_fn(|cx| race.poll(cx)).await
}

struct Race {
    addrs: std::iter::Enumerate<std::vec::IntoIter<SocketAddr>>,
    local: Option<SocketAddr>,
    delay: Option<Duration>,
    attempts: Vec<Attempt>,
    /// Each with the place of its address.
    errors: Vec<(usize, io::Error)>,
    /// Until the next address is tried beside the others.
    stagger: Option<Sleep>,
}

struct Attempt {
    place: usize,
    addr: SocketAddr,
    connecting: Op<Connect>,
}

impl Race {
    /// Starts with the next address. If that has no socket, it counts as failed.
    fn start_next(&mut self) -> bool {
        let Some((place, addr)) = self.addrs.next() else { return false };
        self.stagger = self.delay.map(sleep);
        match socket::connector(addr, self.local) {
            Ok(fd) => {
                let connecting = op::submit(Connect { fd, addr: addr.into() });
                self.attempts.push(Attempt { place, addr, connecting });
            }
            Err(e) => self.errors.push((place, e)),
        }
        true
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(SocketAddr, Fd)>> {
        loop {
            let before = self.attempts.len();
            if let Some(connected) = self.poll_attempts(cx) {
                return Poll::Ready(Ok(connected));
            }
            let failed = self.attempts.len() < before || self.attempts.is_empty();
            if (failed || self.is_late(cx)) && self.start_next() {
                continue;
            }
            if self.attempts.is_empty() {
                return Poll::Ready(Err(errors::of_all(std::mem::take(&mut self.errors))));
            }
            return Poll::Pending;
        }
    }

    /// Whether there is one more address, and the last attempt has had its head start.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(stagger) = self.stagger.as_mut().filter(|_| self.addrs.len() > 0) else { return false };
        Pin::new(stagger).poll(cx).is_ready()
    }

    fn poll_attempts(&mut self, cx: &mut Context<'_>) -> Option<(SocketAddr, Fd)> {
        let mut index = 0;
        while let Some(Attempt { place, addr, connecting }) = self.attempts.get_mut(index) {
            match Pin::new(connecting).poll(cx) {
                Poll::Ready(Ok(fd)) => return Some((*addr, fd)),
                Poll::Ready(Err(e)) => {
                    let text = format!("cannot connect to {addr}: {e}");
                    self.errors.push((*place, error::explain(e, text)));
                    drop(self.attempts.remove(index));
                }
                Poll::Pending => index += 1,
            }
        }
        None
    }
}
