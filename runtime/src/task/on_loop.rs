//! `OnLoop`: a name that may go anywhere, of a value that stays on its loop.

use std::{fmt, marker::PhantomData, rc::Rc};

use crate::{
    event_loop::current,
    scheduler::{homed::Homed, values::ValueKey},
};

/// Names a value that lives on its loop. The name is `Copy`, `Send` and `Sync` whatever the value is, so that what asks
/// for such state, as axum's `State` does, can hold locks, queues and task groups of one core. No lock and no `unsafe`:
/// the name is two numbers, and only its loop looks the value up.
///
/// The value is dropped at the end of the loop, once all tasks are, or by [`remove`](OnLoop::remove); dropping names
/// has no effect. For a future that is to be `Send` there is [`on_loop`](crate::on_loop()).
///
/// ```
/// use corio_runtime::{OnLoop, run};
/// use std::{cell::Cell, rc::Rc};
/// run(async {
///     let count = OnLoop::new(Rc::new(Cell::new(0)));
///     // A closure that has to be `Send`, and is called on this loop.
///     let handler: Box<dyn Fn() + Send + Sync> = Box::new(move || count.with(|count| count.set(count.get() + 1)));
///     handler();
///     handler();
///     assert_eq!(count.get().get(), 2);
/// });
/// ```
///
/// # Panics
/// Each method on another loop, on none, and once the loop has ended: "attached to a different loop".
pub struct OnLoop<T> {
    key: Homed<ValueKey>,
    _value: PhantomData<fn() -> T>,
}

impl<T: 'static> OnLoop<T> {
    /// Gives `value` to the running loop.
    ///
    /// # Panics
    /// Outside a running loop: "no running event loop".
    #[track_caller]
    pub fn new(value: T) -> OnLoop<T> {
        let key = current::with(|lp| lp.homed(lp.values.insert(Rc::new(value))));
        OnLoop { key, _value: PhantomData }
    }

    /// Calls `f` with the value.
    ///
    /// ```
    /// use corio_runtime::{OnLoop, run};
    /// let name = run(async {
    ///     let name = OnLoop::new(String::from("Ada"));
    ///     assert_eq!(name.with(|name| name.len()), 3);
    ///     name
    /// });
    /// let elsewhere = std::panic::catch_unwind(|| run(async { name.with(|name| name.len()) }));
    /// assert!(elsewhere.unwrap_err().downcast_ref::<&str>().unwrap().contains("attached to a different loop"));
    /// ```
    ///
    /// # Panics
    /// Away from its loop, and if the value was removed.
    #[track_caller]
    pub fn with<R>(self, f: impl FnOnce(&T) -> R) -> R {
        match self
            .here(self.key.here(|lp, key| lp.values.get(key)))
            .and_then(|value| value.downcast::<T>().ok())
        {
            Some(value) => f(&value),
            None => panic!("the value of this OnLoop was removed"),
        }
    }

    /// A clone of the value, such as an `Rc`, to be kept over an `.await`.
    ///
    /// # Panics
    /// As [`with`](OnLoop::with).
    #[track_caller]
    pub fn get(self) -> T
    where
        T: Clone,
    {
        self.with(T::clone)
    }

    /// Takes the value from the loop; `None` if that was done before, or if a [`with`](OnLoop::with) around this call
    /// uses it, which leaves it there.
    ///
    /// ```
    /// use corio_runtime::{OnLoop, run};
    /// run(async {
    ///     let name = OnLoop::new(String::from("Ada"));
    ///     assert!(name.with(|_| name.remove()).is_none());
    ///     assert_eq!(name.remove().as_deref(), Some("Ada"));
    ///     assert_eq!(name.remove(), None);
    /// });
    /// ```
    ///
    /// # Panics
    /// Away from its loop.
    #[track_caller]
    pub fn remove(self) -> Option<T> {
        let value = self.here(self.key.here(|lp, key| lp.values.remove(key)))?;
        Rc::into_inner(value.downcast::<T>().ok()?)
    }

    /// What was found `here`, on the running loop.
    #[track_caller]
    fn here<V>(self, here: Option<V>) -> V {
        match here {
            Some(found) => found,
            None => panic!("an OnLoop is attached to a different loop: use it on the loop that made it"),
        }
    }
}

impl<T> Clone for OnLoop<T> {
    fn clone(&self) -> OnLoop<T> {
        *self
    }
}

impl<T> Copy for OnLoop<T> {}

impl<T> fmt::Debug for OnLoop<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnLoop").field("loop", &self.key.home().number()).finish_non_exhaustive()
    }
}
