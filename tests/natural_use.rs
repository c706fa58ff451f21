//! Code as one writes it without a second thought compiles without a warning, also of clippy.
#![deny(warnings, clippy::all)]

use std::{cell::RefCell, rc::Rc, time::Duration};

#[test]
fn tasks_of_a_group_timers_callbacks_and_children_of_a_scope_need_no_let() {
    let sum = corio::run(async {
        let sum = Rc::new(RefCell::new(0));
        let add = |n: u32| {
            let sum = sum.clone();
            move || *sum.borrow_mut() += n
        };
        corio::event_loop::call_soon(add(1));
        corio::event_loop::call_later(Duration::from_millis(1), add(10));
        let grouped = corio::task_group(async |group| {
            for n in [100, 1000] {
                let add = add(n);
                group.create_task(async move {
                    corio::sleep(Duration::from_millis(5)).await;
                    add();
                    std::io::Result::Ok(())
                });
            }
            Ok(())
        });
        grouped.await?;
        corio::task::scope(async |scope| {
            scope.spawn(async { add(10_000)() });
        })
        .await;
        let value = *sum.borrow();
        std::io::Result::Ok(value)
    });
    assert_eq!(sum.unwrap(), 11_111);
}

#[test]
fn a_lock_is_held_across_an_await() {
    corio::run(async {
        let lock = corio::Lock::new(0);
        let mut guard = lock.acquire().await;
        corio::yield_now().await;
        *guard += 1;
        drop(guard);
        assert_eq!(*lock.acquire().await, 1);
    });
}
