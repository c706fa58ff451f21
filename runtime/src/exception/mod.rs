//! What nobody else will hear of: panics of tasks and callbacks that nobody awaits, errors of handlers.

mod flood;
mod stderr;

use std::{
    cell::{Cell, RefCell},
    error::Error,
    fmt, io,
    panic::{self, AssertUnwindSafe, Location},
    ptr,
    rc::Rc,
    task::Waker,
};

use flood::{Floods, Kind, QUIET};
use stderr::Outbox;

use crate::{
    call_later, current,
    scheduler::{
        clock::Clock,
        task_error::{PanicPayload, discard},
        task_info::TaskInfo,
    },
};

/// Something went wrong where nobody waits for it.
#[derive(Clone)]
pub struct ExceptionContext {
    message: String,
    reported_at: &'static Location<'static>,
    error: Option<Rc<io::Error>>,
    task: Option<TaskInfo>,
}

impl ExceptionContext {
    /// A report of `message`. Reports that one line of the source makes are of one kind, of which not all are
    /// printed: see [`set_exception_handler`].
    #[track_caller]
    pub fn new(message: impl Into<String>) -> ExceptionContext {
        let reported_at = Location::caller();
        ExceptionContext { message: message.into(), reported_at, error: None, task: None }
    }

    /// With the error that is its cause.
    pub fn with_error(mut self, error: io::Error) -> ExceptionContext {
        self.error = Some(Rc::new(error));
        self
    }

    /// With the task it happened in.
    pub fn with_task(mut self, task: Option<TaskInfo>) -> ExceptionContext {
        self.task = task;
        self
    }

    /// What happened.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The error, where there is one.
    pub fn error(&self) -> Option<&io::Error> {
        self.error.as_deref()
    }

    /// The task, where there is one.
    pub fn task(&self) -> Option<&TaskInfo> {
        self.task.as_ref()
    }

    fn kind(&self) -> Kind {
        Kind {
            reported_at: self.reported_at,
            created_at: self.task.as_ref().map(TaskInfo::location),
            error: self.error.as_ref().map(|e| e.kind()),
        }
    }

    /// As it displays. An error's `Display` is foreign code.
    fn text(&self) -> String {
        panic::catch_unwind(AssertUnwindSafe(|| self.to_string())).unwrap_or_else(|payload| {
            discard(payload);
            format!("{} (the text of its error panicked)", self.message)
        })
    }
}

impl fmt::Display for ExceptionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(task) = &self.task {
            write!(f, " [{} created at {}]", task.name(), task.location())?;
        }
        let mut next = self.error().map(|e| -> &dyn Error { e });
        let mut told = String::new();
        while let Some(error) = next {
            let text = error.to_string();
            // Many texts hold the one of their source.
            if !told.contains(&text) {
                write!(f, ": {text}")?;
                told = text;
            }
            next = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for ExceptionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

type Handler = Rc<dyn Fn(&ExceptionContext)>;

/// The loop's handler; without one, reports are printed.
pub(crate) struct ExceptionHandler {
    handler: RefCell<Option<Handler>>,
    printer: Printer,
}

impl ExceptionHandler {
    pub(crate) fn new(clock: Clock) -> ExceptionHandler {
        ExceptionHandler { handler: RefCell::new(None), printer: Printer::new(clock) }
    }

    pub(crate) fn report(&self, context: &ExceptionContext) {
        let handler = self.handler.borrow().clone();
        match handler {
            Some(handler) => {
                if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| handler(context))) {
                    discard(payload);
                    let text = format!("the exception handler panicked over: {}", context.text());
                    self.print(context.kind(), text);
                }
            }
            None => self.print(context.kind(), context.text()),
        }
    }

    /// At the end of the loop: prints what is still to be told.
    pub(crate) fn finish(&self) {
        self.printer.finish();
    }

    fn print(&self, kind: Kind, text: String) {
        self.printer.print(kind, text);
        self.look_again_later();
    }

    /// What is suppressed or waits is told later also if no other report comes.
    fn look_again_later(&self) {
        let printer = &self.printer;
        let is_current = || current::try_with(|lp| ptr::eq(&lp.exceptions, self)) == Some(true);
        if printer.has_more() && !printer.looks_again.get() && is_current() {
            printer.looks_again.set(true);
            call_later(QUIET, || {
                current::try_with(|lp| lp.exceptions.look_again());
            });
        }
    }

    fn look_again(&self) {
        self.printer.looks_again.set(false);
        self.printer.look();
        self.look_again_later();
    }
}

/// Prints the reports of one loop, or of one thread outside of any, to standard error.
struct Printer {
    clock: Clock,
    floods: RefCell<Floods>,
    outbox: RefCell<Outbox>,
    looks_again: Cell<bool>,
}

impl Printer {
    fn new(clock: Clock) -> Printer {
        Printer {
            clock,
            floods: RefCell::default(),
            outbox: RefCell::default(),
            looks_again: Cell::new(false),
        }
    }

    fn print(&self, kind: Kind, text: String) {
        let line = self.floods.borrow_mut().admit(kind, text, self.clock.now_ns());
        if let Some(line) = line {
            self.write([line]);
        }
    }

    fn look(&self) {
        let ended = self.floods.borrow_mut().ended(self.clock.now_ns());
        self.write(ended);
    }

    fn finish(&self) {
        let rest = self.floods.borrow_mut().all(self.clock.now_ns());
        self.write(rest);
        self.outbox.borrow_mut().flush_at_the_end();
    }

    fn write(&self, lines: impl IntoIterator<Item = String>) {
        let mut outbox = self.outbox.borrow_mut();
        lines.into_iter().for_each(|line| outbox.push(&line));
        outbox.flush();
    }

    /// Whether there is something to tell later. A run of the simulator does not depend on what standard error takes.
    fn has_more(&self) -> bool {
        self.floods.borrow().any_suppressed() || (self.clock.is_real() && !self.outbox.borrow().is_empty())
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        self.finish();
    }
}

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
    let old = current::with(|lp| lp.exceptions.handler.borrow_mut().replace(Rc::new(f)));
    drop(old);
}

/// Tells the loop's exception handler (asyncio `loop.call_exception_handler`). Outside a loop it is printed.
pub fn call_exception_handler(context: &ExceptionContext) {
    if current::try_with(|lp| lp.exceptions.report(context)).is_none() {
        let print = |printer: &Printer| printer.print(context.kind(), context.text());
        // The thread may be ending.
        OUTSIDE.try_with(print).unwrap_or_else(|_| print(&Printer::new(Clock::real())));
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
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| waker.wake())) {
        let payload = PanicPayload::new(payload);
        let text = format!("Exception in a waker: panicked: {}", payload.message());
        discard(payload);
        call_exception_handler(&ExceptionContext::new(text));
    }
}
