//! Errors of `readexactly`, `readuntil` and `readline`.

use std::{fmt, io};

/// The error of `readexactly`, `readuntil` and `readline`.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The connection failed.
    Io(io::Error),
    /// The stream ended first (asyncio `IncompleteReadError`).
    IncompleteRead {
        /// The bytes before the end. They are no longer in the stream.
        partial: Vec<u8>,
        /// The number of bytes wanted; `None` if a separator was.
        expected: Option<usize>,
    },
    /// No separator within the stream's limit (asyncio `LimitOverrunError`).
    LimitOverrun {
        /// Bytes of the stream that are known to precede the separator.
        consumed: usize,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(e) => e.fmt(f),
            ReadError::IncompleteRead { partial, expected: Some(n) } => {
                write!(f, "{} bytes read on a total of {n} expected bytes", partial.len())
            }
            ReadError::IncompleteRead { partial, expected: None } => {
                write!(f, "{} bytes read on a total of undefined expected bytes", partial.len())
            }
            ReadError::LimitOverrun { consumed } => {
                write!(
                    f,
                    "no separator within the limit of the stream: {consumed} bytes come before it. The limit that was \
                    set, 65536 bytes by default, is raised by `limit(bytes)` of `Server::builder()`, \
                    `Connection::builder()` or `Command`"
                )
            }
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReadError::Io(e) => Some(e),
            _ => None,
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(e: io::Error) -> ReadError {
        ReadError::Io(e)
    }
}

impl From<ReadError> for io::Error {
    fn from(e: ReadError) -> io::Error {
        match e {
            ReadError::Io(e) => e,
            ReadError::IncompleteRead { .. } => io::Error::new(io::ErrorKind::UnexpectedEof, e),
            ReadError::LimitOverrun { .. } => io::Error::new(io::ErrorKind::InvalidData, e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overrun_names_the_limit_and_how_to_raise_it() {
        let text = ReadError::LimitOverrun { consumed: 70_000 }.to_string();
        for word in ["70000 bytes", "65536 bytes by default", "limit(bytes)", "Server::builder()"] {
            assert!(text.contains(word), "{text}");
        }
        assert_eq!(crate::streams::DEFAULT_LIMIT, 65536);
    }
}
