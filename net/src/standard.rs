//! The standard streams of the process (asyncio has none that works for a file).

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    },
    sync::atomic::{AtomicBool, Ordering},
};

use corio_runtime::{Backend, backend, fd::require_kernel};

use crate::{
    ops::Way,
    pipe::way_of,
    streams::{DEFAULT_LIMIT, StreamReader, StreamWriter, TABLE},
};

/// Whether a stream of the standard input is open.
static OPEN: AtomicBool = AtomicBool::new(false);

/// The right to read the standard input, held by its stream.
#[derive(Debug)]
pub(crate) struct Standard(());

impl Standard {
    fn take() -> io::Result<Standard> {
        if OPEN.swap(true, Ordering::Relaxed) {
            let text = "stdin: there is a stream of the standard input already, and it may hold bytes of it";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        Ok(Standard(()))
    }
}

impl Drop for Standard {
    fn drop(&mut self) {
        OPEN.store(false, Ordering::Relaxed);
    }
}

/// The standard input as a stream: of a terminal, a pipe, a socket, a file or a device, as the program was started.
///
/// No flag of the descriptor changes, which other processes may share. Nothing is read before the first read, and then
/// in blocks. Dropping a read loses nothing, as with any [`StreamReader`]; dropping the reader loses what it had
/// received, so there is only one at a time. `std::io::stdin` has a buffer of its own, whose bytes do not come here.
/// Closing it leaves the descriptor open.
///
/// ```
/// corio_runtime::run(async {
///     let mut stdin = corio_net::stdin()?;
///     let mut stdout = corio_net::stdout()?;
///     assert!(corio_net::stdin().is_err(), "one at a time");
///     let copied = corio_net::copy(&mut stdin, &mut stdout).await?;
///     // What is written arrives before the end.
///     stdout.flush().await?;
///     eprintln!("{copied} bytes");
///     std::io::Result::Ok(())
/// }).unwrap();
/// ```
///
/// # Errors
/// [`ResourceBusy`](io::ErrorKind::ResourceBusy) while another reader of it is open, on any loop; for a directory; under
/// the simulator, and outside a running loop.
pub fn stdin() -> io::Result<StreamReader> {
    require_kernel("standard input")?;
    let standard = Standard::take()?;
    let (fd, way) = of(io::stdin(), OpenOptions::new().read(true))?;
    Ok(TABLE.with(|streams| streams.open_read_pipe(fd.into(), DEFAULT_LIMIT, way, Some(standard))))
}

/// The standard output as a stream, of whatever kind it is, with its flags as they are. `println!` works beside it: what
/// this stream was given leaves at the end of the turn.
///
/// There may be several. Dropping or closing one leaves the descriptor open. The end of the loop sends what was written
/// within the limits of [`Builder::linger`](corio_runtime::Builder::linger): for a reader that may take longer, such as a
/// pager, await [`flush`](StreamWriter::flush) before.
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
