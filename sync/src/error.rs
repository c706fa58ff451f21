//! What the errors of this crate have in common.

/// Makes `$name` an error, which as an `io::Error` is of this kind; with this text, if there is one.
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
