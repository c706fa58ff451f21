//! The exception handler of the running loop: setting it, and reporting to it.

use std::{ptr, rc::Rc, task::Waker};

use super::{
    current,
    exceptions::{ExceptionContext, ExceptionHandler, Printer, QUIET, try_wake},
};
use crate::scheduler::clock::Clock;

thread_local! {
    /// For reports outside of any loop.
    static OUTSIDE: Printer = Printer::new(Clock::real());
}

/// Sets who hears of what would be lost on this loop (asyncio `loop.set_exception_handler`): panics of tasks that
/// nobody awaits, of callbacks, wakers and cleanups; errors and panics of a server's handlers, and why it cannot
/// accept; errors that a cancelled group had collected; steps that keep the loop. The error that a task gives as its
/// result is not among them: whoever drops the task drops it.
///
/// Without a handler they are printed to standard error, of each kind (by the line of the source that reports, the
/// place where the task was created, and the kind of error) ten at once and then one a second, with the number of
/// those suppressed. That neither blocks the loop nor panics: what standard error does not take is lost, and how much
/// that was is told. A handler gets every report. (A panic is also printed by the panic hook, which is not corio's and
/// does wait for standard error: `std::panic::set_hook` sets another.)
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// let heard = Rc::new(Cell::new(0));
/// let count = heard.clone();
/// corio_runtime::run(async move {
///     corio_runtime::set_exception_handler(move |context| {
///         assert!(context.message().contains("was never retrieved"));
///         count.set(count.get() + 1);
///     });
///     drop(corio_runtime::create_task(async { panic!("nobody waits for this") }));
///     corio_runtime::yield_now().await;
/// });
/// assert_eq!(heard.get(), 1);
/// ```
///
/// # Panics
/// Outside a running loop.
pub fn set_exception_handler(f: impl Fn(&ExceptionContext) + 'static) {
    let old = current::with(|lp| lp.exceptions.set(Rc::new(f)));
    drop(old);
}

/// Tells the loop's exception handler (asyncio `loop.call_exception_handler`). Outside a loop it is printed.
pub fn call_exception_handler(context: &ExceptionContext) {
    if current::try_with(|lp| lp.exceptions.report(context)).is_none() {
        // The thread may be ending.
        let told = OUTSIDE.try_with(|printer| printer.tell(context));
        told.unwrap_or_else(|_| Printer::new(Clock::real()).tell(context));
    }
}

/// Wakes through a waker that may be foreign code: its panic goes to the exception handler, so that nobody behind it
/// keeps waiting.
///
/// ```
/// use std::{cell::Cell, rc::Rc, sync::Arc, task::{Wake, Waker}};
/// struct Panics;
/// impl Wake for Panics {
///     fn wake(self: Arc<Self>) { panic!("in a waker") }
/// }
/// let heard = Rc::new(Cell::new(0));
/// let count = heard.clone();
/// corio_runtime::run(async move {
///     corio_runtime::set_exception_handler(move |context| {
///         assert!(context.message().contains("in a waker"));
///         count.set(count.get() + 1);
///     });
///     corio_runtime::wake(Waker::from(Arc::new(Panics)));
/// });
/// assert_eq!(heard.get(), 1);
/// ```
pub fn wake(waker: Waker) {
    if let Err(context) = try_wake(waker) {
        call_exception_handler(&context);
    }
}

/// Has the handler of the running loop look again a moment later; that of another has no time.
pub(super) fn look_again_later(handler: &ExceptionHandler) {
    current::try_with(|lp| {
        if ptr::eq(&raw const lp.exceptions, handler) {
            handler.will_look_again();
            let look = || {
                current::try_with(|lp| lp.exceptions.look_again());
            };
            lp.call_at(lp.clock.after(QUIET), Box::new(look));
        }
    });
}
