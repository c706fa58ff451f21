//! The outcome of one nonblocking call, for the kernels that execute operations by plain calls.

/// The outcome of a call that never blocks.
pub(crate) enum Outcome<T = usize> {
    /// The call would block.
    Blocked,
    Ready(T),
    /// An error number.
    Failed(i32),
}
