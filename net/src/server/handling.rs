//! A running handler, and the report of its failure.

use std::{
    any::Any,
    future::Future,
    io, mem,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use corio_runtime::{ExceptionContext, call_exception_handler, current_task};
use pin_project_lite::pin_project;

use crate::streams::{Addrs, LocalStream};

pub(super) fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.map(|text| format!(": {text}")).unwrap_or_default()
}

/// A connection and its handler. Dropping it marks the end of the handler.
pub(super) struct Session {
    pub(super) stream: LocalStream,
    pub(super) addrs: Addrs,
}

impl Session {
    /// The connection in words.
    fn connection(&self) -> String {
        let of =
            |addr: Option<SocketAddr>| addr.map_or("an unknown address".to_owned(), |addr| addr.to_string());
        format!("connection from {} to {}", of(self.addrs.peer()), of(self.addrs.local()))
    }

    pub(super) fn what(&self) -> String {
        format!("Unhandled exception in client_connected_cb ({})", self.connection())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stream.handler_ended();
    }
}

pin_project! {
    /// A running handler. Its error is reported.
    pub(super) struct Handling<F> {
        #[pin]
        pub(super) handler: F,
        pub(super) session: Session,
    }
}

impl<F: Future<Output = io::Result<()>>> Future for Handling<F> {
    type Output = ();

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let panicking = NameOnPanic(this.session);
        let polled = this.handler.poll(cx);
        mem::forget(panicking);
        let Poll::Ready(ended) = polled else { return Poll::Pending };
        if let Err(e) = ended {
            report_error(this.session, e);
        }
        Poll::Ready(())
    }
}

#[cold]
#[inline(never)]
fn report_error(session: &Session, e: io::Error) {
    let context = ExceptionContext::new(session.what());
    call_exception_handler(&context.with_error(e).with_task(current_task()));
}

/// Names the task of a panicking handler after its connection, for the report.
struct NameOnPanic<'a>(&'a Session);

impl Drop for NameOnPanic<'_> {
    fn drop(&mut self) {
        if let Some(task) = current_task() {
            task.set_name(format!("handler of the {}", self.0.connection()));
        }
    }
}
