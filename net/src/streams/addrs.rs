//! The two addresses of a connection.

use std::{
    net::{SocketAddr, SocketAddrV4},
    sync::Arc,
};

use corio_runtime::fd::Fd;

/// The addresses as of the connection's start: any thread may read them, also after a reset. Small for IPv4, as each
/// connection holds several copies.
#[derive(Clone, Debug)]
pub(crate) enum Addrs {
    /// Peer and local address.
    V4(SocketAddrV4, SocketAddrV4),
    Other(Arc<(Option<SocketAddr>, Option<SocketAddr>)>),
    /// Not an internet socket.
    None,
}

const _: () = assert!(size_of::<Addrs>() <= 16);

impl Addrs {
    pub(crate) fn new(peer: Option<SocketAddr>, local: Option<SocketAddr>) -> Addrs {
        match (peer, local) {
            (Some(SocketAddr::V4(peer)), Some(SocketAddr::V4(local))) => Addrs::V4(peer, local),
            (None, None) => Addrs::None,
            other => Addrs::Other(Arc::new(other)),
        }
    }

    /// The addresses of a connected socket, by system calls.
    pub(crate) fn of(fd: &Fd) -> Addrs {
        Addrs::new(fd.peer_addr().ok(), fd.local_addr().ok())
    }

    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Addrs::V4(peer, _) => Some((*peer).into()),
            Addrs::Other(both) => both.0,
            Addrs::None => None,
        }
    }

    pub(crate) fn local(&self) -> Option<SocketAddr> {
        match self {
            Addrs::V4(_, local) => Some((*local).into()),
            Addrs::Other(both) => both.1,
            Addrs::None => None,
        }
    }
}
