//! The two addresses of a connection.

use std::{
    net::{SocketAddr, SocketAddrV4},
    sync::Arc,
};

use corio_runtime::fd::Fd;

/// As they were when the connection was made, so that a handle can tell them wherever it is and whatever has happened
/// since. Small where both are of IPv4: every connection has them a few times.
#[derive(Clone, Debug)]
pub(crate) enum Addrs {
    /// Peer and local address.
    V4(SocketAddrV4, SocketAddrV4),
    Other(Arc<(Option<SocketAddr>, Option<SocketAddr>)>),
    /// Not a socket.
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

    /// Those of a connected socket, as the kernel tells them now.
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
