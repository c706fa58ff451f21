//! The standard streams of the process (asyncio has none that works for a file).

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    },
};

use corio_runtime::{Backend, backend, fd::require_kernel};

use crate::{
    ops::Way,
    pipe::way_of,
    streams::{DEFAULT_LIMIT, InputClaim, StreamReader, StreamWriter, TABLE},
};

/// The standard input as a stream: of a terminal, a pipe, a socket, a file or a device, as the program was started.
///
/// No flag of the descriptor changes, which other processes may share. Nothing is read before the first read, and then
/// in blocks. Dropping a read loses nothing, as with any [`StreamReader`]; dropping the reader loses what it had
/// received, so there is only one at a time. `std::io::stdin` has a buffer of its own, whose bytes do not come here.
/// Closing it leaves the descriptor open.
///
/// ```
/// corio_runtime::run(async {
///     let stdin = corio_net::stdin()?;
///     let second = corio_net::stdin().unwrap_err();
///     assert_eq!(second.kind(), std::io::ErrorKind::ResourceBusy);
///     assert!(!stdin.at_eof(), "nothing was read yet");
///     std::io::Result::Ok(())
/// }).unwrap();
/// ```
///
/// A program that passes its input on:
///
/// ```no_run
/// corio_runtime::run(async {
///     let (mut stdin, mut stdout) = (corio_net::stdin()?, corio_net::stdout()?);
///     corio_net::copy(&mut stdin, &mut stdout).await?;
///     // What is written arrives before the end.
///     stdout.flush().await
/// }).unwrap();
/// ```
///
/// # Errors
/// [`ResourceBusy`](io::ErrorKind::ResourceBusy) while another reader of it is open, on any loop; for a directory;
/// under the simulator, and outside a running loop.
pub fn stdin() -> io::Result<StreamReader> {
    require_kernel("standard input")?;
    let claim = InputClaim::take()?;
    let (fd, way) = of(io::stdin(), OpenOptions::new().read(true))?;
    Ok(TABLE.with(|streams| streams.open_read_pipe(fd.into(), DEFAULT_LIMIT, way, Some(claim))))
}

/// The standard output as a stream, of whatever kind it is, with its flags as they are. `println!` works beside it:
/// what this stream was given leaves at the end of the turn.
///
/// There may be several. Dropping or closing one leaves the descriptor open. The end of the loop sends what was
/// written within the limits of [`Builder::linger`](corio_runtime::Builder::linger), half a second without a byte
/// moving: for a reader that may take longer, such as a pager, await [`flush`](StreamWriter::flush) before.
///
/// ```
/// corio_runtime::run(async {
///     let mut stdout = corio_net::stdout()?;
///     stdout.write_all("hello\n").await?;
///     stdout.flush().await?;
///     assert_eq!(stdout.get_write_buffer_size()?, 0);
///     std::io::Result::Ok(())
/// }).unwrap();
/// ```
///
/// # Errors
/// Under the simulator, and outside a running loop.
pub fn stdout() -> io::Result<StreamWriter> {
    writer(io::stdout())
}

/// The standard error as a stream, as [`stdout`].
///
/// ```
/// corio_runtime::run(async {
///     let mut stderr = corio_net::stderr()?;
///     stderr.write_all("a warning\n").await?;
///     stderr.close();
///     stderr.wait_closed().await?;
///     eprintln!("the descriptor is still open");
///     std::io::Result::Ok(())
/// }).unwrap();
/// ```
///
/// # Errors
/// As [`stdout`].
pub fn stderr() -> io::Result<StreamWriter> {
    writer(io::stderr())
}

fn writer(shared: impl AsFd) -> io::Result<StreamWriter> {
    require_kernel("standard output")?;
    let (fd, way) = of(shared, OpenOptions::new().write(true))?;
    Ok(TABLE.with(|streams| streams.open_write_pipe(fd.into(), way)))
}

/// A descriptor of its own for a stream, and how it is read and written. The epoll kernel sets `O_NONBLOCK`, so pipes,
/// terminals and memory devices are opened once more for it. What cannot be (a pipe of another user) goes by threads.
fn of(shared: impl AsFd, options: &OpenOptions) -> io::Result<(OwnedFd, Way)> {
    let own = File::from(shared.as_fd().try_clone_to_owned()?);
    let way = way_of(&own)?;
    if way != Way::Pipe || backend().backend() != Backend::Epoll {
        return Ok((own.into(), way));
    }
    Ok(match reopened(&own, options) {
        Some(reopened) => (reopened.into(), Way::Pipe),
        None => (own.into(), Way::Thread),
    })
}

/// The controlling side of pseudo-terminals: opening it makes another terminal.
const PTMX: u64 = libc::makedev(5, 2);
/// The major number of `/dev/null`, `/dev/zero` and such. Of other devices an open may have effects.
const MEMORY: u32 = 1;

fn reopened(own: &File, options: &OpenOptions) -> Option<File> {
    let meta = own.metadata().ok()?;
    let device = meta.rdev();
    let terminal = own.is_terminal() && device != PTMX;
    if !meta.file_type().is_fifo() && !terminal && libc::major(device) != MEMORY {
        return None;
    }
    let mut options = options.clone();
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    options.open(format!("/proc/self/fd/{}", own.as_raw_fd())).ok()
}

#[cfg(test)]
mod tests {
    use std::{io::Read, time::Duration};

    use corio_runtime::{Runner, time::timeout};

    use super::*;

    fn on_both(test: impl AsyncFn()) {
        for backend in [Backend::Uring, Backend::Epoll] {
            if let Ok(mut runner) = Runner::builder().backend(backend).build() {
                runner.run(test());
            }
        }
    }

    /// A pipe whose ends go by threads, as those of another user do.
    fn pipe() -> (io::PipeReader, io::PipeWriter, StreamReader, StreamWriter) {
        let (read, write) = io::pipe().unwrap();
        let (reads, writes): (OwnedFd, OwnedFd) =
            (read.try_clone().unwrap().into(), write.try_clone().unwrap().into());
        TABLE.with(|streams| {
            let reader = streams.open_read_pipe(reads.into(), DEFAULT_LIMIT, Way::Thread, None);
            (read, write, reader, streams.open_write_pipe(writes.into(), Way::Thread))
        })
    }

    #[test]
    fn a_pipe_that_goes_by_threads_brings_everything_whatever_is_dropped() {
        on_both(async || {
            let (read, write, mut reader, mut writer) = pipe();
            drop((read, write));
            let sent: Vec<u8> = (0..900_000_u32).map(|n| (n / 7) as u8).collect();
            writer.write(&sent[..500_000]).unwrap();
            writer.write(sent[500_000..].to_vec()).unwrap();
            writer.write_eof().unwrap();
            let mut got = Vec::new();
            for n in 0_u64.. {
                match timeout(Duration::from_micros(n % 60), reader.read(70_000)).await {
                    Err(_) => {}
                    Ok(data) => match data.unwrap() {
                        data if data.is_empty() => break,
                        data => got.extend_from_slice(&data),
                    },
                }
            }
            assert!(got == sent);
            writer.wait_closed().await.unwrap();
        });
    }

    #[test]
    fn a_dropped_reader_that_goes_by_threads_leaves_what_comes_to_others() {
        on_both(async || {
            let (mut read, write, mut reader, mut writer) = pipe();
            assert!(timeout(Duration::from_millis(5), reader.read(1)).await.is_err());
            drop(reader);
            corio_runtime::time::sleep(Duration::from_millis(5)).await;
            writer.write_all("for the next").await.unwrap();
            writer.close();
            writer.wait_closed().await.unwrap();
            drop(write);
            let mut text = String::new();
            read.read_to_string(&mut text).unwrap();
            assert_eq!(text, "for the next");
        });
    }

    #[test]
    fn a_pipe_without_readers_breaks_a_writer_that_goes_by_threads() {
        on_both(async || {
            let (read, _write, reader, mut writer) = pipe();
            drop((read, reader));
            corio_runtime::time::sleep(Duration::from_millis(5)).await;
            writer.write("x").unwrap();
            assert_eq!(writer.flush().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        });
    }

    #[test]
    fn pipes_and_terminals_are_opened_once_more_and_other_devices_are_not() {
        let (read, write) = io::pipe().unwrap();
        let reads = reopened(&File::from(OwnedFd::from(read)), OpenOptions::new().read(true));
        let writes = reopened(&File::from(OwnedFd::from(write)), OpenOptions::new().write(true));
        assert!(reads.is_some() && writes.is_some());
        assert!(reopened(&File::open("/dev/null").unwrap(), OpenOptions::new().read(true)).is_some());
        let other = File::options().read(true).write(true).open("/dev/ptmx").unwrap();
        assert!(reopened(&other, OpenOptions::new().read(true)).is_none());
    }
}
