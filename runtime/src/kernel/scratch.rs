//! Memory that an SQE needs besides its operation: the header of a vectored send.

/// Lives as long as the operation.
pub(crate) struct Scratch {
    pub(crate) header: libc::msghdr,
    pub(crate) _parts: Vec<libc::iovec>,
}
