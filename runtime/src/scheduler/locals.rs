//! The task-locals of a task.

use std::{any::Any, rc::Rc};

/// The values of one task. A child shares its parent's until either of them changes a value.
pub(crate) type Locals = Rc<Vec<(usize, Rc<dyn Any>)>>;
