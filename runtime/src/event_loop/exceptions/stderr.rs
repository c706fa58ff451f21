//! Prints lines to standard error; it neither blocks nor panics, even if that is a pipe that is full or closed.
//!
//! Other processes share the open file description of descriptor 2, so its flags must not change: `O_NONBLOCK` would
//! break their writes. A pipe or terminal is opened again instead, which gives a non-blocking description of our own; a
//! socket takes `MSG_DONTWAIT`. If neither works, a piece is written only when `poll` reports room; then another writer
//! that takes the room in between can still make us block.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, IsTerminal, Write as _},
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::{FileTypeExt, OpenOptionsExt},
    },
    sync::{Mutex, TryLockError},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, send},
    unistd::write,
};

/// Bytes that may wait for standard error. A single line is cut to half of it.
const WAITING_MAX: usize = 64 * 1024;
/// `PIPE_BUF`: a pipe takes so much whole or not at all, and has room for it when `poll` reports room.
const PIECE: usize = 4096;
/// How long the end of a loop waits for standard error to take the remaining lines.
const LAST_WAIT: Duration = Duration::from_millis(100);
/// Interval of its tries. `poll` would not do: there may be room, but less than a line needs.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const PATH: &str = "/proc/self/fd/2";

/// Lines of a loop that were not printed yet.
#[derive(Default)]
pub(super) struct Outbox {
    lines: VecDeque<String>,
    /// Bytes of the first line that were printed.
    printed: usize,
    /// Lines dropped for lack of room.
    lost: u64,
}

impl Outbox {
    pub(super) fn push(&mut self, text: &str) {
        let line = line(text);
        if self.lines.iter().map(String::len).sum::<usize>() + line.len() > WAITING_MAX {
            self.lost += 1;
            return;
        }
        self.tell_lost();
        self.lines.push_back(line);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.lost == 0
    }

    /// Prints what standard error takes now.
    pub(super) fn flush(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let mut stderr = Stderr::open();
        while let Some(line) = self.lines.front() {
            let rest = &line.as_bytes()[self.printed..];
            match stderr.write(&rest[..rest.len().min(PIECE)]) {
                Ok(n) => self.printed += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                // Nobody will read it.
                Err(_) => return *self = Outbox::default(),
            }
            if self.printed == line.len() {
                self.lines.pop_front();
                self.printed = 0;
            }
            if self.lines.is_empty() {
                self.tell_lost();
            }
        }
    }

    /// Prints what standard error takes within `LAST_WAIT`; the rest is lost.
    pub(super) fn flush_at_the_end(&mut self) {
        let end = Instant::now() + LAST_WAIT;
        self.flush();
        while !self.is_empty() && Instant::now() < end {
            thread::sleep(LOOK_AGAIN);
            self.flush();
        }
        *self = Outbox::default();
    }

    fn tell_lost(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            self.lines.push_back(line(&format!("{lost} reports were lost: standard error took no more")));
        }
    }
}

/// The text as a line, cut to the maximal length.
fn line(text: &str) -> String {
    let most = (0..=text.len().min(WAITING_MAX / 2)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let cut = if most < text.len() { " ..." } else { "" };
    format!("corio: {}{cut}\n", &text[..most])
}

/// Standard error, non-blocking.
enum Stderr {
    /// A non-blocking description of our own.
    Own(File),
    /// The shared description.
    Shared,
}

impl Stderr {
    fn open() -> Stderr {
        let is_pipe = || fs::metadata(PATH).is_ok_and(|stderr| stderr.file_type().is_fifo());
        // Only these: a regular file opened again would be overwritten from its start.
        if !is_pipe() && !io::stderr().is_terminal() {
            return Stderr::Shared;
        }
        let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
        OpenOptions::new().write(true).custom_flags(flags).open(PATH).map_or(Stderr::Shared, Stderr::Own)
    }

    /// Writes part of `piece`, or fails with `WouldBlock`.
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if let Stderr::Own(file) = self {
            return file.write(piece);
        }
        let stderr = io::stderr();
        match send(stderr.as_fd().as_raw_fd(), piece, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
            Err(Errno::ENOTSOCK) => write_if_ready(&stderr, piece),
            sent => Ok(sent?),
        }
    }
}

/// Writes if there is room. The process's loops take turns, as `poll` is right for one writer only.
fn write_if_ready(stderr: &io::Stderr, piece: &[u8]) -> io::Result<usize> {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = match TURN.try_lock() {
        Err(TryLockError::WouldBlock) => return Err(ErrorKind::WouldBlock.into()),
        turn => turn,
    };
    let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO)?;
    match fds[0].revents() {
        // The reader is gone: a write would only raise SIGPIPE.
        Some(events) if events.intersects(PollFlags::POLLERR | PollFlags::POLLNVAL) => {
            Err(ErrorKind::BrokenPipe.into())
        }
        Some(events) if events.contains(PollFlags::POLLOUT) => Ok(write(stderr, piece)?),
        _ => Err(ErrorKind::WouldBlock.into()),
    }
}
