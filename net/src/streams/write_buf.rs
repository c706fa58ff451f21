//! What can be written.

use bytes::Bytes;

use super::chunk::Chunk;

/// Data to write. Borrowed data is copied; owned data is sent without a copy.
#[derive(Debug)]
#[non_exhaustive]
pub enum WriteBuf<'a> {
    /// Copied.
    Borrowed(&'a [u8]),
    /// Sent without a copy.
    Vec(Vec<u8>),
    /// Received data, sent on without a copy.
    Chunk(Chunk),
    /// Sent without a copy.
    Bytes(Bytes),
}

impl<'a> From<&'a [u8]> for WriteBuf<'a> {
    fn from(data: &'a [u8]) -> Self {
        WriteBuf::Borrowed(data)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for WriteBuf<'a> {
    fn from(data: &'a [u8; N]) -> Self {
        WriteBuf::Borrowed(data)
    }
}

impl<'a> From<&'a Vec<u8>> for WriteBuf<'a> {
    fn from(data: &'a Vec<u8>) -> Self {
        WriteBuf::Borrowed(data)
    }
}

impl<'a> From<&'a str> for WriteBuf<'a> {
    fn from(data: &'a str) -> Self {
        WriteBuf::Borrowed(data.as_bytes())
    }
}

impl<'a> From<&'a String> for WriteBuf<'a> {
    fn from(data: &'a String) -> Self {
        WriteBuf::Borrowed(data.as_bytes())
    }
}

impl<'a> From<&'a Chunk> for WriteBuf<'a> {
    fn from(data: &'a Chunk) -> Self {
        WriteBuf::Borrowed(data)
    }
}

impl From<Vec<u8>> for WriteBuf<'_> {
    fn from(data: Vec<u8>) -> Self {
        WriteBuf::Vec(data)
    }
}

impl From<String> for WriteBuf<'_> {
    fn from(data: String) -> Self {
        WriteBuf::Vec(data.into_bytes())
    }
}

impl From<Chunk> for WriteBuf<'_> {
    fn from(data: Chunk) -> Self {
        WriteBuf::Chunk(data)
    }
}

impl From<Bytes> for WriteBuf<'_> {
    fn from(data: Bytes) -> Self {
        WriteBuf::Bytes(data)
    }
}
