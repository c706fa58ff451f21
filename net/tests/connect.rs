//! Connecting and name lookup: the CON rows of the asyncio conformance list.

mod common;

use std::{
    error::Error,
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use common::{FewDescriptors, echo, in_own_process, on_real, open_fds, until};
use corio_net::{Connection, TcpListener, TcpStream, ToSocketAddrs, open_connection, resolve, start_server};
use corio_runtime::time::timeout;

/// An address of this machine that nobody listens on.
fn refusing() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

async fn connects(addr: impl ToSocketAddrs) {
    open_connection(addr).await.unwrap();
}

#[test]
fn con_01_every_form_of_an_address() {
    on_real(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let SocketAddr::V4(v4) = addr else { panic!("{addr}") };
        connects(addr).await;
        connects(&addr).await;
        connects(v4).await;
        connects([addr]).await;
        connects(&[addr][..]).await;
        connects(vec![addr]).await;
        connects((IpAddr::from(Ipv4Addr::LOCALHOST), addr.port())).await;
        connects((Ipv4Addr::LOCALHOST, addr.port())).await;
        connects(("127.0.0.1", addr.port())).await;
        connects((String::from("127.0.0.1"), addr.port())).await;
        connects(addr.to_string()).await;
        connects(&*addr.to_string()).await;
        for _ in 0..12 {
            listener.accept().await.unwrap();
        }
    });
}

#[test]
fn con_01_a_numeric_address_needs_no_lookup() {
    if !in_own_process("con_01_a_numeric_address_needs_no_lookup") {
        return;
    }
    on_real(async || {
        assert_eq!(resolve("1.2.3.4", 1).await.unwrap(), ["1.2.3.4:1".parse().unwrap()]);
        assert_eq!(resolve("::3", 0).await.unwrap(), [SocketAddr::from((Ipv6Addr::from(3u128), 0))]);
        let _ = timeout(Duration::from_millis(1), open_connection(refusing())).await;
        for thread in std::fs::read_dir("/proc/self/task").unwrap() {
            let name = std::fs::read_to_string(thread.unwrap().path().join("comm")).unwrap();
            assert!(!name.starts_with("corio-resolver"), "a lookup was made");
        }
    });
}

#[test]
fn con_05_all_addresses_fail() {
    on_real(async || {
        let (first, second) = (refusing(), refusing());
        let error = open_connection([first, second]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let text = error.to_string();
        let at = |addr: SocketAddr| text.find(&addr.to_string()).unwrap_or_else(|| panic!("{text}"));
        assert!(text.starts_with("Multiple exceptions: ") && at(first) < at(second), "{text}");
        // The same text twice is one.
        let error = open_connection([first, first]).await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot connect to {first}")), "{error}");
        assert_eq!(error.to_string().matches("cannot connect").count(), 1);
    });
}

#[test]
fn con_06_the_next_address_is_tried() {
    on_real(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (_reader, writer) = open_connection([refusing(), addr]).await.unwrap();
        assert_eq!(writer.peer_addr().unwrap(), addr);
        let error = open_connection(refusing()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let stream = TcpStream::connect(vec![refusing(), refusing(), addr]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addr);
    });
}

#[test]
fn con_06_no_descriptor_is_left_behind() {
    if !in_own_process("con_06_no_descriptor_is_left_behind") {
        return;
    }
    on_real(async || {
        let _ = open_connection(refusing()).await;
        let before = open_fds();
        for _ in 0..20 {
            assert!(open_connection([refusing(), refusing()]).await.is_err());
            // Nobody answers there (RFC 5737), or the network is unreachable.
            let silent = open_connection("192.0.2.1:9");
            let _ = timeout(Duration::from_millis(1), silent).await;
        }
        until(|| open_fds() == before).await;
    });
}

#[test]
fn con_09_10_local_addr() {
    on_real(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let local = refusing();
        let builder = Connection::builder().local_addr(local);
        let (_reader, writer) = builder.clone().connect(addr).await.unwrap();
        assert_eq!(writer.local_addr().unwrap(), local);
        assert_eq!(listener.accept().await.unwrap().1, local);
        let v6: SocketAddr = "[::1]:9".parse().unwrap();
        let error = builder.clone().connect(v6).await.unwrap_err();
        assert!(error.to_string().contains("no address of the family"), "{error}");
        let other = Connection::builder().local_addr("127.0.0.1:0".parse().unwrap());
        let (_reader, writer) = other.connect([v6, addr]).await.unwrap();
        assert_eq!(writer.peer_addr().unwrap(), addr);
    });
}

#[test]
fn con_11_a_local_address_that_cannot_be_had() {
    on_real(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let builder = Connection::builder().local_addr("192.0.2.1:0".parse().unwrap());
        let error = builder.connect(addr).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
        assert!(error.to_string().contains("192.0.2.1:0"), "{error}");
    });
}

#[test]
fn con_19_localhost_is_looked_up() {
    on_real(async || {
        let found = resolve("localhost", 80).await.unwrap();
        assert!(!found.is_empty() && found.iter().all(|a| a.ip().is_loopback() && a.port() == 80));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        connects(("localhost", port)).await;
        connects(format!("localhost:{port}")).await;
        let server = start_server("localhost:0", |_, _| async { Ok(()) }).await.unwrap();
        assert!(server.local_addr().unwrap().ip().is_loopback());
    });
}

#[test]
fn con_19_an_abandoned_lookup_harms_nobody() {
    on_real(async || {
        for _ in 0..50 {
            let _ = timeout(Duration::ZERO, resolve("localhost", 1)).await;
        }
        assert!(!resolve("localhost", 1).await.unwrap().is_empty());
    });
}

#[test]
fn con_04_invalid_addresses() {
    on_real(async || {
        let wrong = [
            ("", "the port is missing"),
            ("nonsense", "the port is missing"),
            ("127.0.0.1", "the port is missing"),
            ("[::1]", "the port is missing"),
            ("host:", "the port is missing"),
            (":80", "the host is missing (0.0.0.0 stands for all addresses)"),
            ("localhost:99999", "the port 99999 is too large: it must be 0 to 65535"),
            ("127.0.0.1:65536", "the port 65536 is too large: it must be 0 to 65535"),
            (
                "[::1]:99999999999999999999",
                "the port 99999999999999999999 is too large: it must be 0 to 65535",
            ),
            ("host:-1", "the port -1 is negative: it must be 0 to 65535"),
            ("host:http", "the port \"http\" is no number: it must be 0 to 65535"),
            ("host:+80", "the port \"+80\" is no number: it must be 0 to 65535"),
            ("host:8 ", "the port \"8 \" is no number: it must be 0 to 65535"),
            ("::1", "an IPv6 address with a port is written [ADDRESS]:PORT"),
            ("http://host:80", "this is a URL"),
            ("https://host/", "this is a URL"),
            ("ws://[::1]:80", "this is a URL"),
            ("[localhost]:80", "\"localhost\" is no IPv6 address"),
        ];
        for (text, why) in wrong {
            let error = open_connection(text).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}: {error}");
            let expected = format!("invalid socket address {text:?}: expected HOST:PORT, but {why}");
            assert_eq!(error.to_string(), expected);
        }
        let refused = open_connection("[::1%1]:1").await.unwrap_err();
        assert_ne!(refused.kind(), ErrorKind::InvalidInput, "an address with a scope: {refused}");
        let none: Vec<SocketAddr> = Vec::new();
        let error = open_connection(none).await.unwrap_err();
        assert_eq!(error.to_string(), "the list of addresses is empty");
        let nul = open_connection(("no\0body", 1)).await.unwrap_err();
        assert_eq!(nul.kind(), ErrorKind::InvalidInput, "{nul}");
        assert!(nul.to_string().contains("cannot resolve"), "{nul}");
    });
}

/// The error number of the kernel, wherever it stands among the sources.
fn os_error(error: &io::Error) -> Option<i32> {
    let mut next = error.source();
    let mut found = error.raw_os_error();
    while let (None, Some(source)) = (found, next) {
        found = source.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        next = source.source();
    }
    found
}

#[test]
fn an_error_with_a_text_has_the_kernels_as_its_source() {
    on_real(async || {
        let free = refusing();
        let refused = open_connection(free).await.unwrap_err();
        assert!(refused.to_string().starts_with(&format!("cannot connect to {free}: ")), "{refused}");
        assert_eq!(
            (refused.kind(), os_error(&refused)),
            (ErrorKind::ConnectionRefused, Some(libc::ECONNREFUSED))
        );
        // `main` that returns it prints the text.
        assert!(format!("{refused:?}").contains(&format!("\"cannot connect to {free}: ")), "{refused:?}");

        let several = open_connection([free, refusing()]).await.unwrap_err();
        assert!(several.to_string().starts_with("Multiple exceptions: "), "{several}");
        assert_eq!(
            (several.kind(), os_error(&several)),
            (ErrorKind::ConnectionRefused, Some(libc::ECONNREFUSED))
        );

        let connection = Connection::builder().local_addr("192.0.2.1:0".parse().unwrap());
        let local = connection.connect(free).await.unwrap_err();
        let text = format!("cannot connect to {free}: cannot bind to 192.0.2.1:0: ");
        assert!(local.to_string().starts_with(&text), "{local}");
        assert_eq!(
            (local.kind(), os_error(&local)),
            (ErrorKind::AddrNotAvailable, Some(libc::EADDRNOTAVAIL))
        );

        let server = start_server("127.0.0.1:0", echo).await.unwrap();
        let taken = start_server(server.local_addr().unwrap(), echo).await.unwrap_err();
        assert_eq!((taken.kind(), os_error(&taken)), (ErrorKind::AddrInUse, Some(libc::EADDRINUSE)));

        let unknown = resolve("no.such.name.invalid", 1).await.unwrap_err();
        assert!(unknown.to_string().starts_with("cannot resolve \"no.such.name.invalid\": "), "{unknown}");
        let cause = unknown.source().unwrap();
        assert!(unknown.to_string().ends_with(&cause.to_string()), "{cause}");
    });
}

#[test]
fn a_connect_without_descriptors_names_the_address() {
    if !in_own_process("a_connect_without_descriptors_names_the_address") {
        return;
    }
    on_real(async || {
        let free = refusing();
        let _few = FewDescriptors::at_most(3);
        let error = open_connection(free).await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot connect to {free}: ")), "{error}");
        assert_eq!(os_error(&error), Some(libc::EMFILE));
    });
}

#[test]
fn con_06_a_silent_address_has_a_head_start_only() {
    on_real(async || {
        // A full backlog does not answer.
        let full = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        nix::sys::socket::listen(&full, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let silent = full.local_addr().unwrap();
        let mut filling = Vec::new();
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&silent, Duration::from_secs(1)) {
            filling.push(stream);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (_reader, writer) = open_connection([silent, addr]).await.unwrap();
        assert_eq!(writer.peer_addr().unwrap(), addr);
    });
}
