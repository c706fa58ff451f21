//! The interface of a task group that awaits cleanups.

use std::{future::Future, panic::Location, pin::Pin, rc::Rc};

/// Awaits the cleanups of its tasks.
pub(crate) trait CleanupScope {
    /// Runs `cleanup` as a task of its own, and does not cancel it.
    fn adopt(
        self: Rc<Self>,
        cleanup: Pin<Box<dyn Future<Output = ()>>>,
        location: &'static Location<'static>,
    );
}
