//! Streams and listeners of two loops that take turns on one thread: a drop acts on the right loop.

mod common;

use std::{
    io::{self, ErrorKind},
    time::Duration,
};

use common::{kernels, on};
use corio_net::{StreamReader, StreamWriter, TcpListener, open_connection, start_server};
use corio_runtime::{
    Runner, metrics,
    time::{now, sleep},
};

/// Operations and open streams of a loop at rest.
fn numbers(runner: &mut Runner) -> (usize, usize) {
    runner.run(sleep(Duration::from_millis(5)));
    runner.enter(|| (metrics().operations, metrics().connections))
}

/// Two ends of a connection, in the first slots of the loop.
async fn connection() -> io::Result<[(StreamReader, StreamWriter); 2]> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let ours = open_connection(listener.local_addr()?).await?;
    Ok([ours, listener.accept().await?.0.into_streams()])
}

fn on_every(test: impl Fn(Runner, Runner)) {
    for backend in kernels() {
        test(on(backend), on(backend));
    }
}

#[test]
fn streams_dropped_beside_another_loop_close_on_their_own() {
    on_every(|mut a, mut b| {
        let (a0, b0) = (numbers(&mut a), numbers(&mut b));
        let of_a = a.run(connection()).unwrap();
        let [mut one, mut other] = b.run(connection()).unwrap();
        let b1 = numbers(&mut b);
        b.run(async {
            drop(of_a);
            one.1.write_all(b"hello").await.unwrap();
            assert_eq!(other.0.read(9).await.unwrap(), b"hello");
        });
        assert_eq!((numbers(&mut a), numbers(&mut b)), (a0, b1));
        a.run(async { drop((one, other)) });
        assert_eq!((numbers(&mut a), numbers(&mut b)), (a0, b0));
    });
}

#[test]
fn a_server_closed_beside_another_loop_closes_on_its_own() {
    on_every(|mut a, mut b| {
        let (a0, b0) = (numbers(&mut a), numbers(&mut b));
        let start = || start_server("127.0.0.1:0", async |_, _| Ok(()));
        let of_a = a.run(start()).unwrap();
        let of_b = b.run(start()).unwrap();
        let b1 = numbers(&mut b);
        let addr = of_b.local_addr().unwrap_or_else(|_| b.enter(|| of_b.local_addr().unwrap()));
        b.run(async {
            of_a.close();
            drop(of_a);
            let (mut reader, _writer) = open_connection(addr).await.unwrap();
            assert!(reader.read(1).await.unwrap().is_empty(), "it serves on");
        });
        assert_eq!((numbers(&mut a), numbers(&mut b)), (a0, b1));
        drop(of_b);
        assert_eq!(numbers(&mut b), b0);
    });
}

#[test]
fn a_writer_closed_or_aborted_beside_another_loop_or_outside_any_ends_on_its_own() {
    for ends in [StreamWriter::close, StreamWriter::abort] {
        on_every(|mut a, mut b| {
            let [(_reader, mut beside), (_other, mut outside)] = a.run(connection()).unwrap();
            let of_b = b.run(connection()).unwrap();
            let b1 = numbers(&mut b);
            b.run(async { ends(&mut beside) });
            ends(&mut outside);
            assert!(a.enter(|| beside.is_closing() && outside.is_closing()));
            a.run(async {
                let _ = beside.wait_closed().await;
                let _ = outside.wait_closed().await;
            });
            assert_eq!(numbers(&mut b), b1);
            drop(of_b);
        });
    }
}

#[test]
fn the_limits_of_a_close_that_are_set_beside_another_loop_or_outside_any_hold_on_its_own() {
    on_every(|mut a, mut b| {
        let [(_reader, mut beside), _its_peer] = a.run(connection()).unwrap();
        let [(_other, mut outside), _other_peer] = a.run(connection()).unwrap();
        b.run(async { beside.linger(Duration::MAX, Duration::from_millis(50)) });
        outside.linger(Duration::MAX, Duration::from_millis(50));
        a.run(async {
            for writer in [&mut beside, &mut outside] {
                // More than the sockets hold, and nobody reads.
                writer.write(vec![1; 32 << 20]).unwrap();
                writer.close();
            }
            let closed = now();
            for mut writer in [beside, outside] {
                assert_eq!(writer.wait_closed().await.unwrap_err().kind(), ErrorKind::TimedOut);
            }
            // Their defaults are five seconds.
            assert!(now() - closed < Duration::from_secs(4));
        });
        drop(b);
    });
}
