//! The exception handler of the running loop: setting it, and reporting to it.

use std::{ptr, rc::Rc, task::Waker};

use super::{
    current,
    exceptions::{ExceptionContext, ExceptionHandler, Printer, QUIET, SharedHandler, try_wake},
    run::Builder,
};
use crate::scheduler::clock::Clock;

thread_local! {
    /// Prints reports made outside any loop.
    static OUTSIDE: Printer = Printer::new(Clock::real());
}

/// Sets this loop's handler for errors that would otherwise be lost (asyncio `loop.set_exception_handler`): panics of
/// tasks that nobody awaits, of callbacks, wakers and cleanups; errors and panics of a server's handlers, and its
/// accept errors; errors that a cancelled group had collected; steps that block the loop. An error that a task returns
/// is reported only by [`Task::report_error`](crate::Task::report_error): if its `Task` is dropped, so is the error.
///
/// It overrides the one of the [`Builder`](Builder::exception_handler), which serves all loops of a process.
///
/// Without a handler, reports are printed to standard error, at a limited rate. Per kind of report (the source line
/// that reports, the place where the task or callback was created, the kind of error) ten are printed at once, then one
/// per second, with the number of suppressed ones. Printing neither blocks the loop nor panics: what standard error
/// does not take is lost, and counted. A handler gets every report. (The panic hook also prints each panic. It is not
/// corio's, and waits for standard error; `std::panic::set_hook` replaces it.)
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
    let old = current::with(|lp| lp.exceptions.set(Some(Rc::new(f))));
    drop(old);
}

/// Removes this loop's exception handler (asyncio `loop.set_exception_handler(None)`): reports go to the one of its
/// [`Builder`](Builder::exception_handler), or are printed again.
///
/// ```
/// use corio_runtime::{ExceptionContext, call_exception_handler, clear_exception_handler, run, set_exception_handler};
/// use std::{cell::Cell, rc::Rc};
/// let heard = Rc::new(Cell::new(0));
/// let count = heard.clone();
/// run(async move {
///     set_exception_handler(move |_| count.set(count.get() + 1));
///     call_exception_handler(&ExceptionContext::new("heard"));
///     clear_exception_handler();
///     call_exception_handler(&ExceptionContext::new("printed"));
/// });
/// assert_eq!(heard.get(), 1);
/// ```
///
/// # Panics
/// Outside a running loop.
#[track_caller]
pub fn clear_exception_handler() {
    let old = current::with(|lp| lp.exceptions.set(None));
    drop(old);
}

impl Builder {
    /// A handler for each loop with these settings, such as all of [`run_per_core`](Builder::run_per_core), from its
    /// start to its end. It is called on the loop's thread, and may be called by several at once.
    /// [`set_exception_handler`] overrides it on a loop, and [`clear_exception_handler`] brings it back. If it panics,
    /// the report is printed.
    ///
    /// ```
    /// use corio_runtime::{Cores, Runner, create_task, yield_now};
    /// use std::sync::{Arc, Mutex};
    /// let heard = Arc::new(Mutex::new(Vec::new()));
    /// let log = heard.clone();
    /// let builder = Runner::builder().exception_handler(move |context| log.lock().unwrap().push(context.to_string()));
    /// builder.run_per_core(Cores::Count(2), |core| async move {
    ///     let index = core.index();
    ///     create_task(async move { panic!("on core {index}") }).detach();
    ///     yield_now().await;
    /// });
    /// let mut heard = heard.lock().unwrap();
    /// heard.sort();
    /// assert!(heard[0].contains("on core 0") && heard[1].contains("on core 1"));
    /// ```
    pub fn exception_handler(mut self, f: impl Fn(&ExceptionContext) + Send + Sync + 'static) -> Builder {
        self.exception_handler = Some(SharedHandler::new(f));
        self
    }
}

/// Reports to the loop's exception handler (asyncio `loop.call_exception_handler`). Outside a loop the report is
/// printed.
pub fn call_exception_handler(context: &ExceptionContext) {
    if current::try_with(|lp| lp.exceptions.report(context)).is_none() {
        // The thread may be ending, with its thread-local gone.
        let told = OUTSIDE.try_with(|printer| printer.tell(context));
        told.unwrap_or_else(|_| Printer::new(Clock::real()).tell(context));
    }
}

/// Wakes a waker that may be foreign code. Its panic goes to the exception handler, so that the caller can wake the
/// remaining wakers.
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
    if let Some(context) = try_wake(waker) {
        call_exception_handler(&context);
    }
}

/// Calls `look_again` of the running loop's handler after `QUIET`; another handler has no timers.
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
