//! Reports of errors that nobody awaits: panics of detached tasks and of callbacks, errors of server handlers.

mod flood;
mod stderr;

use std::{
    cell::{Cell, OnceCell, RefCell},
    error::Error,
    fmt, io,
    panic::{self, AssertUnwindSafe, Location},
    rc::Rc,
    sync::Arc,
    task::Waker,
};

use flood::{Floods, Kind};
use stderr::Outbox;

use crate::scheduler::{
    calls::Place,
    clock::Clock,
    task_error::{PanicPayload, discard},
    task_info::TaskInfo,
};

pub(crate) use flood::QUIET;

/// A report of an error that nobody awaits.
#[derive(Clone)]
pub struct ExceptionContext {
    message: String,
    reported_at: &'static Location<'static>,
    error: Option<Rc<io::Error>>,
    task: Option<TaskInfo>,
    place: Place,
}

impl ExceptionContext {
    /// A report of `message`. Reports from the same source line are of one kind, and printed at a limited rate: see
    /// [`set_exception_handler`](crate::set_exception_handler).
    #[track_caller]
    pub fn new(message: impl Into<String>) -> ExceptionContext {
        let reported_at = Location::caller();
        ExceptionContext { message: message.into(), reported_at, error: None, task: None, place: None }
    }

    /// Adds the error that caused it.
    pub fn with_error(mut self, error: io::Error) -> ExceptionContext {
        self.error = Some(Rc::new(error));
        self
    }

    /// Adds the task in which it happened.
    pub fn with_task(mut self, task: Option<TaskInfo>) -> ExceptionContext {
        self.task = task;
        self
    }

    /// Adds the place where the failed callback was created.
    pub(crate) fn with_place(mut self, place: Place) -> ExceptionContext {
        self.place = place;
        self
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The error, if there is one.
    pub fn error(&self) -> Option<&io::Error> {
        self.error.as_deref()
    }

    /// The task, if there is one.
    pub fn task(&self) -> Option<&TaskInfo> {
        self.task.as_ref()
    }

    /// Where the task or the callback that failed was created, if that is known (asyncio `source_traceback`).
    ///
    /// ```
    /// use corio_runtime::{call_soon, run, set_exception_handler, yield_now};
    /// run(async {
    ///     let line = line!() + 3;
    ///     set_exception_handler(move |context| assert_eq!(context.created_at().unwrap().line(), line));
    ///     // This one fails.
    ///     call_soon(|| panic!("in a callback"));
    ///     yield_now().await;
    /// });
    /// ```
    pub fn created_at(&self) -> Option<&'static Location<'static>> {
        self.place.or_else(|| self.task.as_ref().map(TaskInfo::location))
    }

    fn kind(&self) -> Kind {
        Kind {
            reported_at: self.reported_at,
            created_at: self.created_at(),
            error: self.error.as_ref().map(|e| e.kind()),
        }
    }

    /// Its `Display` text. The error's `Display` is foreign code.
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
        } else if let Some(place) = self.place {
            write!(f, " [created at {place}]")?;
        }
        let mut next = self.error().map(|e| -> &dyn Error { e });
        let mut told = String::new();
        while let Some(error) = next {
            let text = error.to_string();
            // Many texts include the text of their source.
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

pub(crate) type Handler = Rc<dyn Fn(&ExceptionContext)>;

/// The handler of all loops of a builder.
#[derive(Clone)]
pub(crate) struct SharedHandler(Arc<dyn Fn(&ExceptionContext) + Send + Sync>);

impl SharedHandler {
    pub(crate) fn new(f: impl Fn(&ExceptionContext) + Send + Sync + 'static) -> SharedHandler {
        SharedHandler(Arc::new(f))
    }
}

impl fmt::Debug for SharedHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedHandler")
    }
}

/// The loop's exception handler: its own, else its builder's. Without one, reports are printed.
pub(crate) struct ExceptionHandler {
    handler: RefCell<Option<Handler>>,
    default: OnceCell<Handler>,
    printer: Printer,
    /// Schedules a call of `look_again`.
    later: fn(&ExceptionHandler),
}

impl ExceptionHandler {
    pub(crate) fn new(clock: Clock, later: fn(&ExceptionHandler)) -> ExceptionHandler {
        let (handler, default) = (RefCell::default(), OnceCell::new());
        ExceptionHandler { handler, default, printer: Printer::new(clock), later }
    }

    pub(crate) fn report(&self, context: &ExceptionContext) {
        let own = self.handler.borrow().clone();
        match own.or_else(|| self.default.get().cloned()) {
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

    /// Prints a line that is no report.
    pub(crate) fn note(&self, line: String) {
        self.printer.write([line]);
    }

    /// At the end of the loop: prints the suppressed counts.
    pub(crate) fn finish(&self) {
        self.printer.finish();
    }

    fn print(&self, kind: Kind, text: String) {
        self.printer.print(kind, text);
        self.look_again_later();
    }

    /// Sets the builder's handler, before the loop runs.
    pub(crate) fn set_default(&self, handler: SharedHandler) {
        self.default.get_or_init(|| Rc::new(move |context| (handler.0)(context)));
    }

    /// Sets the handler, or none; returns the former one.
    pub(crate) fn set(&self, handler: Option<Handler>) -> Option<Handler> {
        self.handler.replace(handler)
    }

    /// Wakes a waker that may be foreign code, and reports its panic.
    pub(crate) fn wake(&self, waker: Waker) {
        if let Some(context) = try_wake(waker) {
            self.report(&context);
        }
    }

    /// Schedules the printing of suppressed counts and waiting lines, as no other report may come.
    fn look_again_later(&self) {
        if self.printer.has_more() && !self.printer.looks_again.get() {
            (self.later)(self);
        }
    }

    /// Notes that `look_again` is scheduled.
    pub(crate) fn will_look_again(&self) {
        self.printer.looks_again.set(true);
    }

    pub(crate) fn look_again(&self) {
        self.printer.looks_again.set(false);
        self.printer.look();
        self.look_again_later();
    }
}

/// Wakes a waker that may be foreign code. Returns a report of its panic.
pub(crate) fn try_wake(waker: Waker) -> Option<ExceptionContext> {
    let payload = panic::catch_unwind(AssertUnwindSafe(|| waker.wake())).err()?;
    let payload = PanicPayload::new(payload);
    let text = format!("Exception in a waker: panicked: {}", payload.message());
    discard(payload);
    Some(ExceptionContext::new(text))
}

/// Prints reports to standard error, for one loop, or for a thread outside any.
pub(crate) struct Printer {
    clock: Clock,
    floods: RefCell<Floods>,
    outbox: RefCell<Outbox>,
    looks_again: Cell<bool>,
}

impl Printer {
    pub(crate) fn new(clock: Clock) -> Printer {
        Printer {
            clock,
            floods: RefCell::default(),
            outbox: RefCell::default(),
            looks_again: Cell::new(false),
        }
    }

    /// Prints a report.
    pub(crate) fn tell(&self, context: &ExceptionContext) {
        self.print(context.kind(), context.text());
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

    /// Whether something is to be printed later. A simulated run must not depend on what standard error takes.
    fn has_more(&self) -> bool {
        self.floods.borrow().any_suppressed() || (self.clock.is_real() && !self.outbox.borrow().is_empty())
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        self.finish();
    }
}
