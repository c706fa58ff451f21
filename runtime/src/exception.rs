//! What nobody else will hear of: panics of tasks and callbacks that nobody awaits, errors of handlers.

use std::{
    any::Any,
    cell::RefCell,
    fmt, io, mem,
    panic::{self, AssertUnwindSafe},
    rc::Rc,
    task::Waker,
};

use crate::{
    current,
    task::{PanicPayload, TaskInfo},
};

/// Something went wrong where nobody waits for it.
#[derive(Clone)]
pub struct ExceptionContext {
    message: String,
    error: Option<Rc<io::Error>>,
    task: Option<TaskInfo>,
}

impl ExceptionContext {
    /// A report of `message`.
    pub fn new(message: impl Into<String>) -> ExceptionContext {
        ExceptionContext { message: message.into(), error: None, task: None }
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
}

impl fmt::Display for ExceptionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(task) = &self.task {
            write!(f, " [{} created at {}]", task.name(), task.location())?;
        }
        self.error.as_ref().map_or(Ok(()), |e| write!(f, ": {e}"))
    }
}

impl fmt::Debug for ExceptionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

type Handler = Rc<dyn Fn(&ExceptionContext)>;

/// The loop's handler; without one, reports go to standard error.
#[derive(Default)]
pub(crate) struct ExceptionHandler(RefCell<Option<Handler>>);

impl ExceptionHandler {
    pub(crate) fn report(&self, context: &ExceptionContext) {
        let handler = self.0.borrow().clone();
        match handler {
            Some(handler) => {
                if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| handler(context))) {
                    discard(payload);
                    eprintln!("corio: the exception handler panicked over: {context}");
                }
            }
            None => eprintln!("corio: {context}"),
        }
    }
}

/// Sets who hears of panics and errors that nobody awaits on this loop (asyncio
/// `loop.set_exception_handler`). Without one they are printed to standard error.
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
    let old = current::with(|lp| lp.exceptions.0.borrow_mut().replace(Rc::new(f)));
    drop(old);
}

/// Tells the loop's exception handler (asyncio `loop.call_exception_handler`). Outside a loop it is printed.
pub fn call_exception_handler(context: &ExceptionContext) {
    if current::try_with(|lp| lp.exceptions.report(context)).is_none() {
        eprintln!("corio: {context}");
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

/// Drops what somebody panicked with. Its destructor is foreign code, and so is that of what it panics with, at which
/// this ends.
pub(crate) fn discard<P>(payload: P) {
    let dropped = |payload| panic::catch_unwind(AssertUnwindSafe(|| drop::<Box<dyn Any + Send>>(payload)));
    if let Err(first) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload)))
        && let Err(second) = dropped(first)
    {
        mem::forget(second);
    }
}
