//! hyper on corio: the example `hyper_server` from its clients' side, and client and server in one loop.
#![forbid(unsafe_code)]

mod common;
#[path = "../runtime/tests/common/shared.rs"]
mod shared;

use std::{
    convert::Infallible,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::{HANGS, Server};
use corio::{
    create_task,
    event_loop::Faults,
    gather,
    hyper::{CorioExecutor, CorioTimer},
    open_connection, start_server,
    streams::Stream,
    timeout,
};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, client, server, service::service_fn};
use nix::sys::signal::Signal;
use shared::on_every_seed;

fn start() -> Server {
    Server::of("hyper_server", &[])
}

impl Server {
    fn fds(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// How many descriptors it has open without a connection, once it has answered and has all that it keeps.
    fn idle_fds(&self) -> usize {
        let mut stream = self.connect();
        ask(&mut stream, "/");
        assert_eq!(response(&mut stream).0, 200);
        let idle = self.fds() - 1;
        drop(stream);
        self.await_fds(idle);
        idle
    }

    fn await_fds(&self, count: usize) {
        let since = Instant::now();
        while self.fds() != count {
            assert!(since.elapsed() < HANGS, "{} descriptors are open, {count} were", self.fds());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn ask(stream: &mut BufReader<TcpStream>, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes()).unwrap();
}

/// The status and the body of the next response.
fn response(stream: &mut impl BufRead) -> (u16, String) {
    let mut next = || {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the server closed the connection");
        line.trim_end().to_owned()
    };
    let first = next();
    let status = first.strip_prefix("HTTP/1.1 ").expect("a status line")[..3].parse().unwrap();
    let mut length = 0;
    loop {
        let line = next();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (status, String::from_utf8(body).unwrap())
}

#[test]
fn a_connection_is_kept_for_one_request_after_the_other() {
    let server = start();
    let mut stream = server.connect();
    for _ in 0..3 {
        ask(&mut stream, "/");
        assert_eq!(response(&mut stream), (200, "Hello, World!\n".to_owned()));
    }
    ask(&mut stream, "/nowhere");
    assert_eq!(response(&mut stream).0, 404);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = start();
    let mut stream = server.connect();
    let paths = ["/sleep/30", "/", "/sleep/1", "/sleep/0"];
    for path in paths {
        ask(&mut stream, path);
    }
    let bodies = paths.map(|_| response(&mut stream).1);
    assert_eq!(bodies, ["slept 30 ms\n", "Hello, World!\n", "slept 1 ms\n", "slept 0 ms\n"]);
}

#[test]
fn a_client_that_ends_its_half_is_still_answered() {
    let server = start();
    let mut stream = server.connect();
    stream.get_mut().write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    assert_eq!(response(&mut stream).0, 200);
    assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0, "the end");
}

#[test]
fn a_handler_connects_elsewhere() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let line = std::thread::spawn(move || {
        other.accept().unwrap().0.write_all(b"it is late\nand more").unwrap();
    });
    let server = start();
    let mut stream = server.connect();
    ask(&mut stream, &format!("/time/127.0.0.1/{port}"));
    assert_eq!(response(&mut stream), (200, "it is late\n".to_owned()));
    line.join().unwrap();
    ask(&mut stream, &format!("/time/127.0.0.1/{port}"));
    let (status, body) = response(&mut stream);
    assert!(status == 502 && body.contains("refused"), "{status} {body}");
}

#[test]
fn http_2_with_prior_knowledge_is_served_on_the_same_port() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("SKIPPED: no curl on this machine");
        return;
    }
    let server = start();
    // A connection each: curl 7 cannot use one again with prior knowledge.
    for (path, body) in [("/", "Hello, World!\n"), ("/sleep/20", "slept 20 ms\n")] {
        let mut curl = Command::new("curl");
        curl.args([
            "--http2-prior-knowledge",
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--noproxy",
            "*",
        ]);
        let output =
            curl.args(["--write-out", "HTTP/%{http_version}"]).arg(format!("http://{}{path}", server.addr));
        let output = output.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{body}HTTP/2"));
    }
}

/// wrk, where it is installed, for so many seconds: no error, and every descriptor comes back.
fn wrk_sees_no_error(seconds: u32) {
    let server = start();
    let before = server.idle_fds();
    let load = Command::new("wrk")
        .args(["-t1", "-c64", &format!("-d{seconds}s"), &format!("http://{}/", server.addr)])
        .output();
    let Ok(load) = load else { return eprintln!("SKIPPED wrk: it is not installed") };
    let said = String::from_utf8_lossy(&load.stdout).into_owned();
    assert!(load.status.success() && said.contains("requests in"), "{said}");
    assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
    server.await_fds(before);
}

#[test]
fn wrk_sees_no_error_and_no_descriptor_is_left() {
    wrk_sees_no_error(2);
}

#[test]
#[ignore = "the slow job: a minute"]
fn wrk_sees_no_error_for_a_minute() {
    wrk_sees_no_error(60);
}

#[test]
#[ignore = "the slow job: a minute"]
fn curl_by_http_2_sees_no_error_for_a_minute() {
    let server = start();
    let (before, start, mut asked) = (server.idle_fds(), Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(60) {
        let url = format!("http://{}/", server.addr);
        let Ok(said) = Command::new("curl").args(["-sS", "--http2-prior-knowledge", "--fail", &url]).output()
        else {
            return eprintln!("SKIPPED curl: it is not installed");
        };
        assert!(said.status.success(), "{said:?} after {asked} requests");
        asked += 1;
    }
    server.await_fds(before);
    assert!(asked > 10, "{asked}");
}

#[test]
fn sigterm_answers_what_runs_and_closes_what_idles() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut server = start();
    let (mut silent, mut idle, mut slow) = (server.connect(), server.connect(), server.connect());
    ask(&mut idle, "/");
    assert_eq!(response(&mut idle).0, 200);
    ask(&mut slow, &format!("/time/127.0.0.1/{}", other.local_addr().unwrap().port()));
    // Its handler runs, and waits for the line.
    let (mut handler, _) = other.accept().unwrap();
    let signalled = Instant::now();
    server.signal(Signal::SIGTERM);
    for stream in [&mut idle, &mut silent] {
        assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0, "an idle connection is closed");
    }
    assert!(TcpStream::connect(&server.addr).is_err(), "a new connection is refused");
    handler.write_all(b"at last\n").unwrap();
    assert_eq!(response(&mut slow), (200, "at last\n".to_owned()));
    assert_eq!(slow.read(&mut [0; 10]).unwrap(), 0, "the end after the answer");
    assert_eq!(server.ended(), (Some(0), "0 connections cut\n".to_owned()));
    assert!(signalled.elapsed() < Duration::from_secs(9), "it waited for the grace");
}

/// hyper at both ends, on one loop: many requests at once on one HTTP/2 connection, with bodies both ways.
#[test]
fn http_2_at_both_ends_multiplexes_and_carries_large_bodies() {
    let faults = Faults::default().short_transfers(0.2).enobufs(0.2);
    on_every_seed(4, faults, async || {
        timeout(HANGS, both_ends()).await.unwrap();
        Ok(())
    });
}

async fn both_ends() {
    let server = start_server("127.0.0.1:0", async |reader, writer| {
        // The body goes back as it comes.
        let echo = service_fn(async |request: Request<Incoming>| {
            Ok::<_, Infallible>(Response::new(request.into_body()))
        });
        let mut builder = server::conn::http2::Builder::new(CorioExecutor);
        let served = builder.timer(CorioTimer).serve_connection(Stream::from((reader, writer)), echo);
        served.await.map_err(io::Error::other)
    });
    let server = server.await.unwrap();
    let stream = Stream::from(open_connection(server.local_addr().unwrap()).await.unwrap());
    let (client, connection) = client::conn::http2::handshake(CorioExecutor, stream).await.unwrap();
    let connection = create_task(connection);
    let requests = (0..30).map(|n| {
        let mut client = client.clone();
        async move {
            let body = vec![n as u8; n * 7919];
            let request = Request::new(Full::new(Bytes::from(body.clone())));
            let response = client.send_request(request).await.unwrap();
            let echoed = response.into_body().collect().await.unwrap().to_bytes();
            assert!(echoed == body, "request {n}: {} bytes of {}", echoed.len(), body.len());
        }
    });
    gather(requests).await;
    drop(client);
    connection.await.unwrap().unwrap();
    server.close();
    server.wait_closed().await;
}
