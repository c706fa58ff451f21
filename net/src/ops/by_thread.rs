//! A read or a write that may block, by a thread of the loop's pool: regular files, for which no kernel waits. The loop
//! waits until there is something to read, so that a read that is given up has taken nothing.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Write},
    thread,
    time::Duration,
};

use corio_runtime::{fd::Fd, op::Sqe};

use super::segment::Pieces;
use crate::streams::Chunk;

/// The most bytes that a thread writes before the loop hears of it.
const WRITE_MAX: usize = 1 << 20;
/// Before another try on a descriptor that somebody made nonblocking.
const PAUSE: Duration = Duration::from_millis(1);

/// See the head of the file.
pub(crate) struct ByThread {
    pub(crate) fd: Fd,
    pub(crate) slot: u32,
    pub(crate) work: Work,
}

/// What the thread does.
pub(crate) enum Work {
    /// Up to so many bytes into the block.
    Read(Chunk, usize),
    Write(Pieces),
}

impl ByThread {
    /// What comes before the thread.
    pub(crate) fn entry(&self) -> Sqe<'_> {
        match self.work {
            Work::Read(..) => Sqe::poll_readable(&self.fd),
            Work::Write(_) => Sqe::nop(),
        }
    }
}

impl Work {
    /// Does it, on the thread: the count, or a negated error number.
    pub(crate) fn run(&mut self, file: &File) -> i32 {
        let done = match self {
            Work::Read(block, size) => read(file, &mut block.block_mut()[..*size]),
            Work::Write(pieces) => write(file, pieces),
        };
        match done {
            Ok(count) => i32::try_from(count).unwrap_or(i32::MAX),
            Err(e) => -e.raw_os_error().unwrap_or(libc::EIO),
        }
    }
}

fn read(mut file: &File, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(into) {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Writes all, up to the limit; the count if something was written before an error.
fn write(mut file: &File, pieces: &Pieces) -> io::Result<usize> {
    let mut written = 0;
    for piece in pieces.iter() {
        let mut rest = piece;
        while !rest.is_empty() {
            if written >= WRITE_MAX {
                return Ok(written);
            }
            match file.write(&rest[..rest.len().min(WRITE_MAX)]) {
                Ok(0) => return if written > 0 { Ok(written) } else { Err(ErrorKind::WriteZero.into()) },
                Ok(count) => (rest, written) = (&rest[count..], written + count),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
                Err(_) if written > 0 => return Ok(written),
                Err(e) => return Err(e),
            }
        }
    }
    Ok(written)
}
