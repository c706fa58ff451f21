//! Types of the socket calls: the options of a listener, the state of a connection.

/// Options of a listening socket.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// The most connections that wait to be accepted: limited to 4096 and to `net.core.somaxconn`.
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

/// The unread data of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// Nothing has arrived.
    Nothing,
    /// Bytes have arrived.
    Data,
    /// The peer has ended its direction, and all its bytes have been received.
    End,
}

/// How much sent data the peer's kernel has acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Bytes acknowledged since the connection was made.
    pub acknowledged: u64,
    /// Whether data, or the end of the stream, was passed to the kernel and is not acknowledged.
    pub outstanding: bool,
}
