//! Streams on pipes, terminals, files and other descriptors that are not connections (asyncio `connect_read_pipe`).

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::FileTypeExt},
};

use corio_runtime::fd::{Fd, require_kernel};

use crate::{
    connect::check_limit,
    ops::Way,
    streams::{DEFAULT_LIMIT, StreamReader, StreamWriter, TABLE},
};

/// A reader of a pipe's reading end, a terminal or another character device, or a file (asyncio `connect_read_pipe`,
/// which refuses files). It reads only while a task waits for data.
///
/// A file is read from its position, which moves, by threads of the loop's pool. A loop on io_uring or epoll waits for
/// everything else.
///
/// On epoll, as in asyncio, a pipe or device is set to `O_NONBLOCK` for good, which every process that shares it sees.
/// A terminal keeps its flags, as it is opened once more, unless that fails or it is the controlling side of a
/// pseudo-terminal. On io_uring nothing is changed.
///
/// ```
/// use std::io::Write;
/// corio_runtime::run(async {
///     let (read, mut write) = std::io::pipe()?;
///     let mut reader = corio_net::connect_read_pipe(read.into())?;
///     write.write_all(b"line\nrest")?;
///     drop(write);
///     assert_eq!(reader.readline().await?, b"line\n");
///     assert_eq!(reader.read_to_end().await?, b"rest");
///     std::io::Result::Ok(())
/// }).unwrap();
/// ```
///
/// # Errors
/// For a directory, under the simulator, and outside a running loop.
pub fn connect_read_pipe(fd: OwnedFd) -> io::Result<StreamReader> {
    connect_read_pipe_with_limit(fd, DEFAULT_LIMIT)
}

/// As [`connect_read_pipe`], with the limit of [`readline`](StreamReader::readline) and
/// [`readuntil`](StreamReader::readuntil), in bytes.
///
/// # Errors
/// As [`connect_read_pipe`], and for a limit of 0.
pub fn connect_read_pipe_with_limit(fd: OwnedFd, limit: usize) -> io::Result<StreamReader> {
    check_limit(limit)?;
    let (fd, way) = checked(fd)?;
    Ok(TABLE.with(|streams| streams.open_read_pipe(fd, limit, way, None)))
}

/// A writer of a pipe's writing end, a terminal or another character device, or a file (asyncio `connect_write_pipe`,
/// which refuses files). A file is written at its position, or at its end if it was opened for that, by threads.
///
/// [`write_eof`](StreamWriter::write_eof) and [`close`](StreamWriter::close) do the same. On epoll it sets `O_NONBLOCK`
/// as [`connect_read_pipe`] does.
///
/// A write to a pipe without readers fails with `BrokenPipe`. Before Linux 6.18 it also raises SIGPIPE, which Rust
/// programs ignore by default; a socket never raises it.
///
/// ```
/// use std::io::Read;
/// corio_runtime::run(async {
///     let (mut read, write) = std::io::pipe()?;
///     let mut writer = corio_net::connect_write_pipe(write.into())?;
///     writer.write_all("text").await?;
///     writer.close();
///     writer.wait_closed().await?;
///     let mut text = String::new();
///     read.read_to_string(&mut text)?;
///     assert_eq!(text, "text");
///     std::io::Result::Ok(())
/// }).unwrap();
/// ```
///
/// # Errors
/// For a directory, under the simulator, and outside a running loop.
pub fn connect_write_pipe(fd: OwnedFd) -> io::Result<StreamWriter> {
    let (fd, way) = checked(fd)?;
    Ok(TABLE.with(|streams| streams.open_write_pipe(fd, way)))
}

fn checked(fd: OwnedFd) -> io::Result<(Fd, Way)> {
    require_kernel("pipes")?;
    let file = File::from(fd);
    let way = way_of(&file)?;
    Ok((Fd::from(OwnedFd::from(file)), way))
}

/// How the descriptor is read and written. Kernels do not wait for a file or a disk: that is for threads.
pub(crate) fn way_of(file: &File) -> io::Result<Way> {
    let kind = file.metadata()?.file_type();
    if kind.is_socket() {
        return Ok(Way::Socket);
    }
    if kind.is_fifo() || kind.is_char_device() {
        return Ok(Way::Pipe);
    }
    if kind.is_file() || kind.is_block_device() {
        return Ok(Way::Thread);
    }
    let what = if kind.is_dir() { "directory" } else { "descriptor of this kind" };
    let text = format!("a {what} is no pipe, terminal, socket or file");
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}
