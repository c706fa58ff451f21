//! The common parts of this crate's errors.

/// Implements `Error` for `$name`, and its conversion to an `io::Error` of kind `$kind`; with `$text`, `Display`, too.
macro_rules! error {
    ($name:ident, $kind:ident, $text:literal) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str($text)
            }
        }

        $crate::error::error!($name, $kind);
    };
    ($name:ident, $kind:ident) => {
        impl std::error::Error for $name {}

        impl From<$name> for std::io::Error {
            fn from(e: $name) -> std::io::Error {
                std::io::Error::new(std::io::ErrorKind::$kind, e)
            }
        }
    };
}

pub(crate) use error;
