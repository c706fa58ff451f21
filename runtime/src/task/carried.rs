//! Values of task-locals on another thread, for the function of `to_thread`.

use std::{any::Any, cell::RefCell, mem, rc::Rc};

use crate::{event_loop::current, scheduler::locals::Local};

thread_local! {
    /// Of the function that runs on this thread, by key.
    static HERE: RefCell<Vec<(usize, Rc<dyn Any>)>> = const { RefCell::new(Vec::new()) };
}

/// Copies of the running task's values.
pub(crate) struct Carried(Vec<(usize, Box<dyn Any + Send>)>);

impl Carried {
    /// Of all variables that are declared so.
    pub(crate) fn take() -> Carried {
        // The values' `clone` is foreign code: it runs while nothing is borrowed.
        let locals = current::try_with(|lp| lp.tasks.with_locals(|locals| locals.clone())).flatten();
        let copy = |local: &Local| Some((local.key, local.carry?(&*local.value)?));
        Carried(locals.iter().flat_map(|locals| locals.iter()).filter_map(copy).collect())
    }

    /// Makes the values visible on this thread until the guard is dropped.
    pub(crate) fn enter(self) -> Visible {
        let values = self.0.into_iter().map(|(key, value)| (key, Rc::from(value as Box<dyn Any>)));
        Visible(HERE.replace(values.collect()))
    }
}

/// See [`Carried::enter`]. Holds what was visible before.
pub(crate) struct Visible(Vec<(usize, Rc<dyn Any>)>);

impl Drop for Visible {
    fn drop(&mut self) {
        let values = HERE.replace(mem::take(&mut self.0));
        drop(values);
    }
}

/// A value that was carried to this thread.
pub(crate) fn find(key: usize) -> Option<Rc<dyn Any>> {
    let find = |here: &RefCell<Vec<(usize, Rc<dyn Any>)>>| {
        here.borrow().iter().find(|(known, _)| *known == key).map(|(_, value)| Rc::clone(value))
    };
    // The thread may be ending, with its thread-local gone.
    HERE.try_with(find).ok().flatten()
}
