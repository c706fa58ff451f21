//! `TaskError`: why a task has no value. `PanicPayload`: a task's panic.

use std::{
    any::Any,
    fmt, io, mem,
    panic::{self, AssertUnwindSafe},
    sync::Mutex,
};

/// Why a task has no value.
#[derive(Debug)]
pub enum TaskError {
    /// It was cancelled.
    Cancelled,
    /// It failed, and its error went to its group.
    Failed,
    /// It panicked.
    Panicked(PanicPayload),
    /// It was awaited away from its own loop.
    WrongLoop,
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskError::Cancelled => f.write_str("task was cancelled"),
            TaskError::Failed => f.write_str("task failed; its error is in its group"),
            TaskError::Panicked(panic) => write!(f, "task panicked: {}", panic.message()),
            TaskError::WrongLoop => f.write_str("task is attached to a different loop"),
        }
    }
}

impl std::error::Error for TaskError {}

impl From<TaskError> for io::Error {
    fn from(e: TaskError) -> io::Error {
        io::Error::other(e)
    }
}

/// A task's panic.
pub struct PanicPayload(Mutex<Box<dyn Any + Send>>);

impl PanicPayload {
    pub(crate) fn new(payload: Box<dyn Any + Send>) -> PanicPayload {
        PanicPayload(Mutex::new(payload))
    }

    /// The text of the panic, or a substitute if the payload is no text.
    pub fn message(&self) -> String {
        let payload = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
        text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "(not text)".to_owned())
    }

    /// Continues the panic here.
    pub fn resume(self) -> ! {
        panic::resume_unwind(self.0.into_inner().unwrap_or_else(|e| e.into_inner()))
    }
}

impl fmt::Debug for PanicPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PanicPayload").field(&self.message()).finish()
    }
}

/// Drops a panic's payload. Its destructor is foreign code and may panic again; that payload is dropped likewise, and a
/// third one is leaked.
pub(crate) fn discard<P>(payload: P) {
    let dropped = |payload| panic::catch_unwind(AssertUnwindSafe(|| drop::<Box<dyn Any + Send>>(payload)));
    if let Err(first) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload)))
        && let Err(second) = dropped(first)
    {
        mem::forget(second);
    }
}
