//! The terms of socket calls: the options of a listener, the state of a connection.

/// How a listening socket is made.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Connections that wait to be accepted, at most 4096 and what `net.core.somaxconn` allows.
    pub backlog: u32,
    /// `SO_REUSEADDR`.
    pub reuse_addr: bool,
    /// `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// `TCP_NODELAY` of every connection accepted.
    pub nodelay: bool,
    /// `IPV6_V6ONLY`, for an IPv6 address.
    pub v6_only: bool,
}

/// What waits at a connection to be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// Nothing has arrived.
    Nothing,
    /// Bytes.
    Data,
    /// The peer has ended its direction, and all its bytes were received.
    End,
}

/// How far the peer's kernel has what was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Bytes that were acknowledged since the connection was made.
    pub acknowledged: u64,
    /// Whether anything, the end of the stream included, was handed to the kernel and not acknowledged.
    pub outstanding: bool,
}
