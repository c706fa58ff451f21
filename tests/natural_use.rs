//! Code as a user would naturally write it compiles without a warning, also of clippy.
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

fn is_send<T: Send>(value: T) -> T {
    value
}

/// What the README says of futures that must be `Send`.
#[test]
fn handles_and_the_futures_of_their_methods_are_send_and_what_is_not_goes_into_a_task() {
    corio::run(is_send(async {
        let server = corio::start_server("127.0.0.1:0", |mut reader, mut writer| {
            is_send(async move {
                let line = reader.readline().await?;
                writer.write_all(line).await?;
                writer.drain().await?;
                writer.close();
                writer.wait_closed().await
            })
        });
        let server = server.await?;
        let (mut reader, mut writer) = is_send(corio::open_connection(server.local_addr()?)).await?;
        is_send(writer.write_all("line\n")).await?;
        assert_eq!(is_send(reader.read_to_end()).await?, b"line\n");
        is_send(server.shutdown(Duration::from_secs(5))).await;
        is_send(server.wait_closed()).await;
        assert!(is_send(server.serve_forever()).await.is_err());

        let not_send = is_send(async {
            let future = async {
                let shared = Rc::new(RefCell::new(1));
                corio::yield_now().await;
                shared.replace(2)
            };
            corio::create_task(future).cancel_on_drop().await
        });
        assert_eq!(not_send.await.unwrap(), 1);
        let task = is_send(corio::create_task(async { Rc::new(3) }));
        assert_eq!(*task.await.unwrap(), 3);
        is_send(corio::sleep(Duration::ZERO)).await;
        is_send(corio::timeout(Duration::from_secs(1), corio::to_thread(|| ()))).await.unwrap();
        std::io::Result::Ok(())
    }))
    .unwrap();
}
