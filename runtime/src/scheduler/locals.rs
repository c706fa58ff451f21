//! The task-locals of a task.

use std::{any::Any, rc::Rc};

/// The values of one task. A child shares its parent's until either of them changes a value.
pub(crate) type Locals = Rc<Vec<Local>>;

/// Copies a value for another thread.
pub(crate) type Carry = fn(&dyn Any) -> Option<Box<dyn Any + Send>>;

/// The value of one variable, whose address is its key.
#[derive(Clone)]
pub(crate) struct Local {
    pub(crate) key: usize,
    pub(crate) value: Rc<dyn Any>,
    /// `None` if it stays on its thread.
    pub(crate) carry: Option<Carry>,
}
