//! Who waits for the cleanups of what is polled or dropped.

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
