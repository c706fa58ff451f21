//! The outcome of one call of a kernel that executes operations by plain calls.

/// What a call came to that never blocks.
pub(crate) enum Outcome<T = usize> {
    /// Nothing yet.
    Blocked,
    Ready(T),
    /// An error number.
    Failed(i32),
}
