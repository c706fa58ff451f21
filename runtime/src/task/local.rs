//! Task-locals (asyncio's `contextvars`).

use std::{any::Any, fmt, marker::PhantomData, rc::Rc};

use crate::{
    event_loop::current,
    scheduler::locals::{Carry, Local},
    task::carried,
};

/// A `static` variable with a value per task (asyncio `ContextVar`).
///
/// A task inherits its creator's values at its creation; later changes are not shared. Values set in one `Runner::run`
/// are still there in the next one. [`TaskLocal::propagated`] declares one that the function of
/// [`to_thread`](crate::to_thread) can read, too.
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
    // It also gives each static an address of its own.
    carry: Option<Carry>,
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
        TaskLocal { carry: None, _value: PhantomData }
    }

    /// A variable without a value, whose values follow into threads: the function of [`to_thread`](crate::to_thread)
    /// reads a clone of the caller's value. For request ids, tracing spans and the like.
    ///
    /// ```
    /// use corio_runtime::{TaskLocal, run, to_thread};
    /// static REQUEST: TaskLocal<u64> = TaskLocal::propagated();
    /// static LOCAL: TaskLocal<u64> = TaskLocal::new();
    /// run(async {
    ///     REQUEST.set(7);
    ///     LOCAL.set(8);
    ///     assert_eq!(to_thread(|| (REQUEST.get(), LOCAL.get())).await, (Some(7), None));
    /// });
    /// ```
    pub const fn propagated() -> TaskLocal<T>
    where
        T: Clone + Send,
    {
        TaskLocal { carry: Some(copy::<T>), _value: PhantomData }
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
        let local = Local { key: self.key(), value: Rc::new(value), carry: self.carry };
        // Dropped after the borrow.
        let _old = current::with(|lp| {
            lp.tasks.with_locals(|locals| {
                let locals = Rc::make_mut(locals.get_or_insert_default());
                match locals.iter_mut().find(|known| known.key == local.key) {
                    Some(place) => Some(std::mem::replace(place, local)),
                    None => {
                        locals.push(local);
                        None
                    }
                }
            })
        });
    }

    /// A clone of the running task's value; `None` without one, or outside a running loop. (In the function of
    /// [`to_thread`](crate::to_thread): see [`propagated`](TaskLocal::propagated).)
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
                let found = locals.as_ref()?.iter().find(|known| known.key == key);
                found.map(|local| Rc::clone(&local.value))
            })
        });
        value.unwrap_or_else(|| carried::find(key))?.downcast_ref().map(f)
    }

    fn key(&'static self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

fn copy<T: Clone + Send + 'static>(value: &dyn Any) -> Option<Box<dyn Any + Send>> {
    Some(Box::new(value.downcast_ref::<T>()?.clone()))
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
