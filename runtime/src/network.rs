//! Sockets of the running loop's network: the system's, or the simulator's.

use std::{io, net::SocketAddr};

use crate::{
    event_loop::current,
    kernel::{
        connection::ListenOptions,
        fd::Fd,
        socket::{self, with_address},
    },
};

/// Fails if the loop cannot use real descriptors. `what` is named in the error.
///
/// ```
/// corio_runtime::run(async { corio_runtime::fd::require_kernel("pipes").unwrap() });
/// ```
///
/// # Errors
/// Under the simulator, and outside a running loop.
pub fn require_kernel(what: &str) -> io::Result<()> {
    let simulated = current::try_with(|lp| lp.driver.is_simulated());
    match simulated {
        Some(false) => Ok(()),
        Some(true) => {
            let text = format!("the simulator has no {what}: its network is its own, and all it has");
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        }
        None => Err(io::Error::other(format!("no running event loop: {what} need one"))),
    }
}

/// A socket that listens on `addr`, on the running loop's network.
///
/// # Errors
/// The kernel's error, with the address in the text.
///
/// # Panics
/// Outside a running loop.
pub fn listen(addr: SocketAddr, options: ListenOptions) -> io::Result<Fd> {
    let fd = bind(addr, options)?;
    fd.listen(options.backlog)?;
    Ok(fd)
}

/// A socket that is bound to `addr` on the running loop's network. Connections are refused until its [`Fd::listen`],
/// which the `backlog` of `options` does not concern.
///
/// # Errors
/// The kernel's error, with the address in the text.
///
/// # Panics
/// Outside a running loop.
pub fn bind(addr: SocketAddr, options: ListenOptions) -> io::Result<Fd> {
    let bound = match current::with(|lp| lp.driver.with_sim(|sim| sim.bind(addr))) {
        Some(simulated) => simulated,
        None => socket::bind(addr, options).map(Fd::from),
    };
    bound.map_err(|e| with_address(e, "listen on", addr))
}

/// A stream socket for connecting to `remote`, bound to `local` if given.
///
/// # Errors
/// The kernel's error, with the addresses in the text.
///
/// # Panics
/// Outside a running loop.
pub fn connector(remote: SocketAddr, local: Option<SocketAddr>) -> io::Result<Fd> {
    let made = match current::with(|lp| lp.driver.with_sim(|sim| sim.connector(local))) {
        Some(simulated) => simulated,
        None => socket::connector(remote, local),
    };
    made.map_err(|e| with_address(e, "connect to", remote))
}
