//! The errors of several addresses as one.

use std::{error::Error, fmt, io};

/// Why none of several addresses could be connected to: what is inside the [`io::Error`] of
/// [`open_connection`](crate::open_connection) (asyncio `all_errors=True`).
///
/// Its text is asyncio's: "Multiple exceptions: …", or that of the first error if all are the same.
///
/// ```
/// use corio_net::{ConnectErrors, open_connection};
/// use std::{io::ErrorKind, net::SocketAddr};
/// corio_runtime::run(async {
///     let nobody = ["127.0.0.1:1", "127.0.0.1:2"].map(|addr| addr.parse::<SocketAddr>().unwrap());
///     let error = open_connection(nobody).await.unwrap_err();
///     let all = error.get_ref().unwrap().downcast_ref::<ConnectErrors>().unwrap();
///     for (addr, error) in nobody.iter().zip(all.errors()) {
///         assert!(error.to_string().starts_with(&format!("cannot connect to {addr}: ")));
///         assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
///     }
/// });
/// ```
pub struct ConnectErrors(Vec<io::Error>);

impl ConnectErrors {
    /// The errors, in the order of their addresses: at least two.
    pub fn errors(&self) -> &[io::Error] {
        &self.0
    }
}

/// All that was tried has failed. Of the kind of the first error.
pub(super) fn of_all(mut errors: Vec<(usize, io::Error)>) -> io::Error {
    errors.sort_by_key(|(place, _)| *place);
    let mut errors: Vec<io::Error> = errors.into_iter().map(|(_, error)| error).collect();
    if errors.len() == 1 {
        return errors.remove(0);
    }
    let kind = errors.first().map_or(io::ErrorKind::NotFound, io::Error::kind);
    io::Error::new(kind, ConnectErrors(errors))
}

impl fmt::Display for ConnectErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        if texts.iter().all(|text| *text == texts[0]) {
            texts.truncate(1);
            return f.write_str(&texts.concat());
        }
        write!(f, "Multiple exceptions: {}", texts.join(", "))
    }
}

/// An `Err` returned by `main` is printed in this form, so it shows the text.
impl fmt::Debug for ConnectErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_string().fmt(f)
    }
}

impl Error for ConnectErrors {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.first().map(|first| first as &(dyn Error + 'static))
    }
}
