//! Errors with a better text than the kernel's, and the kernel's error as their cause.

use std::{error::Error, fmt, io};

/// `cause` with a better text: an error of the same kind, with `cause` as its `source()`, so that its `raw_os_error`
/// can be found. The text should include that of `cause`, as most programs print no sources.
///
/// ```
/// use std::{error::Error, io};
/// let refused = io::Error::from_raw_os_error(111);
/// let text = format!("cannot connect to [::1]:80: {refused}");
/// let error = corio_runtime::error::explain(refused, text);
/// assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
/// assert_eq!(error.to_string(), "cannot connect to [::1]:80: Connection refused (os error 111)");
/// let cause = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
/// assert_eq!(cause.raw_os_error(), Some(111));
/// ```
pub fn explain(cause: io::Error, text: impl Into<String>) -> io::Error {
    io::Error::new(cause.kind(), Explained { text: text.into(), cause })
}

struct Explained {
    text: String,
    cause: io::Error,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An `Err` returned by `main` is printed in this form, so it shows the text.
impl fmt::Debug for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl Error for Explained {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

/// `e` itself if it is an `io::Error`, otherwise an `io::Error` that contains it.
pub(crate) fn into_io(e: impl Error + Send + Sync + 'static) -> io::Error {
    let boxed: Box<dyn Error + Send + Sync> = Box::new(e);
    boxed.downcast::<io::Error>().map_or_else(io::Error::other, |e| *e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_another_type_is_held_and_one_of_io_stays_as_it_is() {
        assert_eq!(into_io(io::Error::from_raw_os_error(13)).raw_os_error(), Some(13));
        assert!(into_io(fmt::Error).get_ref().unwrap().is::<fmt::Error>());
        assert_eq!(format!("{:?}", explain(io::ErrorKind::NotFound.into(), "no \"x\"")), {
            "Custom { kind: NotFound, error: \"no \\\"x\\\"\" }"
        });
    }
}
