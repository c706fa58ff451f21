//! Streams on pipes: backpressure, ends, broken pipes.

mod common;

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    thread,
    time::Duration,
};

use common::{in_own_process, open_fds, pattern, until};
use corio_net::{
    StreamReader, StreamWriter, connect_read_pipe, connect_read_pipe_with_limit, connect_write_pipe,
};
use corio_runtime::{
    Backend, Runner, create_task, run,
    time::{sleep, timeout},
    yield_now,
};

fn pipe() -> (StreamReader, StreamWriter) {
    let (read, write) = io::pipe().unwrap();
    (connect_read_pipe(read.into()).unwrap(), connect_write_pipe(write.into()).unwrap())
}

#[test]
fn d4_megabytes_pass_a_pipe_byte_exact_and_in_order() {
    run(async {
        let (mut reader, mut writer) = pipe();
        let sent = pattern(9 << 20, 1);
        let expected = sent.clone();
        let writing = create_task(async move {
            // Pieces of all sizes, owned and copied, so that batches have several segments.
            for (n, piece) in sent.chunks(33_333).enumerate() {
                if n % 2 == 0 {
                    writer.write(piece).unwrap()
                } else {
                    writer.write(piece.to_vec()).unwrap()
                }
                if n % 5 == 0 {
                    writer.drain().await.unwrap();
                }
            }
            writer.close();
            writer.wait_closed().await.unwrap();
        });
        assert!(reader.read_to_end().await.unwrap() == expected);
        writing.await.unwrap();
    });
}

#[test]
fn a3_reads_of_a_pipe_that_are_cancelled_lose_nothing() {
    run(async {
        let (mut reader, mut writer) = pipe();
        let expected = pattern(300_000, 2);
        let sent = expected.clone();
        let writing = create_task(async move {
            for piece in sent.chunks(700) {
                writer.write(piece).unwrap();
                yield_now().await;
            }
        });
        let mut got = Vec::new();
        let mut n = 1;
        while got.len() < expected.len() {
            n = n * 7 % 1009;
            if let Ok(data) = timeout(Duration::from_micros(n as u64 % 50), reader.read(n)).await {
                got.extend_from_slice(&data.unwrap());
            }
        }
        assert!(got == expected);
        writing.await.unwrap();
    });
}

#[test]
fn k2_a_pipe_that_nobody_reads_holds_the_writer_back() {
    run(async {
        let (read, write) = io::pipe().unwrap();
        let mut writer = connect_write_pipe(write.into()).unwrap();
        writer.write(vec![1; 1 << 20]).unwrap();
        assert!(timeout(Duration::from_millis(20), writer.drain()).await.is_err());
        let reading = thread::spawn(move || {
            let mut read = read;
            let mut all = Vec::new();
            read.read_to_end(&mut all).unwrap();
            all.len()
        });
        writer.drain().await.unwrap();
        writer.close();
        writer.wait_closed().await.unwrap();
        assert_eq!(reading.join().unwrap(), 1 << 20);
    });
}

#[test]
fn e4_tr_25_a_broken_pipe_is_an_error_and_no_signal() {
    let name = "e4_tr_25_a_broken_pipe_is_an_error_and_no_signal";
    if !in_own_process(name) {
        return;
    }
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: the default action replaces the one that the standard library set; no handler is involved.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.unwrap();
    run(async {
        if !corio_runtime::op::pipes_are_quiet() {
            eprintln!("SKIPPED {name}: this kernel has no RWF_NOSIGNAL");
            return;
        }
        // A socket serves as a pipe, too.
        let ends: [fn() -> (OwnedFd, OwnedFd); 2] = [
            || io::pipe().map(|(read, write)| (read.into(), write.into())).unwrap(),
            || UnixStream::pair().map(|(ours, theirs)| (ours.into(), theirs.into())).unwrap(),
        ];
        for (ends, pending) in [(ends[0], false), (ends[0], true), (ends[1], false), (ends[1], true)] {
            let (read, write) = ends();
            let mut writer = connect_write_pipe(write).unwrap();
            if pending {
                writer.write(vec![1; 1 << 20]).unwrap();
                sleep(Duration::from_millis(2)).await;
            }
            drop(read);
            let _ = writer.write(b"x");
            let error = writer.flush().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        }
    });
}

#[test]
fn sub_35_a_dropped_reader_closes_its_end() {
    let name = "sub_35_a_dropped_reader_closes_its_end";
    if !in_own_process(name) {
        return;
    }
    run(async {
        sleep(Duration::from_millis(1)).await;
        let fds = open_fds();
        for waited in [false, true] {
            let (read, write) = io::pipe().unwrap();
            let mut reader = connect_read_pipe(read.into()).unwrap();
            if waited {
                assert!(timeout(Duration::from_millis(2), reader.read(1)).await.is_err());
            }
            drop(reader);
            // Ours is still open.
            until(|| open_fds() == fds + 1).await;
            let error = File::from(std::os::fd::OwnedFd::from(write)).write_all(b"x").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        }
        assert_eq!(open_fds(), fds);
    });
}

#[test]
fn tr_24_25_write_eof_ends_the_pipe_once_everything_is_written() {
    run(async {
        let (mut reader, mut writer) = pipe();
        assert!(writer.can_write_eof());
        writer.write(vec![7; 200_000]).unwrap();
        writer.write_eof().unwrap();
        assert_eq!(reader.read_to_end().await.unwrap().len(), 200_000);
        writer.wait_closed().await.unwrap();
    });
}

#[test]
fn write_eof_ends_a_pipe_that_breaks() {
    run(async {
        for waited in [false, true] {
            let (read, write) = io::pipe().unwrap();
            let mut writer = connect_write_pipe(write.into()).unwrap();
            writer.write(vec![7; 1 << 20]).unwrap();
            if waited {
                sleep(Duration::from_millis(2)).await;
            }
            writer.write_eof().unwrap();
            drop(read);
            let closed = timeout(Duration::from_secs(5), writer.wait_closed()).await;
            let error = closed.expect("it is never closed").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        }
    });
}

#[test]
fn a_limit_holds_for_lines_of_a_pipe() {
    run(async {
        let (read, mut write) = io::pipe().unwrap();
        let mut reader = connect_read_pipe_with_limit(read.into(), 10).unwrap();
        write.write_all(b"a line that is too long\nshort\n").unwrap();
        assert!(matches!(reader.readline().await, Err(corio_net::ReadError::LimitOverrun { .. })));
        assert_eq!(reader.readline().await.unwrap(), b"short\n");
    });
}

#[test]
fn what_is_no_pipe_is_refused_with_its_kind() {
    run(async {
        let error = connect_read_pipe(File::open("/").unwrap().into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("directory"), "{error}");
    });
    let mut simulated = Runner::builder().backend(Backend::Sim { seed: 1 }).build().unwrap();
    let error = simulated.run(async { connect_write_pipe(io::pipe().unwrap().1.into()).unwrap_err() });
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("simulator"), "{error}");
    let error = connect_write_pipe(io::pipe().unwrap().1.into()).unwrap_err();
    assert!(error.to_string().contains("no running event loop"), "{error}");
}

#[test]
fn the_null_device_reads_its_end_and_takes_everything() {
    run(async {
        let mut reader = connect_read_pipe(File::open("/dev/null").unwrap().into()).unwrap();
        assert!(reader.read(10).await.unwrap().is_empty());
        let null = File::options().write(true).open("/dev/null").unwrap();
        let mut writer = connect_write_pipe(null.into()).unwrap();
        writer.write_all(vec![1; 3 << 20]).await.unwrap();
        writer.close();
        writer.wait_closed().await.unwrap();
    });
}

#[test]
fn a_pipe_that_nobody_reads_does_not_keep_the_end_of_a_loop() {
    let (_read, write) = io::pipe().unwrap();
    let started = std::time::Instant::now();
    run(async {
        let mut writer = connect_write_pipe(write.into()).unwrap();
        writer.write(vec![1; 1 << 20]).unwrap();
    });
    // Half a second without a byte moving; the whole limit is five.
    assert!(started.elapsed() < Duration::from_millis(4500), "{:?}", started.elapsed());
}

#[test]
fn a_pipe_has_the_limits_that_it_is_given_also_once_it_closes() {
    run(async {
        let (_read, write) = io::pipe().unwrap();
        let mut writer = connect_write_pipe(write.into()).unwrap();
        writer.write(vec![1; 1 << 20]).unwrap();
        writer.close();
        sleep(Duration::from_millis(5)).await;
        writer.linger(Duration::from_secs(60), Duration::from_millis(50));
        let closed = timeout(Duration::from_secs(10), writer.wait_closed()).await.expect("it is given up");
        assert_eq!(closed.unwrap_err().kind(), ErrorKind::TimedOut);
    });
}
