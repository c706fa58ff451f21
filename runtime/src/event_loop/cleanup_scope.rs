//! The scope that awaits cleanups, as the loop sees it: a task group.

use std::{future::Future, panic::Location, pin::Pin, rc::Rc};

/// One that waits for the cleanups of the tasks in it.
pub(crate) trait CleanupScope {
    /// Runs `cleanup` as one of its own tasks, which is not cancelled.
    fn adopt(
        self: Rc<Self>,
        cleanup: Pin<Box<dyn Future<Output = ()>>>,
        location: &'static Location<'static>,
    );
}
