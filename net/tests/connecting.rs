//! Connecting to several addresses, on every kernel: which are tried, in which order, when, and what failure says.

mod common;

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    time::Duration,
};

use common::{in_own_process, on_every, open_fds, real_kernels, until};
use corio_net::{
    ConnectErrors, Connection, ConnectionBuilder, StreamReader, StreamWriter, TcpListener, open_connection,
};
use corio_runtime::{
    Backend, Runner,
    fd::Fd,
    socket::{ListenOptions, listen},
    time::{now, timeout},
};

const HEAD_START: Duration = Duration::from_millis(250);
const HOUR: Duration = Duration::from_secs(3600);

/// Runs `test` in the simulator, whose clock is exact.
fn simulated(test: impl AsyncFn()) {
    for seed in 0..4 {
        Runner::builder().backend(Backend::Sim { seed }).build().unwrap().run(test());
    }
}

/// An address that neither connects nor refuses: its queue is full, and nobody accepts.
struct Silent {
    addr: SocketAddr,
    _listening: Fd,
    _filling: Vec<(StreamReader, StreamWriter)>,
}

async fn silent() -> Silent {
    let options =
        ListenOptions { backlog: 0, reuse_addr: true, reuse_port: false, nodelay: true, v6_only: false };
    let listening = listen("127.0.0.1:0".parse().unwrap(), options).unwrap();
    let addr = listening.local_addr().unwrap();
    let mut filling = Vec::new();
    while let Ok(connected) = timeout(Duration::from_secs(1), open_connection(addr)).await {
        filling.push(connected.unwrap());
    }
    Silent { addr, _listening: listening, _filling: filling }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// Addresses that refuse, in an order that is not that of their numbers.
fn refusing() -> [SocketAddr; 2] {
    [addr("127.0.0.1:2"), addr("127.0.0.1:1")]
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// With a head start, and one after the other.
fn builders() -> [ConnectionBuilder; 2] {
    [Connection::builder().happy_eyeballs(HOUR), Connection::builder().happy_eyeballs(None)]
}

#[test]
fn con_14_if_the_first_address_connects_the_second_is_never_tried() {
    on_every(async || {
        for builder in builders() {
            let ((first, wins), (second, never)) = (listener().await, listener().await);
            let (_reader, writer) = builder.connect([wins, never]).await.unwrap();
            assert_eq!(writer.peer_addr().unwrap(), wins);
            first.accept().await.unwrap();
            let tried = timeout(Duration::from_millis(20), second.accept()).await;
            assert!(tried.is_err(), "{tried:?}");
        }
    });
}

#[test]
fn con_15_after_a_failure_the_second_address_is_tried_at_once() {
    on_every(async || {
        for builder in builders() {
            let (_listener, good) = listener().await;
            // Waiting out the head start would take an hour.
            let connected = timeout(HOUR / 2, builder.connect([refusing()[0], good])).await;
            let (_reader, writer) = connected.expect("it waits").unwrap();
            assert_eq!(writer.peer_addr().unwrap(), good);
        }
    });
    simulated(async || {
        for builder in builders() {
            let (_listener, good) = listener().await;
            let began = now();
            builder.connect([refusing()[0], good]).await.unwrap();
            assert_eq!(now() - began, Duration::ZERO);
        }
    });
}

#[test]
fn con_17_con_05_if_all_addresses_fail_one_error_names_each_with_its_error() {
    on_every(async || {
        for builder in builders() {
            let [first, second] = refusing();
            let error = builder.connect([first, second]).await.unwrap_err();
            let all = error.get_ref().unwrap().downcast_ref::<ConnectErrors>().unwrap().errors();
            assert_eq!(all.len(), 2, "{error}");
            for (error, addr) in all.iter().zip([first, second]) {
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                assert!(error.to_string().starts_with(&format!("cannot connect to {addr}: ")), "{error}");
            }
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            assert_eq!(error.to_string(), format!("Multiple exceptions: {}, {}", all[0], all[1]));
        }
    });
}

#[test]
fn con_05_the_same_error_twice_is_told_once_and_a_single_one_stands_for_itself() {
    on_every(async || {
        let [first, _] = refusing();
        let single = open_connection(first).await.unwrap_err();
        assert!(!single.get_ref().unwrap().is::<ConnectErrors>());
        let twice = open_connection([first, first]).await.unwrap_err();
        assert_eq!(twice.to_string(), single.to_string());
        let all = twice.get_ref().unwrap().downcast_ref::<ConnectErrors>().unwrap();
        assert_eq!(all.errors().len(), 2);
    });
}

/// How long the second address takes if the first one is silent.
async fn takes(builder: ConnectionBuilder) -> Option<Duration> {
    let (silent, (_listener, good)) = (silent().await, listener().await);
    let began = now();
    let connected = timeout(HOUR, builder.connect([silent.addr, good])).await.ok()?;
    assert_eq!(connected.unwrap().1.peer_addr().unwrap(), good);
    Some(now() - began)
}

#[test]
fn con_18_a_silent_address_has_the_head_start_that_was_asked_for() {
    simulated(async || {
        assert_eq!(takes(Connection::builder()).await, Some(HEAD_START), "the default");
        for delay in [Duration::ZERO, Duration::from_millis(100), Duration::from_secs(7)] {
            assert_eq!(takes(Connection::builder().happy_eyeballs(delay)).await, Some(delay));
        }
        assert_eq!(takes(Connection::builder().happy_eyeballs(None)).await, None, "one after the other");
    });
    for backend in real_kernels() {
        common::on(backend).run(async {
            let took = takes(Connection::builder().happy_eyeballs(Duration::from_millis(20))).await;
            assert!(took.unwrap() >= Duration::from_millis(20), "{took:?}");
        });
    }
}

/// The addresses in the order in which they were tried: all refuse.
async fn tried(builder: ConnectionBuilder, addrs: &[SocketAddr]) -> Vec<SocketAddr> {
    let error = builder.connect(addrs).await.unwrap_err();
    let all = error.get_ref().unwrap().downcast_ref::<ConnectErrors>().unwrap().errors();
    let named = |e: &io::Error| addrs.iter().find(|addr| e.to_string().contains(&addr.to_string())).copied();
    all.iter().map(|e| named(e).unwrap()).collect()
}

#[test]
fn con_18_families_alternate_with_a_head_start_and_keep_their_order_without() {
    on_every(async || {
        let given = ["[::1]:11", "[::1]:12", "[::1]:13", "127.0.0.1:14", "127.0.0.1:15"].map(addr);
        let [a, b, c, d, e] = given;
        let builder = Connection::builder;
        assert_eq!(tried(builder(), &given).await, [a, d, b, e, c]);
        assert_eq!(tried(builder().happy_eyeballs(HOUR), &given).await, [a, d, b, e, c]);
        assert_eq!(tried(builder().happy_eyeballs(None), &given).await, given);
        assert_eq!(tried(builder().happy_eyeballs(None).interleave(1), &given).await, [a, d, b, e, c]);
        assert_eq!(tried(builder().interleave(2), &given).await, [a, b, d, c, e]);
        assert_eq!(tried(builder().interleave(0), &given).await, given);
    });
}

#[test]
fn con_16_an_attempt_that_lost_the_race_is_given_up() {
    if !in_own_process("con_16_an_attempt_that_lost_the_race_is_given_up") {
        return;
    }
    for backend in real_kernels() {
        common::on(backend).run(async {
            let (silent, (listener, good)) = (silent().await, listener().await);
            let before = open_fds();
            let builder = Connection::builder().happy_eyeballs(Duration::from_millis(100));
            for _ in 0..5 {
                drop(builder.clone().connect([silent.addr, good]).await.unwrap());
                drop(listener.accept().await.unwrap());
            }
            // The kernel alone would try for minutes.
            until(|| open_fds() <= before).await;
        });
    }
}
