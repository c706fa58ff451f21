//! `getaddrinfo` on threads of its own: a slow name server delays only the lookups that ask it.

mod pool;

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

use corio_runtime::error;
use pool::Pool;

/// An idle thread ends after this time.
const IDLE: Duration = Duration::from_secs(10);
/// Lookups that a task drops together are dropped within this time.
const GRACE: Duration = Duration::from_millis(10);

static POOL: Pool<io::Result<Vec<SocketAddr>>> = Pool::new(IDLE, GRACE);

/// Looks `host` up on a thread.
pub(crate) async fn lookup(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    POOL.ask(Box::new(move || {
        let found = (host.as_str(), port).to_socket_addrs();
        found.map(Iterator::collect).map_err(|e| {
            let text = format!("cannot resolve {host:?}: {e}");
            error::explain(e, text)
        })
    }))?
    .await
}
