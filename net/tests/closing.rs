//! The ends of connections: FIN, reset, half-close, and what is still in flight then.

mod common;

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream as StdStream},
    pin::pin,
    sync::Arc,
    task::{Context, Wake, Waker},
    thread,
    time::Duration,
};

use common::{
    echo, in_own_process, join, open_fds, pattern, read_all, reset, shrink_send_buffer, std_listener,
    with_peer,
};
use corio_net::{ReadError, TcpStream, open_connection, start_server};
use corio_runtime::{Runner, run, time::sleep};

#[test]
fn e1_close_with_a_receive_pending_sends_fin() {
    run(async {
        let (mut reader, mut writer, mut peer) = with_peer().await;
        // The receive is armed and a reader has waited for it.
        let pending = corio_runtime::time::timeout(Duration::from_millis(1), reader.read(1)).await;
        assert!(pending.is_err());
        writer.close();
        writer.wait_closed().await.unwrap();
        assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
        assert!(reader.read(1).await.unwrap().is_empty() && reader.at_eof());
    });
}

/// A waker that nobody's task stands behind.
struct Idle;

impl Wake for Idle {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_wait_for_the_end_that_is_given_up_again_and_again_leaves_one_waker_at_most() {
    run(async {
        let (_reader, mut writer, _peer) = with_peer().await;
        let wakers: Vec<Arc<Idle>> = (0..1000).map(|_| Arc::new(Idle)).collect();
        for waker in &wakers {
            let waker = Waker::from(Arc::clone(waker));
            assert!(pin!(writer.wait_closed()).poll(&mut Context::from_waker(&waker)).is_pending());
        }
        let kept = wakers.iter().filter(|waker| Arc::strong_count(waker) > 1).count();
        assert!(kept <= 1, "{kept} are kept");
    });
}

#[test]
fn e1_a_dropped_writer_flushes_then_ends() {
    run(async {
        let (_reader, mut writer, peer) = with_peer().await;
        let message = pattern(3_000_000, 1);
        writer.write(message.clone()).unwrap();
        drop(writer);
        assert!(join(read_all(peer)).await.unwrap() == message);
    });
}

#[test]
fn e1_what_was_written_goes_out_although_the_loop_ends() {
    let message = pattern(4_000_000, 2);
    let sent = message.clone();
    let (read, _open) = run(async {
        let (reader, mut writer, mut peer) = with_peer().await;
        let read = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            let mut all = Vec::new();
            peer.read_to_end(&mut all).map(|_| all)
        });
        writer.write(sent).unwrap();
        (read, (reader, writer))
    });
    assert!(read.join().unwrap().unwrap() == message);
}

#[test]
fn e3_either_side_can_end_its_half_first() {
    run(async {
        let (mut reader, mut writer, mut peer) = with_peer().await;
        writer.write(b"ours").unwrap();
        writer.write_eof().unwrap();
        writer.write_eof().expect("a second end changes nothing");
        let mut got = String::new();
        let read = thread::spawn(move || {
            peer.read_to_string(&mut got).unwrap();
            (got, peer)
        });
        let (got, mut peer) = join(read).await;
        assert_eq!(got, "ours");
        peer.write_all(b"theirs").unwrap();
        drop(peer);
        assert_eq!(reader.read_to_end().await.unwrap(), b"theirs");

        let (mut reader, mut writer, peer) = with_peer().await;
        peer.shutdown(Shutdown::Write).unwrap();
        assert!(reader.read(1).await.unwrap().is_empty());
        writer.write_all(b"still open").await.unwrap();
        writer.close();
        writer.wait_closed().await.unwrap();
        let mut rest = String::new();
        (&peer).read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "still open");
    });
}

#[test]
fn e3_str_02_a_reset_ends_every_kind_of_read_with_its_error() {
    run(async {
        for kind in 0..4 {
            let (mut reader, _writer, mut peer) = with_peer().await;
            peer.write_all(b"abc").unwrap();
            // What came before the reset is delivered before it.
            assert_eq!(reader.readexactly(2).await.unwrap(), b"ab");
            assert_eq!(reader.readexactly(1).await.unwrap(), b"c");
            reset(peer);
            let error = match kind {
                0 => reader.read(10).await.unwrap_err(),
                1 => reader.readexactly(10).await.unwrap_err().into(),
                2 => reader.readuntil(b"x").await.unwrap_err().into(),
                _ => reader.read_to_end().await.unwrap_err(),
            };
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "read of kind {kind}");
        }
    });
}

#[test]
fn e3_d4_a_reset_in_mid_body_is_an_error_of_the_writer() {
    run(async {
        let (_reader, mut writer, mut peer) = with_peer().await;
        let sender = async {
            loop {
                if let Err(e) = writer.write_all(vec![7; 100_000]).await {
                    return e;
                }
            }
        };
        let breaker = thread::spawn(move || {
            peer.read_exact(&mut vec![0; 300_000]).unwrap();
            reset(peer);
        });
        let error = sender.await;
        assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
        breaker.join().unwrap();
        assert!(writer.drain().await.is_err() && writer.write(b"more").is_err());
    });
}

#[test]
fn e4_writing_to_a_closed_peer_never_kills_the_process() {
    if !in_own_process("e4_writing_to_a_closed_peer_never_kills_the_process") {
        return;
    }
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: the default action replaces the one that the standard library set; no handler is involved.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.unwrap();
    run(async {
        for size in [1, 5_000, 300_000] {
            for pieces in [1, 3] {
                let (_reader, mut writer, peer) = with_peer().await;
                reset(peer);
                let mut failed = false;
                for _ in 0..100 {
                    let written = (0..pieces).try_for_each(|_| writer.write(vec![1; size]));
                    failed = written.is_err() || writer.flush().await.is_err();
                    if failed {
                        break;
                    }
                }
                assert!(failed, "{size} bytes in {pieces} pieces");
            }
        }
    });
}

#[test]
fn d4_tr_03_a_small_send_buffer_cuts_sends_and_no_byte_is_lost() {
    run(async {
        let (listener, addr) = std_listener().unwrap();
        let ours = StdStream::connect(addr).unwrap();
        shrink_send_buffer(&ours);
        let (_reader, mut writer) = TcpStream::try_from(ours).unwrap().into_streams();
        let read = read_all(listener.accept().unwrap().0);
        let body = pattern(8 << 20, 3);
        // Copied, owned and mixed pieces.
        writer.write_all(&body[..1000]).await.unwrap();
        writer.write_all(body[1000..5_000_000].to_vec()).await.unwrap();
        writer.writelines([&body[5_000_000..5_000_010], &body[5_000_010..]]).unwrap();
        writer.close();
        writer.wait_closed().await.unwrap();
        assert!(join(read).await.unwrap() == body);
    });
}

#[test]
fn an_abort_resets_although_data_is_unsent() {
    run(async {
        let (mut reader, mut writer, peer) = with_peer().await;
        writer.write(vec![0; 20 << 20]).unwrap();
        corio_runtime::yield_now().await;
        writer.abort();
        assert!(writer.is_closing() && writer.write(b"x").is_err());
        writer.wait_closed().await.unwrap();
        assert!(reader.read(1).await.is_ok_and(|rest| rest.is_empty()));
        assert_eq!(join(read_all(peer)).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn str_30_the_end_in_the_middle_gives_what_there_was() {
    run(async {
        let (mut reader, _writer, mut peer) = with_peer().await;
        peer.write_all(b"some data").unwrap();
        drop(peer);
        match reader.readexactly(36).await {
            Err(e @ ReadError::IncompleteRead { .. }) => {
                assert_eq!(e.to_string(), "9 bytes read on a total of 36 expected bytes");
            }
            other => panic!("{other:?}"),
        }
        assert!(reader.at_eof());
    });
}

#[test]
fn b1_b2_loops_dropped_in_mid_flight_leave_no_descriptor() {
    if !in_own_process("b1_b2_loops_dropped_in_mid_flight_leave_no_descriptor") {
        return;
    }
    let mut before = 0;
    for round in 0..300 {
        if round == 10 {
            before = open_fds();
        }
        let mut runner = Runner::new().unwrap();
        let kept = runner.run(async {
            let server = start_server("127.0.0.1:0", echo).await.unwrap();
            let addr = server.local_addr().unwrap();
            let mut ends = Vec::new();
            for n in 0..4 {
                let (mut reader, mut writer) = open_connection(addr).await.unwrap();
                writer.write(vec![1; n * 40_000]).unwrap();
                let part = corio_runtime::time::timeout(Duration::from_micros(n as u64 * 50), reader.read(1));
                let _ = part.await;
                ends.push((reader, writer));
            }
            drop(corio_runtime::create_task(async move {
                let _ = open_connection(addr).await;
            }));
            (server, ends)
        });
        if round % 2 == 0 {
            drop(kept);
            drop(runner);
        } else {
            drop(runner);
            drop(kept);
        }
    }
    assert_eq!(open_fds(), before);
}

/// What is written behind a send that waits for the peer goes out as that send completes, amid a turn. Whoever
/// waits for it then must not need another event to be woken.
#[test]
fn flush_and_wait_closed_end_by_themselves_behind_a_send_that_waited() {
    for close in [true, false] {
        run(async move {
            let (_reader, mut writer, mut peer) = with_peer().await;
            writer.set_write_buffer_limits(64 << 20, 1 << 20).unwrap();
            writer.write(vec![1; 8 << 20]).unwrap();
            sleep(Duration::from_millis(20)).await;
            writer.write(b"behind").unwrap();
            let reading = thread::spawn(move || {
                let mut block = vec![0; 1 << 20];
                while let Ok(1..) = peer.read(&mut block) {}
            });
            // The peer makes room while the loop is kept: the send and the sleep end in one turn.
            corio_runtime::call_soon(|| thread::sleep(Duration::from_millis(200)));
            sleep(Duration::from_millis(1)).await;
            let rescued = std::rc::Rc::new(std::cell::Cell::new(false));
            let rescue = rescued.clone();
            let timer = corio_runtime::call_later(Duration::from_secs(30), move || rescue.set(true));
            if close {
                writer.close();
                writer.wait_closed().await.unwrap();
            } else {
                writer.flush().await.unwrap();
            }
            assert!(!rescued.get(), "only a timer woke the loop");
            timer.cancel();
            writer.close();
            writer.wait_closed().await.unwrap();
            reading.join().unwrap();
        });
    }
}
