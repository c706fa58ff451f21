//! Children of a group whose first step runs at once.

use std::{future::Future, panic::Location, rc::Rc};

use super::{Child, Member, Phase, TaskGroup};
use crate::{event_loop::current::no_main, scheduler::any_task::Fallible, task::Task};

impl<E: 'static> TaskGroup<E> {
    /// As [`TaskGroup::create_task`], but the first step runs at once, inside this call, as that of
    /// [`create_eager_task`](crate::create_eager_task). A child that never suspends is done without a turn of the
    /// loop; so is a group of such children.
    ///
    /// ```
    /// use corio_runtime::{create_task, run, task_group};
    /// run(async {
    ///     let other = create_task(async {});
    ///     let sum = task_group::<u32, ()>(async |group| {
    ///         let child = group.create_eager_task(async { Ok(1) });
    ///         assert!(child.done());
    ///         Ok(child.await.unwrap() + 1)
    ///     });
    ///     assert_eq!(sum.await.unwrap(), 2);
    ///     assert!(!other.done(), "no turn was needed");
    /// });
    /// ```
    #[track_caller]
    pub fn create_eager_task<T: 'static>(
        &self,
        future: impl Future<Output = Result<T, E>> + 'static,
    ) -> Task<T> {
        if self.inner.phase.get() != Phase::Open {
            return self.create_task(future);
        }
        let location = Location::caller();
        let place = self.inner.children.borrow_mut().insert(None).slot;
        let child = Child { future: Some(future), member: Member { group: Rc::clone(&self.inner), place } };
        self.inner.on_loop(|lp| {
            let (key, id) = lp.tasks.create_eager::<Fallible, _>(child, location);
            let task = Task::new(lp.homed(key), id);
            self.inner.children.borrow_mut()[place as usize].set(Some(lp.homed(key)));
            lp.tasks.apart(|| lp.step_task(key.slot, &mut no_main));
            task
        })
    }
}
