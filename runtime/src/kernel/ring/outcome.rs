//! What a call of a kernel came to.

/// What a call came to that never blocks.
pub(crate) enum Outcome<T = usize> {
    /// Nothing yet.
    Blocked,
    Ready(T),
    /// An error number.
    Failed(i32),
}
