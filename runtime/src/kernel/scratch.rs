//! Memory of an entry's own encoding, beside the operation's.

/// Lives as long as the operation.
pub(crate) struct Scratch {
    pub(crate) header: libc::msghdr,
    pub(crate) _parts: Vec<libc::iovec>,
}
