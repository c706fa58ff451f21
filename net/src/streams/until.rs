//! The search for separators (asyncio `readuntil`).

use std::io;

use memchr::memmem::Finder;

use super::{chunk::Chunk, error::ReadError, reader::StreamReader, slot::Slot};

impl StreamReader {
    /// Everything up to the first of several separators and the separator itself (asyncio `readuntil` with a tuple).
    /// The shortest possible result wins: of two separators the one that ends first.
    ///
    /// Dropping the future loses nothing: what has arrived stays in the stream.
    ///
    /// ```
    /// # corio_net::doc_pair(async |mut reader, mut writer| {
    /// writer.write(b"one\r\ntwo\nthree;")?;
    /// let ends: [&[u8]; 3] = [b"\r\n", b"\n", b";"];
    /// assert_eq!(reader.readuntil_any(&ends).await?, b"one\r\n");
    /// assert_eq!(reader.readuntil_any(&ends).await?, b"two\n");
    /// assert_eq!(reader.readuntil_any(&ends).await?, b"three;");
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    /// As [`readuntil`](StreamReader::readuntil): an error of kind `InvalidInput` for an empty separator, and for none.
    /// Without a separator in the stream, [`ReadError::LimitOverrun`] counts the bytes in which not even the longest
    /// one can begin any more.
    pub async fn readuntil_any(&mut self, separators: &[&[u8]]) -> Result<Chunk, ReadError> {
        if separators.is_empty() || separators.iter().any(|separator| separator.is_empty()) {
            let text = if separators.is_empty() {
                "readuntil_any: there should be at least one separator"
            } else {
                "readuntil_any: each separator should be at least one byte long"
            };
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text).into());
        }
        let mut finders: Vec<Finder<'_>> = separators.iter().map(Finder::new).collect();
        // Of two that end together the shorter one is found.
        finders.sort_by_key(|finder| finder.needle().len());
        let mut searched = 0;
        self.wait(1, |slot| slot.find_any(&finders, &mut searched)).await?.0
    }
}

/// Result of a search. Its default is never used: the search handles the end of the stream itself.
pub(super) struct Found(pub(super) Result<Chunk, ReadError>);

impl Default for Found {
    fn default() -> Found {
        Found(Ok(Chunk::default()))
    }
}

impl Slot {
    /// Looks for a separator: the bytes with it, an error, or `None` to wait for more.
    pub(super) fn find(&mut self, finder: &Finder<'_>, searched: &mut usize) -> Option<Found> {
        let length = finder.needle().len();
        let found = finder.find(&self.receive.buf[*searched..]).map(|at| at + *searched);
        self.settle(found.map(|at| (at, at + length)), length, searched)
    }

    /// As `find`, for several separators, the shorter ones first.
    fn find_any(&mut self, finders: &[Finder<'_>], searched: &mut usize) -> Option<Found> {
        let unsearched = &self.receive.buf[*searched..];
        let places = finders.iter().filter_map(|finder| {
            let at = finder.find(unsearched)? + *searched;
            Some((at, at + finder.needle().len()))
        });
        let found = places.min_by_key(|(_, end)| *end);
        let longest = finders.last().map_or(0, |finder| finder.needle().len());
        self.settle(found, longest, searched)
    }

    /// After a search: `found` is where the separator begins and ends.
    #[inline(always)]
    fn settle(
        &mut self,
        found: Option<(usize, usize)>,
        longest: usize,
        searched: &mut usize,
    ) -> Option<Found> {
        let receive = &self.receive;
        if let Some((at, end)) = found {
            if at > receive.limit {
                return Some(Found(Err(ReadError::LimitOverrun { consumed: at })));
            }
            return Some(Found(Ok(self.take(end))));
        }
        *searched = (receive.buf.len() + 1).saturating_sub(longest);
        // Asked before the end, as in asyncio: whether that has come together with the data is chance.
        if *searched > receive.limit {
            return Some(Found(Err(ReadError::LimitOverrun { consumed: *searched })));
        }
        if !receive.at_end() {
            return None;
        }
        if let Some(e) = receive.error() {
            return Some(Found(Err(e.into())));
        }
        let partial = Vec::from(self.take(usize::MAX));
        Some(Found(Err(ReadError::IncompleteRead { partial, expected: None })))
    }
}
