//! Task-locals (asyncio's `contextvars`).

use std::{any::Any, fmt, marker::PhantomData, rc::Rc};

use crate::event_loop::current;

/// A `static` variable with a value per task (asyncio `ContextVar`).
///
/// A task inherits its creator's values at its creation; later changes are not shared. Values set in one `Runner::run`
/// are still there in the next one.
///
/// ```
/// use corio_runtime::TaskLocal;
/// static REQUEST: TaskLocal<u32> = TaskLocal::new();
///
/// corio_runtime::run(async {
///     REQUEST.set(1);
///     let child = corio_runtime::create_task(async {
///         assert_eq!(REQUEST.get(), Some(1));
///         REQUEST.set(2);
///     });
///     child.await.unwrap();
///     assert_eq!(REQUEST.get(), Some(1));
/// });
/// ```
pub struct TaskLocal<T: 'static> {
    // Not zero-sized, so each static has an address of its own.
    _place: u8,
    _value: PhantomData<fn() -> T>,
}

impl<T: 'static> TaskLocal<T> {
    /// A variable without a value.
    ///
    /// ```
    /// static USER: corio_runtime::TaskLocal<String> = corio_runtime::TaskLocal::new();
    /// corio_runtime::run(async { assert_eq!(USER.get(), None) });
    /// ```
    pub const fn new() -> TaskLocal<T> {
        TaskLocal { _place: 0, _value: PhantomData }
    }

    /// Sets the running task's value.
    ///
    /// ```
    /// static USER: corio_runtime::TaskLocal<&str> = corio_runtime::TaskLocal::new();
    /// corio_runtime::run(async {
    ///     USER.set("ann");
    ///     assert_eq!(USER.get(), Some("ann"));
    /// });
    /// ```
    ///
    /// # Panics
    /// Outside a running loop.
    pub fn set(&'static self, value: T) {
        let (key, value) = (self.key(), Rc::new(value) as Rc<dyn Any>);
        // Dropped after the borrow.
        let _old = current::with(|lp| {
            lp.tasks.with_locals(|locals| {
                let locals = Rc::make_mut(locals.get_or_insert_default());
                match locals.iter_mut().find(|(known, _)| *known == key) {
                    Some((_, place)) => Some(std::mem::replace(place, value)),
                    None => {
                        locals.push((key, value));
                        None
                    }
                }
            })
        });
    }

    /// A clone of the running task's value; `None` without one, or outside a running loop.
    ///
    /// ```
    /// static USER: corio_runtime::TaskLocal<&str> = corio_runtime::TaskLocal::new();
    /// assert_eq!(USER.get(), None);
    /// corio_runtime::run(async {
    ///     USER.set("ann");
    ///     let child = corio_runtime::create_task(async { USER.get() });
    ///     assert_eq!(child.await.unwrap(), Some("ann"));
    /// });
    /// ```
    pub fn get(&'static self) -> Option<T>
    where
        T: Clone,
    {
        self.with(T::clone)
    }

    /// Calls `f` with the running task's value, if it has one.
    ///
    /// ```
    /// static USER: corio_runtime::TaskLocal<String> = corio_runtime::TaskLocal::new();
    /// corio_runtime::run(async {
    ///     assert_eq!(USER.with(String::len), None);
    ///     USER.set("ann".to_owned());
    ///     assert_eq!(USER.with(String::len), Some(3));
    /// });
    /// ```
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Option<R> {
        let key = self.key();
        let value = current::try_with(|lp| {
            lp.tasks.with_locals(|locals| {
                let found = locals.as_ref()?.iter().find(|(known, _)| *known == key);
                found.map(|(_, value)| Rc::clone(value))
            })
        });
        value.flatten()?.downcast_ref().map(f)
    }

    fn key(&'static self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl<T: 'static> Default for TaskLocal<T> {
    fn default() -> TaskLocal<T> {
        TaskLocal::new()
    }
}

impl<T: fmt::Debug + 'static> fmt::Debug for TaskLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskLocal").finish_non_exhaustive()
    }
}
