//! The standard streams of programs that are started with a file, a pipe, a socket, a device or a terminal; and files
//! as streams.

mod common;

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    net::Shutdown,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    process::Stdio,
    thread,
    time::Duration,
};

use common::{Rng, Sequence, child, is_child, on, on_real, real_kernels};
use corio_net::{StreamWriter, connect_read_pipe, connect_write_pipe, copy, stderr, stdin, stdout};
use corio_runtime::{Backend, create_task, time::timeout, yield_now};
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    pty::openpty,
    sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr},
};

fn flags(fd: impl AsFd) -> OFlag {
    OFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GETFL).unwrap())
}

fn all_flags() -> [OFlag; 3] {
    [flags(io::stdin()), flags(io::stdout()), flags(io::stderr())]
}

/// A file that is gone with the value.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str, content: &[u8]) -> Temporary {
        let path = std::env::temp_dir().join(format!("corio-{}-{name}", std::process::id()));
        fs::write(&path, content).unwrap();
        Temporary(path)
    }

    fn open(&self) -> File {
        File::options().read(true).write(true).open(&self.0).unwrap()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The kernels, by the names that `CORIO_BACKEND` takes.
fn names() -> impl Iterator<Item = &'static str> {
    real_kernels().into_iter().map(|backend| if backend == Backend::Epoll { "epoll" } else { "uring" })
}

/// What the harness prints around it is not meant.
fn between(said: &[u8]) -> &[u8] {
    let place = |mark: &[u8]| {
        said.windows(3).position(|three| three == mark).unwrap_or_else(|| {
            panic!(
                "no {:?} in {} bytes: {}",
                String::from_utf8_lossy(mark),
                said.len(),
                String::from_utf8_lossy(said)
            )
        })
    };
    &said[place(b"<<<") + 3..place(b">>>")]
}

/// The program: copies its input to its output, by reads of which many are dropped.
fn copies() {
    let before = all_flags();
    corio_runtime::run(async {
        let (mut input, mut output) = (stdin().unwrap(), stdout().unwrap());
        assert_eq!(stdin().unwrap_err().kind(), ErrorKind::ResourceBusy);
        output.write("<<<").unwrap();
        let mut rng = Rng::new(9);
        loop {
            match timeout(rng.micros(), input.read(1 + rng.below(70_000))).await {
                Err(_) => {}
                Ok(data) => match data.unwrap() {
                    data if data.is_empty() => break,
                    data => output.write_all(data).await.unwrap(),
                },
            }
            assert_eq!(all_flags(), before, "while they are open");
        }
        output.write(">>>").unwrap();
        output.flush().await.unwrap();
        let mut error = stderr().unwrap();
        error.write("over").unwrap();
        drop((input, output));
        while stdin().is_err() {
            yield_now().await;
        }
    });
    assert_eq!(all_flags(), before, "after them");
    println!("still there");
}

/// Ends for a program: its input, which holds or gets `data`; its output; and what reads that.
type Ends = (OwnedFd, OwnedFd, Box<dyn FnOnce() -> Vec<u8>>);

fn files(data: &[u8]) -> Ends {
    let (from, to) = (Temporary::new("in", &[b"skipped", data].concat()), Temporary::new("out", b""));
    let (mut input, output) = (from.open(), to.open());
    input.seek(SeekFrom::Start(7)).unwrap();
    (
        input.into(),
        output.into(),
        Box::new(move || fs::read(&{ from }.0).map(|_| fs::read(&to.0).unwrap()).unwrap()),
    )
}

/// Feeds `writer` and reads `reader`, on threads.
fn served(
    data: &[u8],
    mut writer: impl Write + Send + 'static,
    mut reader: impl Read + Send + 'static,
) -> Box<dyn FnOnce() -> Vec<u8>> {
    let data = data.to_vec();
    thread::spawn(move || {
        for piece in data.chunks(30_011) {
            writer.write_all(piece).unwrap();
        }
    });
    let reading = thread::spawn(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        all
    });
    Box::new(move || reading.join().unwrap())
}

fn pipes(data: &[u8]) -> Ends {
    let ((input, feed), (said, output)) = (io::pipe().unwrap(), io::pipe().unwrap());
    (input.into(), output.into(), served(data, feed, said))
}

/// Somebody else has made them nonblocking.
fn nonblocking_pipes(data: &[u8]) -> Ends {
    let (input, output, said) = pipes(data);
    for end in [&input, &output] {
        fcntl(end, FcntlArg::F_SETFL(flags(end) | OFlag::O_NONBLOCK)).unwrap();
    }
    (input, output, said)
}

fn sockets(data: &[u8]) -> Ends {
    let ((input, feed), (said, output)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
    said.shutdown(Shutdown::Write).unwrap();
    (input.into(), output.into(), served(data, feed, said))
}

#[test]
fn a_program_reads_and_writes_whatever_it_was_started_with() {
    let name = "a_program_reads_and_writes_whatever_it_was_started_with";
    if is_child(name) {
        return copies();
    }
    let data = Sequence::default().take(1 << 20);
    type Kind = (&'static str, fn(&[u8]) -> Ends);
    let kinds: [Kind; 4] =
        [("files", files), ("pipes", pipes), ("nonblocking pipes", nonblocking_pipes), ("sockets", sockets)];
    for kernel in names() {
        for (kind, make) in kinds {
            let (input, output, said) = make(&data);
            let shared = [input.try_clone().unwrap(), output.try_clone().unwrap()];
            let before = [flags(&shared[0]), flags(&shared[1])];
            let mut program = child(name);
            program.env("CORIO_BACKEND", kernel).stdin(input).stdout(output).stderr(Stdio::piped());
            let ended = program.output().unwrap();
            // The command keeps its ends open.
            drop(program);
            assert_eq!([flags(&shared[0]), flags(&shared[1])], before, "{kind} on {kernel}");
            drop(shared);
            let errors = String::from_utf8_lossy(&ended.stderr);
            assert!(ended.status.success() && errors.ends_with("over"), "{kind} on {kernel}: {errors}");
            let said = said();
            assert!(between(&said) == data, "{kind} on {kernel}");
            assert!(String::from_utf8_lossy(&said).contains("still there"), "{kind} on {kernel}");
        }
    }
}

#[test]
fn the_null_device_is_an_input_and_an_output() {
    let name = "the_null_device_is_an_input_and_an_output";
    if is_child(name) {
        return copies();
    }
    for kernel in names() {
        let null = || File::options().read(true).write(true).open("/dev/null").unwrap();
        let mut program = child(name);
        program.env("CORIO_BACKEND", kernel).stdin(null()).stdout(null());
        let ended = program.output().unwrap();
        assert!(ended.status.success() && ended.stderr.ends_with(b"over"), "{ended:?}");
    }
}

/// The program: answers each line, at once.
fn answers() {
    let before = all_flags();
    corio_runtime::run(async {
        let (mut input, mut output) = (stdin().unwrap(), stdout().unwrap());
        output.write_all("<<<").await.unwrap();
        loop {
            // Nearly all of these are dropped while somebody types.
            let Ok(line) = timeout(Duration::from_micros(200), input.readline()).await else { continue };
            let line = line.unwrap();
            assert_eq!(all_flags(), before);
            output.write_all([b"got ", &line[..]].concat()).await.unwrap();
            if line == b"bye\n" {
                break;
            }
        }
        output.write_all(">>>").await.unwrap();
        output.flush().await.unwrap();
    });
    assert_eq!(all_flags(), before);
}

#[test]
fn a_program_talks_to_a_terminal() {
    let name = "a_program_talks_to_a_terminal";
    if is_child(name) {
        return answers();
    }
    for kernel in names() {
        let pty = openpty(None, None).unwrap();
        let mut raw = tcgetattr(&pty.slave).unwrap();
        cfmakeraw(&mut raw);
        tcsetattr(&pty.slave, SetArg::TCSANOW, &raw).unwrap();
        let before = flags(&pty.slave);
        let mut program = child(name);
        let ends = [(); 3].map(|()| pty.slave.try_clone().unwrap());
        let [input, output, errors] = ends;
        program.env("CORIO_BACKEND", kernel).stdin(input).stdout(output).stderr(errors);
        let mut running = program.spawn().unwrap();
        let mut terminal = File::from(pty.master);
        let mut said = Vec::new();
        let mut until_said = |terminal: &mut File, text: &str| {
            while !said.windows(text.len()).any(|part| part == text.as_bytes()) {
                let mut part = [0; 512];
                let count = terminal.read(&mut part).unwrap();
                said.extend_from_slice(&part[..count]);
            }
        };
        until_said(&mut terminal, "<<<");
        for word in ["one", "two two", "bye"] {
            // Typed slowly.
            for byte in format!("{word}\n").bytes() {
                terminal.write_all(&[byte]).unwrap();
                thread::sleep(Duration::from_millis(1));
            }
            until_said(&mut terminal, &format!("got {word}"));
        }
        until_said(&mut terminal, ">>>");
        until_said(&mut terminal, "1 passed");
        assert!(running.wait().unwrap().success());
        assert_eq!(flags(&pty.slave), before, "{kernel}");
    }
}

#[test]
fn the_simulator_has_no_standard_streams_and_neither_has_no_loop() {
    on(Backend::Sim { seed: 1 }).run(async {
        assert_eq!(stdin().unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(stdout().unwrap_err().kind(), ErrorKind::Unsupported);
    });
    assert!(stdin().is_err() && stderr().is_err());
}

#[test]
fn files_are_read_and_written_at_their_position() {
    on_real(async || {
        let data = Sequence::default().take(3 << 20);
        let (from, to) = (Temporary::new("from", &data), Temporary::new("to", b"0123456789"));
        let (mut input, mut output) = (from.open(), to.open());
        input.seek(SeekFrom::Start(5)).unwrap();
        output.seek(SeekFrom::Start(3)).unwrap();
        let mut place = input.try_clone().unwrap();
        let mut reader = connect_read_pipe(input.into()).unwrap();
        let mut writer = connect_write_pipe(output.into()).unwrap();
        assert_eq!(copy(&mut reader, &mut writer).await.unwrap(), data.len() as u64 - 5);
        writer.write_eof().unwrap();
        writer.wait_closed().await.unwrap();
        assert!(fs::read(&to.0).unwrap() == [b"012", &data[5..]].concat());
        assert_eq!(place.stream_position().unwrap(), data.len() as u64);
        let mut writer =
            connect_write_pipe(File::options().append(true).open(&to.0).unwrap().into()).unwrap();
        writer.write_all(vec![b'!'; 2 << 20]).await.unwrap();
        writer.write_all("end").await.unwrap();
        writer.flush().await.unwrap();
        let written = fs::read(&to.0).unwrap();
        assert!(written.len() == data.len() - 2 + (2 << 20) + 3 && written.ends_with(b"!end"));
    });
}

#[test]
fn reads_of_a_file_that_are_dropped_lose_nothing() {
    on_real(async || {
        let file = Temporary::new("dropped", &Sequence::default().take(1 << 20));
        let mut reader = connect_read_pipe(file.open().into()).unwrap();
        let (mut sequence, mut rng) = (Sequence::default(), Rng::new(4));
        loop {
            match timeout(rng.micros(), reader.read(1 + rng.below(50_000))).await {
                Err(_) => {}
                Ok(data) => match data.unwrap() {
                    data if data.is_empty() => break,
                    data => sequence.expect(&data),
                },
            }
        }
        assert_eq!(sequence.at, 1 << 20);
        assert!(reader.at_eof());
    });
}

#[test]
fn a_file_that_cannot_be_read_or_written_is_an_error() {
    on_real(async || {
        let file = Temporary::new("refused", b"data");
        let mut writer = connect_write_pipe(File::open(&file.0).unwrap().into()).unwrap();
        writer.write("x").unwrap();
        assert_eq!(writer.flush().await.unwrap_err().raw_os_error(), Some(libc::EBADF));
        let only = File::options().write(true).open(&file.0).unwrap();
        let mut reader = connect_read_pipe(only.into()).unwrap();
        assert_eq!(reader.read(1).await.unwrap_err().raw_os_error(), Some(libc::EBADF));
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut writer = connect_write_pipe(full.into()).unwrap();
        writer.write("x").unwrap();
        assert_eq!(writer.flush().await.unwrap_err().kind(), ErrorKind::StorageFull);
    });
}

/// What is written with `writing` is in the file once the loop has ended.
fn ends_with_all(name: &str, writing: impl AsyncFn(StreamWriter)) {
    for backend in real_kernels() {
        let file = Temporary::new(name, b"");
        on(backend).run(async { writing(connect_write_pipe(file.open().into()).unwrap()).await });
        assert!(
            fs::read(&file.0).unwrap() == [b"begin", &[b'x'; 3 << 20][..], b"end"].concat(),
            "{backend:?}"
        );
    }
}

fn write_in_parts(writer: &mut StreamWriter) {
    writer.write("begin").unwrap();
    writer.write(vec![b'x'; 3 << 20]).unwrap();
    writer.write("end").unwrap();
}

#[test]
fn what_was_written_to_a_file_is_there_after_the_end_of_the_loop() {
    ends_with_all("end", async |mut writer| write_in_parts(&mut writer));
}

#[test]
fn a_write_waits_for_a_thread_also_while_the_loop_ends() {
    ends_with_all("threads", async |mut writer| {
        // More calls than there are threads.
        for _ in 0..80 {
            create_task(corio_runtime::to_thread(|| thread::sleep(Duration::from_millis(10)))).detach();
        }
        yield_now().await;
        write_in_parts(&mut writer);
        yield_now().await;
    });
}

#[test]
fn waiting_at_a_nonblocking_pipe_takes_no_turns() {
    on_real(async || {
        let (read, mut write) = io::pipe().unwrap();
        fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let mut reader = connect_read_pipe(read.into()).unwrap();
        let before = corio_runtime::metrics().turns;
        assert!(timeout(Duration::from_millis(100), reader.read(1)).await.is_err());
        let turns = corio_runtime::metrics().turns - before;
        assert!(turns < 20, "{turns}");
        write.write_all(b"x").unwrap();
        assert_eq!(reader.read(1).await.unwrap(), b"x");

        let (read, write) = io::pipe().unwrap();
        fcntl(&write, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let mut writer = connect_write_pipe(write.into()).unwrap();
        writer.write(vec![1; 1 << 20]).unwrap();
        assert!(timeout(Duration::from_millis(50), writer.flush()).await.is_err());
        let before = corio_runtime::metrics().turns;
        assert!(timeout(Duration::from_millis(100), writer.flush()).await.is_err());
        let turns = corio_runtime::metrics().turns - before;
        assert!(turns < 20, "{turns}");
        let reading = thread::spawn(move || io::read_to_string(read).unwrap().len());
        writer.close();
        writer.wait_closed().await.unwrap();
        assert_eq!(reading.join().unwrap(), 1 << 20);
    });
}
