//! Two loops that take turns on one thread: calls on a handle act on its own loop, whichever loop runs, and never on
//! the other one.

mod common;

use std::{
    cell::{Cell, RefCell},
    future::{Future, pending, poll_fn},
    io::Write,
    pin::Pin,
    rc::Rc,
    task::Poll,
};

use common::{OnDrop, ms, pair, recv, until};
use corio_runtime::{
    ReturnWhen, Runner, TaskGroup, all_tasks, as_completed, call_later, call_soon, create_future,
    create_task, gather, handle, metrics, op, scope, shield,
    signals::{SignalKind, signal},
    task_group,
    time::{interval, sleep, timeout, timeout_scope},
    wait, with_cleanup, yield_now,
};
use nix::sys::signal::{Signal, raise};

type Thing = Pin<Box<dyn Future<Output = ()>>>;

/// Operations, tasks and timers of a loop at rest.
fn numbers(runner: &mut Runner) -> (usize, usize, usize) {
    runner.run(sleep(ms(2)));
    runner.enter(|| {
        let now = metrics();
        (now.operations, now.tasks, now.timers)
    })
}

const LONG: std::time::Duration = std::time::Duration::from_secs(600);

/// What a loop's handles and futures are, each with something of its loop once it was polled.
type Make = fn() -> Thing;
type Named = (&'static str, Make);

const THINGS: [Named; 15] = [
    ("Sleep", || Box::pin(sleep(LONG))),
    ("Op", || {
        let (fd, theirs) = pair();
        Box::pin(async move {
            let _open = theirs;
            let _ = op::submit(recv(&fd, 1)).await;
        })
    }),
    ("Signal", || {
        Box::pin(async {
            let mut signal = signal(SignalKind::USER_DEFINED2).unwrap();
            signal.recv().await;
        })
    }),
    ("OwnedTask", || {
        let task = create_task(pending::<()>()).cancel_on_drop();
        Box::pin(async { drop(task.await) })
    }),
    ("task_group", || {
        Box::pin(async {
            let group = task_group::<(), ()>(async |group| {
                drop(group.create_task(sleep_for_ever()));
                drop(group.create_task(sleep_for_ever()));
                Ok(())
            });
            let _ = group.await;
        })
    }),
    ("TimerHandle", || {
        let timer = CancelTimer(call_later(LONG, || ()));
        Box::pin(async move {
            let _timer = timer;
            pending().await
        })
    }),
    ("timeout", || Box::pin(async { assert!(timeout(LONG, pending::<()>()).await.is_err()) })),
    ("timeout_scope", || {
        Box::pin(async { assert!(timeout_scope(LONG, async |_| pending::<()>().await).await.is_err()) })
    }),
    ("interval", || {
        Box::pin(async {
            let mut ticks = interval(LONG);
            loop {
                ticks.tick().await;
            }
        })
    }),
    ("gather", || Box::pin(async { drop(gather([sleep(LONG), sleep(LONG)]).await) })),
    ("as_completed", || {
        Box::pin(async {
            as_completed([sleep(LONG)]).next().await;
        })
    }),
    ("scope", || {
        Box::pin(scope(async |scope| {
            scope.spawn(sleep(LONG));
        }))
    }),
    ("shield", || {
        let inner = create_task(pending::<()>());
        let cancel = CancelTask(inner.cancel_handle());
        Box::pin(async move {
            let _cancel = cancel;
            let _ = shield(inner).await;
        })
    }),
    ("wait", || {
        let task = create_task(pending::<()>());
        let cancel = CancelTask(task.cancel_handle());
        Box::pin(async move {
            let _cancel = cancel;
            wait(vec![task], ReturnWhen::AllCompleted, Some(LONG)).await;
        })
    }),
    ("with_cleanup", || Box::pin(with_cleanup(sleep(LONG), || async { yield_now().await }))),
];

async fn sleep_for_ever() -> Result<(), ()> {
    sleep(LONG).await;
    Ok(())
}

struct CancelTimer(corio_runtime::TimerHandle);

impl Drop for CancelTimer {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

struct CancelTask(corio_runtime::CancelHandle);

impl Drop for CancelTask {
    fn drop(&mut self) {
        assert!(self.0.cancel());
    }
}

/// Polls `thing` once, which is pending.
async fn waits(thing: &mut Thing) {
    poll_fn(|cx| {
        assert!(thing.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

/// Makes a thing on a loop, and polls it there.
fn made(runner: &mut Runner, make: Make) -> Thing {
    let mut thing = runner.enter(make);
    runner.run(async {
        for _ in 0..3 {
            waits(&mut thing).await;
            yield_now().await;
        }
    });
    thing
}

#[test]
fn a_drop_acts_on_its_own_loop_whichever_runs() {
    for (name, make) in THINGS {
        // Where: inside the other loop's run, inside its own, or outside of any.
        for place in 0..3 {
            let (mut a, mut b) = (Runner::new().unwrap(), Runner::new().unwrap());
            let (a0, b0) = (numbers(&mut a), numbers(&mut b));
            // In the same slots of both.
            let (of_a, of_b) = (made(&mut a, make), made(&mut b, make));
            let (a1, b1) = (numbers(&mut a), numbers(&mut b));
            assert!(a1 > a0 && b1 > b0, "{name} has nothing of its loop");
            match place {
                0 => b.run(async { drop(of_a) }),
                1 => a.run(async { drop(of_a) }),
                _ => drop(of_a),
            }
            assert_eq!((numbers(&mut a), numbers(&mut b)), (a0, b1), "{name}, place {place}");
            match place {
                0 => a.run(async { drop(of_b) }),
                1 => b.run(async { drop(of_b) }),
                _ => drop(of_b),
            }
            assert_eq!((numbers(&mut a), numbers(&mut b)), (a0, b0), "{name}, place {place}");
        }
    }
}

#[test]
fn a_drop_amid_the_steps_of_both_loops_acts_on_its_own() {
    for (name, make) in THINGS {
        let (mut a, mut b) = (Runner::new().unwrap(), Runner::new().unwrap());
        let (a0, b0) = (numbers(&mut a), numbers(&mut b));
        let (of_a, of_b) = (made(&mut a, make), made(&mut b, make));
        let b1 = numbers(&mut b);
        // B makes a turn inside a step of A, and in that turn A's thing is dropped.
        let mut b = a.run(async move {
            drop(b.enter(|| create_task(async { drop(of_a) })));
            for _ in 0..3 {
                b.turn(Some(std::time::Duration::ZERO)).unwrap();
                yield_now().await;
            }
            b
        });
        assert_eq!((numbers(&mut a), numbers(&mut b)), (a0, b1), "{name}");
        a.run(async { drop(of_b) });
        assert_eq!(numbers(&mut b), b0, "{name}");
    }
}

#[test]
fn a_signal_dropped_beside_another_loop_cancels_nothing_of_it() {
    let (mut a, mut b) = (Runner::new().unwrap(), Runner::new().unwrap());
    let of_a = a.run(async { signal(SignalKind::USER_DEFINED1).unwrap() });
    b.run(async {
        let mut of_b = signal(SignalKind::USER_DEFINED1).unwrap();
        drop(of_a);
        let (fd, mut theirs) = pair();
        let receiving = create_task(op::submit(recv(&fd, 1)));
        yield_now().await;
        theirs.write_all(b"x").unwrap();
        assert_eq!(receiving.await.unwrap().unwrap(), b"x");
        raise(Signal::SIGUSR1).unwrap();
        of_b.recv().await;
    });
}

/// A group of `a` whose body waits for ever, and who drops it.
fn group(a: &mut Runner, children: Rc<Cell<u32>>) -> (TaskGroup<()>, Thing) {
    let place = Rc::new(RefCell::new(None));
    let theirs = place.clone();
    let mut future: Thing = Box::pin(async move {
        let ended = task_group::<(), ()>(async |group| {
            let child = OnDrop(children);
            drop(group.create_task(async move {
                let _child = child;
                pending::<Result<(), ()>>().await
            }));
            *theirs.borrow_mut() = Some(group.clone());
            pending().await
        });
        let _ = ended.await;
    });
    a.run(async {
        waits(&mut future).await;
        yield_now().await;
    });
    (place.take().unwrap(), future)
}

#[test]
fn a_group_is_its_own_loops_whichever_runs() {
    let (mut a, mut b) = (Runner::new().unwrap(), Runner::new().unwrap());
    let home = a.handle().number();
    let dropped = Rc::new(Cell::new(0));
    let (group_of_a, future) = group(&mut a, dropped.clone());
    let ran_on = Rc::new(Cell::new(None));
    let seen = ran_on.clone();
    b.run(async {
        // In the slots that the children have on the other loop.
        let neighbours: Vec<_> = (0..4).map(|_| create_task(pending::<()>())).collect();
        let before = all_tasks().len();
        let task = group_of_a.create_task(async move {
            seen.set(Some(handle().number()));
            Ok(7)
        });
        assert_eq!(all_tasks().len(), before, "it is a task of its group's loop");
        drop(task);
        yield_now().await;
        assert!(neighbours.iter().all(|task| !task.done()));
        drop(future);
        assert_eq!(dropped.get(), 1, "the children are dropped at once");
        yield_now().await;
        assert!(neighbours.iter().all(|task| !task.done()), "and nobody else's");
    });
    a.run(sleep(ms(1)));
    assert_eq!((ran_on.get(), a.enter(all_tasks).len()), (None, 0));
    // One that is not dropped runs there, with what it is given while the other loop runs.
    let (group_of_a, future) = group(&mut a, dropped.clone());
    let seen = ran_on.clone();
    b.run(async {
        drop(group_of_a.create_task(async move {
            seen.set(Some(handle().number()));
            Ok(())
        }));
    });
    a.run(sleep(ms(1)));
    assert_eq!(ran_on.get(), Some(home));
    b.run(async { group_of_a.cancel() });
    a.run(sleep(ms(1)));
    assert_eq!(dropped.get(), 2);
    drop(future);
}

#[test]
fn a_cleanup_runs_on_the_loop_of_what_it_cleans_up() {
    let (mut a, mut b) = (Runner::new().unwrap(), Runner::new().unwrap());
    let cleaned = Rc::new(Cell::new(None));
    let noted = cleaned.clone();
    let mut future: Thing = Box::pin(with_cleanup(pending(), move || async move {
        sleep(ms(1)).await;
        noted.set(Some(handle().number()));
    }));
    a.run(waits(&mut future));
    b.run(async { drop(future) });
    assert_eq!(cleaned.get(), None);
    a.run(until(|| cleaned.get().is_some()));
    assert_eq!(cleaned.get(), Some(a.handle().number()));
    b.run(yield_now());
}

#[test]
fn callbacks_of_a_future_are_called_on_the_loop_that_added_them() {
    let (mut a, mut b) = (Runner::new().unwrap(), Runner::new().unwrap());
    let called = Rc::new(Cell::new(None));
    let noted = called.clone();
    let (resolver, future) = a.run(async move {
        let (resolver, future) = create_future();
        future.add_done_callback(move || noted.set(Some(handle().number())));
        (resolver, future)
    });
    b.run(async {
        resolver.set_result(1).unwrap();
        yield_now().await;
    });
    assert_eq!(called.get(), None);
    assert_eq!(a.run(future), Ok(1));
    a.run(yield_now());
    assert_eq!(called.get(), Some(a.handle().number()));
}

#[test]
fn cancels_reach_their_own_loop_whichever_runs() {
    let (mut a, mut b) = (Runner::new().unwrap(), Runner::new().unwrap());
    let called = Rc::new(Cell::new(0));
    let [soon, later] = [called.clone(), called.clone()];
    let (task, soon, later) = a.run(async move {
        let task = create_task(pending::<()>());
        yield_now().await;
        (task, call_soon(move || soon.set(1)), call_later(ms(1), move || later.set(2)))
    });
    b.run(async {
        let (neighbour, timer) = (create_task(sleep(ms(5))), create_task(sleep(ms(5))));
        assert!(task.cancel_handle().cancel());
        soon.cancel();
        later.cancel();
        neighbour.await.unwrap();
        timer.await.unwrap();
    });
    a.run(async {
        sleep(ms(3)).await;
        assert!(task.cancelled());
    });
    assert_eq!(called.get(), 0);
}
