//! `copy` and `copy_bidirectional`: counts, ends, failures, drops, on every kernel; and a proxy between real programs.

mod common;

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use common::{Rng, Sequence, number, on_every_seed, on_real, until};
use corio_net::{
    CopyError, CopySide, Stream, StreamReader, StreamWriter, TcpListener, copy, copy_bidirectional,
    open_connection, start_server,
};
use corio_runtime::{create_task, gather, time::timeout, yield_now};

fn on_every(program: impl AsyncFn() -> io::Result<()>) {
    on_every_seed(4, common::every_fault(), program);
}

type Ends = (StreamReader, StreamWriter);

/// The two ends of a connection.
async fn link() -> io::Result<(Ends, Ends)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let near = open_connection(listener.local_addr()?).await?;
    Ok((near, listener.accept().await?.0.into_streams()))
}

/// A peer, a connection to it, another connection, and its peer: what is copied goes from peer to peer.
async fn chain() -> io::Result<[Ends; 4]> {
    let ((one, two), (three, four)) = (link().await?, link().await?);
    Ok([one, two, three, four])
}

fn why(failed: &io::Error) -> &CopyError {
    let error = failed.get_ref().and_then(|inner| inner.downcast_ref::<CopyError>()).expect("a CopyError");
    assert_eq!(failed.kind(), error.source.kind());
    error
}

#[test]
fn a_copy_counts_and_leaves_the_writer_open() {
    on_every(async || {
        let [(_r1, mut w1), (mut reader, _w2), (_r3, mut writer), (mut r4, _w4)] = chain().await?;
        let feeding = create_task(async move {
            let mut sequence = Sequence::default();
            for n in 0..60 {
                w1.write_all(sequence.take(1 + n * n)).await?;
            }
            w1.write_eof()?;
            io::Result::Ok((sequence.at, w1))
        });
        let reading = create_task(async move {
            let mut sequence = Sequence::default();
            let all = r4.read_to_end().await?;
            sequence.expect(&all[..all.len() - 4]);
            assert!(all.ends_with(b"more"));
            io::Result::Ok(sequence.at)
        });
        let copied = copy(&mut reader, &mut writer).await?;
        assert_eq!(copy(&mut reader, &mut writer).await?, 0, "the reader has ended");
        writer.write("more")?;
        writer.write_eof()?;
        assert_eq!((reading.await??, feeding.await??.0), (copied as usize, copied as usize));
        Ok(())
    });
}

#[test]
fn a_slow_writer_holds_the_reader_back() {
    on_real(async || {
        let [(_r1, mut w1), (mut reader, _w2), (_r3, mut writer), (mut r4, _w4)] = chain().await.unwrap();
        let feeding = create_task(async move {
            let mut fed = 0;
            let stuck = async {
                loop {
                    w1.write_all(vec![7; 1 << 20]).await.unwrap();
                    fed += 1 << 20;
                }
            };
            let _ = timeout(Duration::from_millis(300), stuck).await;
            drop(w1);
            fed
        });
        let early = timeout(Duration::from_millis(200), copy(&mut reader, &mut writer)).await;
        assert!(early.is_err(), "nobody reads");
        // The high-water mark, and what was read last.
        assert!(number(&writer, "queued") <= (64 << 10) + (512 << 10), "{writer:?}");
        assert!(number(&reader, "buffered") <= 512 << 10, "{reader:?}");
        let reading = create_task(async move { r4.read_to_end().await.unwrap().len() });
        copy(&mut reader, &mut writer).await.unwrap();
        writer.close();
        let (fed, got) = (feeding.await.unwrap(), reading.await.unwrap());
        assert!(got >= fed, "{got} of {fed}");
    });
}

#[test]
fn a_copy_that_is_dropped_again_and_again_loses_nothing() {
    on_every(async || {
        let [(_r1, mut w1), (mut reader, _w2), (_r3, mut writer), (mut r4, _w4)] = chain().await?;
        let size = 300_000;
        let feeding = create_task(async move {
            let (mut sequence, mut rng) = (Sequence::default(), Rng::new(5));
            while sequence.at < size {
                let piece = 1 + rng.below(5000).min(size - sequence.at - 1);
                w1.write_all(sequence.take(piece)).await?;
                yield_now().await;
            }
            w1.write_eof()?;
            io::Result::Ok(w1)
        });
        let reading = create_task(async move { r4.read_to_end().await });
        let mut rng = Rng::new(3);
        let mut drops = 0;
        while timeout(rng.micros(), copy(&mut reader, &mut writer)).await.is_err() {
            drops += 1;
        }
        assert!(drops > 0);
        writer.write_eof()?;
        let all = reading.await??;
        Sequence::default().expect(&all);
        assert_eq!(all.len(), size);
        feeding.await??;
        Ok(())
    });
}

#[test]
fn a_failed_copy_tells_the_side_and_the_count_and_leaves_the_rest_in_the_reader() {
    on_every(async || {
        let [(_r1, mut w1), (mut reader, _w2), (_r3, mut writer), (mut r4, _w4)] = chain().await?;
        w1.write("12345")?;
        let copying = async {
            let failed = copy(&mut reader, &mut writer).await.unwrap_err();
            let error = why(&failed);
            assert_eq!((error.side, error.copied, error.copied_back), (CopySide::Reader, 5, 0));
            assert_eq!(error.source.kind(), ErrorKind::ConnectionReset);
            assert!(
                failed.to_string().starts_with("the reader of the copy failed after 5 bytes: "),
                "{failed}"
            );
        };
        let resetting = async {
            assert_eq!(r4.readexactly(5).await.unwrap(), b"12345");
            w1.abort();
        };
        gather!(copying, resetting).await;
        writer.write("!")?;
        assert_eq!(r4.readexactly(1).await?, b"!", "the writer is open");

        let [(_r1, mut w1), (mut reader, _w2), (_r3, mut writer), (_r4, mut w4)] = chain().await?;
        let copying = async {
            // The reader is silent meanwhile.
            let failed = copy(&mut reader, &mut writer).await.unwrap_err();
            assert_eq!((why(&failed).side, why(&failed).copied), (CopySide::Writer, 0));
        };
        gather!(copying, async { w4.abort() }).await;
        w1.write("kept")?;
        let failed = copy(&mut reader, &mut writer).await.unwrap_err();
        assert_eq!((why(&failed).side, why(&failed).copied), (CopySide::Writer, 0));
        assert_eq!(reader.readexactly(4).await?, b"kept");
        Ok(())
    });
}

#[test]
fn a_silent_connection_whose_reader_is_gone_is_noticed_too() {
    on_every(async || {
        let [(_r1, _w1), (mut reader, _w2), (unread, mut writer), (_r4, mut w4)] = chain().await?;
        drop(unread);
        let copying = async { why(&copy(&mut reader, &mut writer).await.unwrap_err()).side };
        assert_eq!(gather!(copying, async { w4.abort() }).await.0, CopySide::Writer);
        Ok(())
    });
}

/// Writes `size` bytes of the sequence and the end of the stream, reads all that comes, and checks it.
async fn exchange(mut end: Ends, size: usize, expected: usize) -> io::Result<Ends> {
    let (reader, writer) = (&mut end.0, &mut end.1);
    let writing = async {
        let mut sequence = Sequence::default();
        while sequence.at < size {
            let piece = (size - sequence.at).min(3001);
            writer.write_all(sequence.take(piece)).await?;
        }
        writer.write_eof()
    };
    let reading = async {
        let mut sequence = Sequence::default();
        loop {
            let data = reader.read(8000).await?;
            if data.is_empty() {
                assert_eq!(sequence.at, expected);
                return io::Result::Ok(());
            }
            sequence.expect(&data);
        }
    };
    let (wrote, read) = gather!(writing, reading).await;
    wrote.and(read).map(|()| end)
}

#[test]
fn both_directions_count_and_end_each_for_itself() {
    on_every(async || {
        for sizes in [(100_000, 77), (0, 50_000), (40_000, 40_001), (0, 0)] {
            let [one, two, three, four] = chain().await?;
            let copying = copy_bidirectional(two, Stream::from(three));
            let (a, b, counts) =
                gather!(exchange(one, sizes.0, sizes.1), exchange(four, sizes.1, sizes.0), copying).await;
            assert_eq!(counts?, (sizes.0 as u64, sizes.1 as u64));
            // Both are closed.
            for mut end in [a?, b?] {
                assert!(end.0.at_eof());
                end.1.close();
                end.1.wait_closed().await?;
            }
        }
        Ok(())
    });
}

#[test]
fn the_end_of_one_direction_leaves_the_other_going_on() {
    on_every(async || {
        for swapped in [false, true] {
            let [one, two, three, four] = chain().await?;
            let (two, three) = if swapped { (three, two) } else { (two, three) };
            let copying = create_task(copy_bidirectional(two, three));
            let ((mut r1, mut w1), (mut r4, mut w4)) = if swapped { (four, one) } else { (one, four) };
            w1.write("question")?;
            w1.write_eof()?;
            assert_eq!(r4.read_to_end().await?, b"question");
            for answer in ["an", "swer"] {
                w4.write(answer)?;
                assert_eq!(r1.readexactly(answer.len()).await?, answer.as_bytes());
                assert!(!copying.done());
            }
            w4.write_eof()?;
            assert_eq!(copying.await??, (8, 6));
            assert!(r1.read(1).await?.is_empty());
        }
        Ok(())
    });
}

#[test]
fn a_side_that_fails_is_named_and_what_it_had_sent_arrives() {
    on_every(async || {
        for (first, side) in [(true, CopySide::First), (false, CopySide::Second)] {
            let [one, two, three, four] = chain().await?;
            let copying = if first {
                create_task(copy_bidirectional(two, three))
            } else {
                create_task(copy_bidirectional(three, two))
            };
            let ((mut r1, mut w1), (mut r4, mut w4)) = (one, four);
            w1.write("12345")?;
            w4.write("123")?;
            assert_eq!(r4.readexactly(5).await?, b"12345");
            assert_eq!(r1.readexactly(3).await?, b"123");
            w1.abort();
            let failed = copying.await?.unwrap_err();
            let error = why(&failed);
            assert_eq!(error.side, side);
            let counts = (error.copied, error.copied_back);
            assert!(matches!(counts, (5, 3) | (3, 5)), "{failed:?}");
            // The other one sees the end.
            assert!(r4.read(1).await?.is_empty());
        }
        Ok(())
    });
}

#[test]
fn an_answer_of_a_peer_that_closes_without_reading_arrives_whole() {
    on_real(async || {
        let [one, two, three, four] = chain().await.unwrap();
        let copying = create_task(copy_bidirectional(two, three));
        let (mut r1, mut w1) = one;
        let (r4, mut w4) = four;
        let mut sequence = Sequence::default();
        w4.write_all(sequence.take(50_000)).await.unwrap();
        w4.flush().await.unwrap();
        // Unread data: its close resets the connection, once it has lingered.
        w1.write_all(vec![1; 200_000]).await.unwrap();
        w4.linger(Duration::from_millis(50), Duration::from_millis(50));
        drop((r4, w4));
        let got = r1.readexactly(50_000).await.unwrap();
        Sequence::default().expect(&got);
        drop((r1, w1));
        let _either = copying.await.unwrap();
    });
}

#[test]
fn a_dropped_proxy_sends_what_it_had_read_and_closes_both_sides() {
    on_every(async || {
        for seed in 0..20 {
            let [one, two, three, four] = chain().await?;
            let ((mut r1, mut w1), (mut r4, mut w4)) = (one, four);
            let feed = |writer: &mut StreamWriter, size| writer.write(Sequence::default().take(size));
            feed(&mut w1, 30_000)?;
            feed(&mut w4, 20_000)?;
            let early = timeout(Rng::new(seed).micros(), copy_bidirectional(two, three)).await;
            assert!(early.is_err());
            // Each side gets a part of the sequence, from its beginning, and the end.
            for reader in [&mut r1, &mut r4] {
                let mut sequence = Sequence::default();
                while let Ok(data) = reader.read(7000).await
                    && !data.is_empty()
                {
                    sequence.expect(&data);
                }
                assert!(reader.at_eof() || reader.read(1).await.is_err());
            }
        }
        Ok(())
    });
}

/// A proxy before `upstream`; tells the result of each connection.
async fn proxy(
    upstream: SocketAddr,
    told: impl Fn(io::Result<(u64, u64)>) + Clone + 'static,
) -> corio_net::Server {
    let serving = start_server("127.0.0.1:0", move |reader, writer| {
        let told = told.clone();
        async move {
            let upstream = open_connection(upstream).await?;
            told(copy_bidirectional((reader, writer), upstream).await);
            Ok(())
        }
    });
    serving.await.unwrap()
}

/// Sends 64 MiB of its own and hashes what comes, as a client (`connect`) or a server (`listen`).
const PEER: &str = r#"
import hashlib, random, socket, sys, threading
role, port, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if role == "listen":
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    peer = listener.accept()[0]
else:
    peer = socket.create_connection(("127.0.0.1", port))
data = random.Random(seed).randbytes(1 << 20)
sent, got, count = hashlib.sha256(), hashlib.sha256(), 0
def send():
    for n in range(64):
        piece = data[n:] + data[:n]
        sent.update(piece)
        peer.sendall(piece)
    peer.shutdown(socket.SHUT_WR)
sender = threading.Thread(target=send)
sender.start()
while part := peer.recv(65536):
    got.update(part)
    count += len(part)
sender.join()
print(count, sent.hexdigest(), got.hexdigest(), flush=True)
"#;

fn python(args: &[&str]) -> std::process::Child {
    let mut command = Command::new("python3");
    command.arg("-c").arg(PEER).args(args).stdout(Stdio::piped()).spawn().unwrap()
}

/// The words of a line of its output.
fn words(from: &mut impl io::BufRead) -> Vec<String> {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn sixty_four_mebibytes_pass_between_two_programs_both_ways_at_once() {
    if Command::new("python3").arg("-V").output().is_err() {
        eprintln!("SKIPPED: no python3");
        return;
    }
    for backend in common::real_kernels() {
        common::on(backend).run(async {
            let mut upstream = python(&["listen", "0", "1"]);
            let mut its = io::BufReader::new(upstream.stdout.take().unwrap());
            let port: u16 = words(&mut its)[0].parse().unwrap();
            let results = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
            let told = results.clone();
            let server =
                proxy(([127, 0, 0, 1], port).into(), move |result| told.borrow_mut().push(result)).await;
            let through = server.local_addr().unwrap().port().to_string();
            let mut client = python(&["connect", &through, "2"]);
            let mut clients = io::BufReader::new(client.stdout.take().unwrap());
            let hashes = corio_runtime::to_thread(move || (words(&mut its), words(&mut clients))).await;
            let (its, clients) = hashes;
            assert_eq!((&its[0][..], &clients[0][..]), ("67108864", "67108864"));
            assert_eq!((&its[1], &its[2]), (&clients[2], &clients[1]), "{backend:?}");
            until(|| !results.borrow().is_empty()).await;
            assert_eq!(results.borrow_mut().pop().unwrap().unwrap(), (64 << 20, 64 << 20));
            assert!(upstream.wait().unwrap().success() && client.wait().unwrap().success());
        });
    }
}

/// An upstream on a thread, which answers each connection with what it got, as it comes.
fn echo() -> SocketAddr {
    let (listener, addr) = common::std_listener().unwrap();
    thread::spawn(move || {
        for peer in listener.incoming() {
            thread::spawn(move || {
                let mut peer = peer.unwrap();
                let mut buf = [0; 4096];
                while let Ok(n @ 1..) = peer.read(&mut buf) {
                    if peer.write_all(&buf[..n]).is_err() {
                        return;
                    }
                }
                let _ = peer.shutdown(Shutdown::Write);
            });
        }
    });
    addr
}

#[test]
fn clients_that_reset_midway_or_leave_end_their_proxied_connection_and_no_other() {
    on_real(async || {
        let (told, results) = std::sync::mpsc::channel();
        let server = proxy(echo(), move |result| told.send(result).unwrap()).await;
        let addr = server.local_addr().unwrap();
        let clients = corio_runtime::to_thread(move || {
            let mut good = 0;
            for n in 0..30_usize {
                let mut client = TcpStream::connect(addr).unwrap();
                client.write_all(&vec![n as u8; 10_000 + n]).unwrap();
                let mut answer = vec![0; 10_000];
                client.read_exact(&mut answer).unwrap();
                if n % 3 == 0 {
                    common::reset_on_close(&client);
                } else if n % 3 == 1 {
                    client.shutdown(Shutdown::Write).unwrap();
                    answer.clear();
                    client.read_to_end(&mut answer).unwrap();
                    assert_eq!(answer, vec![n as u8; n]);
                    good += 1;
                }
            }
            good
        });
        assert_eq!(clients.await, 10);
        let mut outcomes = Vec::new();
        until(|| {
            outcomes.extend(results.try_iter());
            outcomes.len() == 30
        })
        .await;
        assert!(outcomes.iter().filter(|outcome| outcome.is_ok()).count() >= 10);
        for failed in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert_eq!(why(failed).side, CopySide::First, "{failed}");
        }
        until(|| server.connections() == 0).await;
    });
}
