//! `drain` after a write does not look at the stream unless something has happened, and reports what has happened.

mod common;

use std::{
    cell::OnceCell,
    io::{Read, Write},
    pin::pin,
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

use common::{reset, run, std_listener, with_peer};
use corio_net::{Connection, Server, StreamWriter, open_connection, start_server};
use corio_runtime::{Runner, time::sleep, yield_now};
use nix::sys::socket::{setsockopt, sockopt};

/// Whether it is done at once, or would wait.
fn drains(writer: &mut StreamWriter) -> Option<std::io::Result<()>> {
    match pin!(writer.drain()).poll(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(result) => Some(result),
        std::task::Poll::Pending => None,
    }
}

#[test]
fn a_drain_behind_a_write_tells_of_an_abort_by_somebody_else_in_the_same_turn() {
    run(async {
        let shared = Rc::new(OnceCell::<Server>::new());
        let told = Rc::new(OnceCell::new());
        let (its, tells) = (Rc::clone(&shared), Rc::clone(&told));
        let server = start_server("127.0.0.1:0", move |mut reader, mut writer| {
            let (its, tells) = (Rc::clone(&its), Rc::clone(&tells));
            async move {
                reader.read(1).await?;
                writer.write(b"x")?;
                let calm = drains(&mut writer).unwrap().is_ok();
                its.get().unwrap().abort_clients();
                tells.set((calm, drains(&mut writer).unwrap().is_err())).unwrap();
                Ok(())
            }
        });
        shared.set(server.await.unwrap()).unwrap();
        let addr = shared.get().unwrap().local_addr().unwrap();
        let (_reader, mut writer) = open_connection(addr).await.unwrap();
        writer.write(b"x").unwrap();
        while told.get().is_none() {
            yield_now().await;
        }
        assert_eq!(told.get(), Some(&(true, true)));
    });
}

#[test]
fn a_drain_behind_a_write_tells_of_its_own_close_and_abort() {
    run(async {
        for end in [StreamWriter::close, StreamWriter::abort] {
            let (_reader, mut writer, _peer) = with_peer().await;
            writer.write(b"x").unwrap();
            drains(&mut writer).unwrap().unwrap();
            end(&mut writer);
            drains(&mut writer).unwrap().unwrap_err();
        }
    });
}

#[test]
fn a_drain_turns_later_tells_of_the_peers_reset() {
    run(async {
        let (_reader, mut writer, mut peer) = with_peer().await;
        writer.write(b"x").unwrap();
        sleep(Duration::from_millis(1)).await;
        drains(&mut writer).unwrap().unwrap();
        peer.read_exact(&mut [0]).unwrap();
        let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&peer, sockopt::Linger, &at_once).unwrap();
        drop(peer);
        while drains(&mut writer).unwrap().is_ok() {
            sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn a_drain_turns_later_tells_of_the_peers_reset_though_the_reader_is_over_its_limit() {
    run(async {
        let (listener, addr) = std_listener().unwrap();
        let (mut reader, mut writer) = Connection::builder().limit(1).connect(addr).await.unwrap();
        let mut peer = listener.accept().unwrap().0;
        peer.write_all(&[1; 40_000]).unwrap();
        writer.write(b"x").unwrap();
        sleep(Duration::from_millis(5)).await;
        drains(&mut writer).unwrap().unwrap();
        reset(peer);
        while drains(&mut writer).unwrap().is_ok() {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(reader.readexactly(40_000).await.is_ok());
    });
}

#[test]
fn a_drain_waits_for_marks_that_were_lowered_behind_the_write() {
    run(async {
        let (_reader, mut writer, _peer) = with_peer().await;
        writer.write(b"x").unwrap();
        writer.set_write_buffer_limits(0, 0).unwrap();
        assert!(drains(&mut writer).is_none());
        writer.drain().await.unwrap();
    });
}

#[test]
fn a_drain_waits_for_what_a_send_at_the_end_of_the_turn_has_left() {
    run(async {
        let (_reader, mut writer, mut peer) = with_peer().await;
        writer.set_write_buffer_limits(32 << 20, 0).unwrap();
        writer.write(vec![7; 24 << 20]).unwrap();
        drains(&mut writer).unwrap().unwrap();
        yield_now().await;
        writer.write(vec![8; 31 << 20]).unwrap();
        assert!(drains(&mut writer).is_none(), "what the sockets did not hold is above the mark with it");
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            (all.len(), all.iter().position(|byte| *byte == 8))
        });
        writer.drain().await.unwrap();
        drop(writer);
        sleep(Duration::from_millis(1)).await;
        while !reading.is_finished() {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(reading.join().unwrap(), (55 << 20, Some(24 << 20)));
    });
}

#[test]
fn a_drain_behind_a_write_says_that_the_loop_is_another_or_none() {
    let mut runner = Runner::new().unwrap();
    let (_reader, mut writer, mut peer) = runner.run(with_peer());
    let mut write = |runner: &mut Runner, writer: &mut StreamWriter| {
        runner.run(async {
            writer.write(b"x").unwrap();
            drains(writer).unwrap().unwrap();
        });
        peer.read_exact(&mut [0]).unwrap();
    };
    write(&mut runner, &mut writer);
    let error = Runner::new().unwrap().run(writer.drain()).unwrap_err();
    assert!(error.to_string().contains("different loop"), "{error}");
    write(&mut runner, &mut writer);
    let elsewhere = std::thread::spawn(move || {
        Runner::new().unwrap().run(async {
            let (_reader, mut other, _peer) = with_peer().await;
            other.write(b"x").unwrap();
            let told = (drains(&mut other).unwrap(), drains(&mut writer).unwrap());
            (told, writer)
        })
    });
    let ((own, foreign), mut writer) = elsewhere.join().unwrap();
    own.unwrap();
    assert!(foreign.unwrap_err().to_string().contains("different loop"));
    write(&mut runner, &mut writer);
    drop(runner);
    drains(&mut writer).unwrap().unwrap_err();
}
