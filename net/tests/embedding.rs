//! Streams of a loop that another one drives, and of a loop inside which another one closes.

mod common;

use std::{
    cell::Cell,
    future::Future,
    io::{self, Read, Write},
    net::TcpStream as StdStream,
    pin::pin,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use common::with_peer;
use corio_net::{StreamReader, StreamWriter, connect_read_pipe};
use corio_runtime::{
    Runner, create_task, run,
    service::{LoopLocal, Service},
    time::timeout,
    to_thread,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Drives `runner` as a host does until `done`: a turn is made only when the loop wants one.
fn drive(runner: &mut Runner, mut done: impl FnMut(&Runner) -> bool) {
    let started = Instant::now();
    while !done(runner) {
        assert!(started.elapsed() < Duration::from_secs(10), "the host sleeps for ever");
        let due = runner.next_deadline().is_some_and(|at| at <= Instant::now());
        let mut fds = [PollFd::new(runner.as_fd(), PollFlags::POLLIN)];
        if due || poll(&mut fds, PollTimeout::from(1_u8)).unwrap() > 0 {
            runner.turn(Some(Duration::ZERO)).unwrap();
        }
    }
}

#[test]
fn a_read_that_the_host_polls_itself_wants_a_turn() {
    let mut runner = Runner::new().unwrap();
    let (read, mut write) = io::pipe().unwrap();
    let mut reader = runner.enter(|| connect_read_pipe(read.into())).unwrap();
    write.write_all(b"data").unwrap();
    // Whatever the loop does first is done.
    while runner.turn(Some(Duration::ZERO)).unwrap().is_left() {}
    let mut reading = pin!(reader.read(4));
    let mut context = Context::from_waker(Waker::noop());
    drive(&mut runner, |runner| runner.enter(|| reading.as_mut().poll(&mut context)).is_ready());
}

#[test]
fn what_the_host_writes_wants_a_turn() {
    let mut runner = Runner::new().unwrap();
    let (_reader, mut writer, mut peer) = runner.run(with_peer());
    while runner.turn(Some(Duration::ZERO)).unwrap().is_left() {}
    runner.enter(|| writer.write(b"data")).unwrap();
    peer.set_nonblocking(true).unwrap();
    let mut got = [0; 4];
    drive(&mut runner, |_| peer.read_exact(&mut got).is_ok());
    assert_eq!(&got, b"data");
}

/// Panics as its loop is entered or left, once it is told to.
struct Faulty;

thread_local!(static PANICS: Cell<bool> = const { Cell::new(false) });

impl Service for Faulty {
    fn entered(&self) {
        assert!(!PANICS.get(), "a service panics");
    }

    fn left(&self) {
        assert!(!PANICS.get(), "a service panics");
    }
}

static FAULTY: LoopLocal<Faulty> = LoopLocal::new(|| Faulty);

/// A loop with a stream, on which a receive is armed, and a service that will panic.
fn faulty() -> (Runner, StreamReader, StreamWriter, StdStream) {
    let mut runner = Runner::new().unwrap();
    let (reader, writer, peer) = runner.run(async {
        FAULTY.with(|_| ());
        let (mut reader, writer, peer) = with_peer().await;
        assert!(timeout(Duration::from_millis(1), reader.read(1)).await.is_err());
        (reader, writer, peer)
    });
    (runner, reader, writer, peer)
}

#[test]
fn streams_go_on_while_a_service_of_a_loop_that_is_dropped_panics() {
    let (inner, ..) = faulty();
    run(async move {
        let (mut reader, mut writer, mut peer) = with_peer().await;
        let reading = create_task(async move { reader.readexactly(4).await });
        PANICS.set(true);
        drop(inner);
        PANICS.set(false);
        peer.write_all(b"data").unwrap();
        assert_eq!(timeout(Duration::from_secs(10), reading).await.unwrap().unwrap().unwrap(), b"data");
        writer.write(b"more").unwrap();
        writer.drain().await.unwrap();
        let mut got = [0; 4];
        to_thread(move || peer.read_exact(&mut got).map(|()| assert_eq!(&got, b"more"))).await.unwrap();
    });
}

#[test]
fn a_service_that_panics_as_its_loop_is_entered_leaves_the_streams_of_the_thread_in_place() {
    let (mut runner, mut reader, mut writer, mut peer) = faulty();
    PANICS.set(true);
    let entered = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runner.enter(|| ())));
    PANICS.set(false);
    drop(entered);
    // Another loop of the thread has a table of its own.
    run(async {
        let (_reader, mut writer, mut peer) = with_peer().await;
        writer.write(b"data").unwrap();
        writer.drain().await.unwrap();
        let mut got = [0; 4];
        to_thread(move || peer.read_exact(&mut got)).await.unwrap();
    });
    runner.run(async {
        peer.write_all(b"data").unwrap();
        assert_eq!(reader.readexactly(4).await.unwrap(), b"data");
        writer.close();
        writer.wait_closed().await.unwrap();
    });
}
