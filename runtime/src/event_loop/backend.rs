//! The kernel that a loop runs on: the choices, the selection, and its reason.

use std::{fmt, io};

use crate::kernel::ring::refusal::{Refusal, io_uring_disabled};

/// A kernel to run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// io_uring, or epoll if io_uring is refused or too old. A lack of memory or descriptors does not count as a
    /// refusal: building the loop fails.
    #[default]
    Auto,
    /// io_uring (Linux 6.1 or newer). If it is refused, building the loop fails.
    Uring,
    /// epoll. Makes no system call of io_uring: some filters kill a process that makes one.
    Epoll,
    /// The simulator: a virtual clock and an in-memory network. The same seed gives the same run.
    Sim {
        /// Decides the order and size of everything that may vary.
        seed: u64,
    },
}

/// Why a loop runs on its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// [`Builder::backend`](crate::Builder::backend) named it.
    AskedFor,
    /// The environment's `CORIO_BACKEND` named it.
    Environment,
    /// [`Backend::Auto`] chose io_uring, because the kernel supports it.
    Offered,
    /// [`Backend::Auto`] chose epoll, because io_uring was refused.
    #[non_exhaustive]
    Refused {
        /// The refused system call.
        call: &'static str,
        /// Its error number.
        errno: i32,
        /// `sysctl kernel.io_uring_disabled`, if it could be read.
        sysctl: Option<u8>,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Reason::AskedFor => f.write_str("asked for"),
            Reason::Environment => f.write_str("named by CORIO_BACKEND"),
            Reason::Offered => f.write_str("the kernel offers io_uring"),
            Reason::Refused { call, errno, sysctl } => {
                write!(f, "{call} was refused: {}", io::Error::from_raw_os_error(errno))?;
                match sysctl {
                    Some(value @ 1..) => write!(f, "; kernel.io_uring_disabled is {value}"),
                    Some(0) | None => Ok(()),
                }
            }
        }
    }
}

/// Which kernel a loop runs on, and why.
///
/// ```
/// use corio_runtime::{Backend, Reason, Runner};
/// let runner = Runner::builder().backend(Backend::Epoll).build()?;
/// assert_eq!((runner.backend().backend(), runner.backend().reason()), (Backend::Epoll, Reason::AskedFor));
/// assert_eq!(runner.backend().to_string(), "epoll (asked for)");
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendInfo {
    pub(super) backend: Backend,
    pub(super) reason: Reason,
}

impl BackendInfo {
    /// The kernel, never [`Backend::Auto`].
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Why the loop runs on this kernel.
    pub fn reason(&self) -> Reason {
        self.reason
    }
}

impl fmt::Display for BackendInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.backend {
            Backend::Auto => f.write_str("auto")?,
            Backend::Uring => f.write_str("io_uring")?,
            Backend::Epoll => f.write_str("epoll")?,
            Backend::Sim { seed } => write!(f, "simulator, seed {seed}")?,
        }
        write!(f, " ({})", self.reason)
    }
}

/// The kernel named by `asked` or by the environment: [`Backend::Auto`] if neither names one.
pub(super) fn named(asked: Backend) -> io::Result<(Backend, Reason)> {
    if asked != Backend::Auto {
        return Ok((asked, Reason::AskedFor));
    }
    let Some(named) = std::env::var_os("CORIO_BACKEND") else { return Ok((Backend::Auto, Reason::Offered)) };
    let named = named.to_string_lossy();
    if matches!(&*named, "" | "auto") {
        return Ok((Backend::Auto, Reason::Offered));
    }
    let backend = match (&*named, named.strip_prefix("sim:").map(str::parse)) {
        ("uring", _) => Backend::Uring,
        ("epoll", _) => Backend::Epoll,
        (_, Some(Ok(seed))) => Backend::Sim { seed },
        _ => {
            let text = format!("CORIO_BACKEND is '{named}': it must be auto, epoll, uring or sim:SEED");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
    };
    Ok((backend, Reason::Environment))
}

/// The reason for [`Backend::Auto`] to use epoll. Returns the refusal as an error if a resource is short: there may be
/// more of it later, and epoll may lack it, too.
pub(super) fn without_uring(refusal: Refusal) -> Result<Reason, Refusal> {
    match refusal.of_io_uring() {
        Some((call, errno)) => Ok(Reason::Refused { call, errno, sysctl: io_uring_disabled() }),
        None => Err(refusal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sysctl_is_named_where_it_may_be_the_reason() {
        let text = |sysctl| {
            let reason = Reason::Refused { call: "io_uring_setup", errno: libc::EPERM, sysctl };
            BackendInfo { backend: Backend::Epoll, reason }.to_string()
        };
        let refused = "epoll (io_uring_setup was refused: Operation not permitted (os error 1)";
        for value in [1, 2] {
            assert_eq!(text(Some(value)), format!("{refused}; kernel.io_uring_disabled is {value})"));
        }
        for allowed in [Some(0), None] {
            assert_eq!(text(allowed), format!("{refused})"));
        }
    }
}
