//! Failing accepts: no error makes the listener spin, and after any error but the socket's own it accepts again.

mod common;

use std::{io::ErrorKind, time::Duration};

use common::{echo, in_own_process, reports, run};
use corio_net::{TcpListener, open_connection, start_server};
use corio_runtime::{
    Backend, Faults, Runner, create_task, metrics,
    time::{sleep, timeout},
};
use nix::{libc, sys::socket};

/// Every error number that there is, and some that there are not.
const ERRNOS: std::ops::RangeInclusive<i32> = 1..=140;
/// Those of the listening socket itself.
const FATAL: [i32; 3] = [libc::EBADF, libc::EINVAL, libc::ENOTSOCK];
const STORM: u64 = 300;

/// A simulation whose first operations all fail.
fn storm(errno: i32) -> Runner {
    let faults = (1..=STORM).fold(Faults::default(), |faults, n| faults.fail_nth(n, errno));
    Runner::builder().backend(Backend::Sim { seed: 7 }).faults(faults).build().unwrap()
}

#[test]
fn an_accept_that_keeps_failing_backs_off_whatever_the_error_and_accepts_again() {
    for errno in ERRNOS.filter(|errno| !FATAL.contains(errno)) {
        storm(errno).run(async {
            let heard = reports();
            let server = start_server("127.0.0.1:0", echo).await.unwrap();
            sleep(Duration::from_secs(10)).await;
            let tries = metrics().ring.sqes;
            assert!((10..60).contains(&tries), "errno {errno}: {tries} accepts in 10 s");
            let said = heard.borrow().len();
            assert!((1..=11).contains(&said), "errno {errno}: {heard:?}");
            let first = heard.borrow()[0].clone();
            let addr = server.local_addr().unwrap();
            assert!(first.contains("pauses for 5 ms") && first.contains(&addr.to_string()), "{first}");
            // The storm is over some time.
            while metrics().ring.sqes <= STORM {
                sleep(Duration::from_secs(1)).await;
            }
            let (mut reader, mut writer) = open_connection(addr).await.unwrap();
            writer.write_all("x").await.unwrap();
            let served = timeout(Duration::from_secs(5), reader.readexactly(1)).await;
            assert_eq!(served.unwrap_or_else(|_| panic!("errno {errno}: deaf")).unwrap(), b"x");
        });
    }
}

#[test]
fn an_error_of_the_listening_socket_closes_the_server_with_a_report() {
    for errno in FATAL {
        storm(errno).run(async {
            let heard = reports();
            let server = start_server("127.0.0.1:0", echo).await.unwrap();
            let addr = server.local_addr().unwrap();
            timeout(Duration::from_secs(5), server.serve_forever()).await.expect("open and deaf").unwrap();
            assert!(!server.is_serving());
            assert_eq!(heard.borrow().len(), 1, "{heard:?}");
            assert!(heard.borrow()[0].contains(&addr.to_string()), "{heard:?}");
        });
    }
}

#[test]
fn srv_24_one_error_of_a_connection_costs_no_pause_and_no_report() {
    for errno in [libc::ECONNABORTED, libc::EPROTO, libc::ENETUNREACH, libc::EINTR] {
        let faults = Faults::default().fail_nth(1, errno).fail_nth(2, errno);
        let mut runner = Runner::builder().backend(Backend::Sim { seed: 3 }).faults(faults).build().unwrap();
        runner.run(async {
            let heard = reports();
            let server = start_server("127.0.0.1:0", echo).await.unwrap();
            let (mut reader, mut writer) = open_connection(server.local_addr().unwrap()).await.unwrap();
            writer.write_all("x").await.unwrap();
            let served = timeout(Duration::from_millis(4), reader.readexactly(1)).await;
            assert_eq!(served.expect("it pauses").unwrap(), b"x");
            assert!(heard.borrow().is_empty(), "{heard:?}");
        });
    }
}

#[test]
fn a_listening_socket_that_somebody_else_shuts_down_closes_its_server() {
    if !in_own_process("a_listening_socket_that_somebody_else_shuts_down_closes_its_server") {
        return;
    }
    run(async {
        let heard = reports();
        let server = start_server("127.0.0.1:0", echo).await.unwrap();
        let addr = server.local_addr().unwrap();
        let (mut reader, mut writer) = open_connection(addr).await.unwrap();
        writer.write_all("x").await.unwrap();
        assert_eq!(reader.readexactly(1).await.unwrap(), b"x");
        let listens = |fd: &i32| {
            let found = socket::getsockname::<socket::SockaddrIn>(*fd);
            let unconnected = socket::getpeername::<socket::SockaddrIn>(*fd).is_err();
            unconnected && found.is_ok_and(|found| found.port() == addr.port())
        };
        socket::shutdown((3..1000).find(listens).unwrap(), socket::Shutdown::Both).unwrap();
        server.serve_forever().await.unwrap();
        assert!(!server.is_serving());
        assert!(heard.borrow()[0].contains(&addr.to_string()), "{heard:?}");
        assert_eq!(open_connection(addr).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        // Its connections go on.
        writer.write_all("y").await.unwrap();
        assert_eq!(reader.readexactly(1).await.unwrap(), b"y");
    });
}

#[test]
fn those_who_accept_are_told_of_the_sockets_error_and_wait_through_others() {
    storm(libc::EBADF).run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = timeout(Duration::from_secs(5), listener.accept()).await.expect("a hang").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    });
    storm(libc::EPERM).run(async {
        let heard = reports();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let accepted = create_task(async move { listener.accept().await.map(|(_, peer)| peer) });
        while metrics().ring.sqes <= STORM {
            sleep(Duration::from_secs(1)).await;
        }
        let (_reader, writer) = open_connection(addr).await.unwrap();
        let peer = timeout(Duration::from_secs(5), accepted).await.expect("a hang").unwrap().unwrap();
        assert_eq!(peer, writer.local_addr().unwrap());
        assert!(heard.borrow()[0].contains("fails"), "{heard:?}");
    });
}
