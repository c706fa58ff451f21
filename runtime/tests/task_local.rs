//! Task-locals, as asyncio's context variables.

mod common;

use std::{cell::RefCell, rc::Rc};

use common::on_every;
use corio_runtime::{Runner, TaskLocal, create_eager_task, create_task, gather, yield_now};

static VALUE: TaskLocal<u32> = TaskLocal::new();
static OTHER: TaskLocal<u32> = TaskLocal::new();

#[test]
fn task_45_a_child_has_a_copy_of_what_its_creator_had() {
    on_every(async || {
        VALUE.set(1);
        let child = create_task(async {
            assert_eq!(VALUE.get(), Some(1));
            VALUE.set(2);
            yield_now().await;
            assert_eq!((VALUE.get(), OTHER.get()), (Some(2), None));
        });
        VALUE.set(3);
        child.await.unwrap();
        assert_eq!(VALUE.get(), Some(3));
    });
}

#[test]
fn task_46_a_hundred_tasks_never_see_each_others_values() {
    on_every(async || {
        let tasks = (0..100).map(|n| {
            create_task(async move {
                VALUE.set(1000);
                VALUE.set(n);
                for turn in 0..10 {
                    if (n + turn) % 3 == 0 {
                        yield_now().await;
                    }
                    assert_eq!(VALUE.get(), Some(n));
                }
            })
        });
        gather(tasks.collect::<Vec<_>>()).await.into_iter().for_each(Result::unwrap);
        assert_eq!(VALUE.get(), None);
    });
}

#[test]
fn eag_09_an_eager_step_has_a_copy_too() {
    on_every(async || {
        VALUE.set(1);
        let eager = create_eager_task(async {
            assert_eq!(VALUE.get(), Some(1));
            VALUE.set(2);
        });
        assert_eq!(VALUE.get(), Some(1));
        eager.await.unwrap();
    });
}

#[test]
fn run_16_the_runs_of_a_runner_share_their_values() {
    let mut runner = Runner::new().unwrap();
    runner.run(async { VALUE.set(1) });
    runner.run(async { VALUE.set(VALUE.get().unwrap() + 1) });
    let task = runner.create_task(async { VALUE.get() });
    assert_eq!(runner.run(task).unwrap(), Some(2));
    assert_eq!(VALUE.get(), None, "outside a loop there are none");
    assert_eq!(Runner::new().unwrap().run(async { VALUE.get() }), None, "another loop has its own");
}

#[test]
fn values_are_dropped_with_the_last_task_that_has_them_outside_of_any_borrow() {
    struct Curious(Rc<RefCell<Vec<usize>>>);
    impl Drop for Curious {
        fn drop(&mut self) {
            self.0.borrow_mut().push(corio_runtime::all_tasks().len());
        }
    }
    static CURIOUS: TaskLocal<Curious> = TaskLocal::new();
    let drops = Rc::new(RefCell::new(Vec::new()));
    let theirs = drops.clone();
    corio_runtime::run(async move {
        for joined in [true, false] {
            let value = Curious(theirs.clone());
            let task = create_task(async move {
                CURIOUS.set(value);
            });
            if joined {
                task.await.unwrap();
            } else {
                drop(task);
                yield_now().await;
                yield_now().await;
            }
        }
        assert_eq!(theirs.borrow().len(), 2);
        CURIOUS.set(Curious(theirs.clone()));
        CURIOUS.set(Curious(theirs.clone()));
        assert_eq!(theirs.borrow().len(), 3);
    });
    assert_eq!(drops.borrow().len(), 4);
}
