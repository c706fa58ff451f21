//! The operations of children.

mod wait_exit;

pub(crate) use wait_exit::adopt;
