//! A loop driven from outside: by a bare `poll`, `epoll`, tokio, another corio loop. No wake is lost, and none repeats
//! for ever.

mod common;

use std::{
    cell::Cell,
    io::Write,
    os::fd::{AsFd, AsRawFd},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use common::{FewDescriptors, Log, in_own_process, pair, recv};
use corio_runtime::{
    Backend, Runner, call_later, call_soon, create_task, handle,
    op::submit,
    run, run_coroutine_threadsafe, set_exception_handler,
    time::{Duration, sleep},
    yield_now,
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};

/// How long the host sleeps: rounded up to its milliseconds.
fn wait_ms(runner: &Runner) -> Option<i32> {
    let at = runner.next_deadline()?;
    let left = at.saturating_duration_since(Instant::now());
    Some(if left.is_zero() { 0 } else { left.as_millis() as i32 + 1 })
}

/// Sleeps in `poll(2)` until the loop wants a turn.
fn wait_by_poll(runner: &Runner) {
    let timeout = wait_ms(runner).map_or(PollTimeout::NONE, |ms| PollTimeout::try_from(ms).unwrap());
    poll(&mut [PollFd::new(runner.as_fd(), PollFlags::POLLIN)], timeout).unwrap();
}

/// Drives `runner` by `wait` until `done`; how many turns that took.
fn drive(runner: &mut Runner, wait: impl Fn(&Runner), done: impl Fn() -> bool) -> usize {
    let mut turns = 0;
    while !done() {
        wait(runner);
        runner.turn(Some(Duration::ZERO)).unwrap();
        turns += 1;
    }
    turns
}

/// What a loop does: timers, kernel work, callbacks, work from other threads.
async fn life() -> u32 {
    sleep(Duration::from_millis(3)).await;
    let (fd, mut peer) = pair();
    let writing = thread::spawn(move || {
        thread::sleep(Duration::from_millis(3));
        peer.write_all(b"12345").unwrap();
    });
    let received = submit(recv(&fd, 16)).await;
    writing.join().unwrap();
    let loop_handle = handle();
    let mut told = Box::pin(corio_runtime::to_thread(move || {
        thread::sleep(Duration::from_millis(3));
        loop_handle.call_soon_threadsafe(|| ()).unwrap();
        7
    }));
    for _ in 0..100 {
        yield_now().await;
    }
    received.unwrap().len() as u32 + told.as_mut().await
}

#[test]
fn loop_30_a_bare_poll_drives_a_loop_through_all_that_it_does() {
    let mut runner = Runner::new().unwrap();
    let mut life = run_coroutine_threadsafe(&runner.handle(), life);
    let ended = || life.done();
    let turns = drive(&mut runner, wait_by_poll, ended);
    assert_eq!(life.result(Some(Duration::ZERO)).unwrap(), 12);
    // A hundred yields, and a few for each event: it does not spin.
    assert!(turns < 200, "{turns}");
    // It still runs by itself, and sleeps right.
    assert_eq!(runner.run(self::life()), 12);
}

#[test]
fn an_edge_triggered_epoll_drives_a_loop() {
    let mut runner = Runner::new().unwrap();
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    epoll.add(runner.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 1)).unwrap();
    let wait = |runner: &Runner| {
        let timeout = wait_ms(runner).map_or(EpollTimeout::NONE, |ms| EpollTimeout::try_from(ms).unwrap());
        epoll.wait(&mut [EpollEvent::empty()], timeout).unwrap();
    };
    let mut life = run_coroutine_threadsafe(&runner.handle(), life);
    drive(&mut runner, wait, || life.done());
    assert_eq!(life.result(Some(Duration::ZERO)).unwrap(), 12);
}

#[test]
fn f2_wakes_of_other_threads_at_any_moment_reach_the_host() {
    let mut runner = Runner::new().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let handle = runner.handle();
    let _fd = runner.as_fd();
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let count = count.clone();
            thread::spawn(move || {
                for n in 0..2_000 {
                    let asked = count.load(Ordering::SeqCst);
                    let counted = count.clone();
                    handle.call_soon_threadsafe(move || _ = counted.fetch_add(1, Ordering::SeqCst)).unwrap();
                    // Now and then the loop falls asleep first.
                    while n % 3 == 0 && count.load(Ordering::SeqCst) == asked {
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    drive(&mut runner, wait_by_poll, || count.load(Ordering::SeqCst) == 4_000);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_turn_says_what_it_did_and_the_deadline_when_it_wants_the_next() {
    let mut runner = Runner::new().unwrap();
    while runner.turn(Some(Duration::ZERO)).unwrap().is_left() {}
    assert_eq!(runner.next_deadline(), None);
    let ran = Rc::new(Cell::new(0));
    let counted = ran.clone();
    runner.enter(|| {
        for _ in 0..3 {
            let ran = counted.clone();
            call_soon(move || ran.set(ran.get() + 1));
        }
        call_later(Duration::from_secs(3600), || ());
    });
    assert!(runner.next_deadline().unwrap() <= Instant::now());
    let turn = runner.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!((turn.ran(), ran.get()), (3, 3));
    let hour = runner.next_deadline().unwrap().duration_since(Instant::now());
    assert!(hour > Duration::from_secs(3000) && hour < Duration::from_secs(3601));
    // It waits itself, if told to: for the timer, or no longer than it may.
    let started = Instant::now();
    runner.turn(Some(Duration::from_millis(20))).unwrap();
    assert!(started.elapsed() >= Duration::from_millis(20));
    let task = runner.create_task(async { 5 });
    assert_eq!(runner.turn(None).unwrap().ran(), 1);
    assert!(runner.enter(|| task.done()));
    assert_eq!(runner.run(task).unwrap(), 5);
}

#[test]
fn a_turn_of_one_loop_inside_another() {
    let mut inner = Runner::new().unwrap();
    let inner_handle = inner.handle();
    let value = run(async move {
        let outer = handle();
        let mut asked = run_coroutine_threadsafe(&inner_handle, || async {
            sleep(Duration::from_millis(2)).await;
            handle()
        });
        while !asked.done() {
            inner.turn(Some(Duration::ZERO)).unwrap();
            assert_eq!(handle(), outer);
            sleep(Duration::from_micros(200)).await;
        }
        let there = asked.result(Some(Duration::ZERO)).unwrap();
        assert!(there == inner_handle && there != outer);
        // And streams, timers, tasks of this one go on.
        create_task(async { 3 }).await.unwrap()
    });
    assert_eq!(value, 3);
}

#[test]
fn a_panic_in_a_turn_stays_with_its_task() {
    let mut runner = Runner::new().unwrap();
    let task = runner.create_task(async { panic!("inside") });
    let fine = runner.create_task(async { 1 });
    runner.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(runner.run(fine).unwrap(), 1);
    assert!(runner.run(task).unwrap_err().to_string().contains("inside"));
}

fn is_readable(runner: &Runner) -> bool {
    poll(&mut [PollFd::new(runner.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1
}

#[test]
fn what_was_complete_before_the_loop_was_embedded_is_signalled() {
    let mut runner = Runner::new().unwrap();
    let (fd, mut peer) = pair();
    let received = runner.create_task(async move { submit(recv(&fd, 16)).await.unwrap() });
    runner.turn(Some(Duration::ZERO)).unwrap();
    peer.write_all(b"12345").unwrap();
    // A host that only waits for the descriptor.
    assert!(is_readable(&runner));
    for _ in 0..3 {
        runner.turn(Some(Duration::ZERO)).unwrap();
    }
    assert!(runner.enter(|| received.done()));
    assert!(!is_readable(&runner), "a turn empties it");
}

#[test]
fn a_loop_that_could_not_be_embedded_for_want_of_descriptors_can_be_later() {
    if !in_own_process("a_loop_that_could_not_be_embedded_for_want_of_descriptors_can_be_later") {
        return;
    }
    let runner = Runner::new().unwrap();
    let embed = || catch_unwind(AssertUnwindSafe(|| _ = runner.as_fd()));
    let next = std::fs::File::open("/dev/null").unwrap().as_raw_fd() as u64;
    // On io_uring two, on epoll a duplicate.
    let needed = if runner.backend().backend() == Backend::Epoll { 1 } else { 2 };
    for there_are in 0..needed {
        let few = FewDescriptors::at_most(next + there_are);
        assert!(embed().is_err());
        drop(few);
    }
    embed().expect("there are descriptors again");
}

#[test]
fn what_the_host_does_between_turns_keeps_no_step() {
    let log = Log::new();
    let heard = log.clone();
    let mut runner = Runner::builder().debug(false).build().unwrap();
    runner.enter(|| set_exception_handler(move |context| heard.push(context.to_string())));
    while runner.turn(Some(Duration::ZERO)).unwrap().is_left() {}
    thread::sleep(Duration::from_millis(1100));
    let task = runner.create_task(async {});
    while !runner.enter(|| task.done()) {
        runner.turn(Some(Duration::ZERO)).unwrap();
    }
    assert!(log.get().is_empty(), "{:?}", log.get());
}

#[test]
fn a_simulated_loop_is_not_embedded() {
    let runner = Runner::builder().backend(Backend::Sim { seed: 1 }).build().unwrap();
    let refused =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| _ = runner.as_fd().as_fd())).unwrap_err();
    assert!(refused.downcast_ref::<String>().unwrap().contains("simulator"));
}

#[test]
#[cfg(not(loom))]
fn tokio_drives_a_loop_by_its_async_fd() {
    use tokio::io::{Interest, unix::AsyncFd};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = Runner::new().unwrap();
    let fd = runner.as_fd().try_clone_to_owned().unwrap();
    let value = runtime.block_on(async move {
        #[allow(deprecated, reason = "what replaces it is unsafe; the descriptor is owned here")]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE).unwrap();
        let life = run_coroutine_threadsafe(&runner.handle(), life);
        let host = tokio::time::sleep(Duration::from_millis(5));
        let driving = async {
            loop {
                runner.turn(Some(Duration::ZERO)).unwrap();
                let deadline = runner.next_deadline();
                tokio::select! {
                    ready = fd.readable() => ready.unwrap().clear_ready(),
                    () = async {
                        match deadline {
                            Some(at) => tokio::time::sleep_until(at.into()).await,
                            None => std::future::pending().await,
                        }
                    } => {}
                }
            }
        };
        // Its future is tokio's to await.
        tokio::select! {
            value = async { host.await; life.await } => value.unwrap(),
            () = driving => unreachable!(),
        }
    });
    assert_eq!(value, 12);
}
