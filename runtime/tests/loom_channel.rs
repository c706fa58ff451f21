//! The channel under every interleaving of its ends:
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test -p corio-runtime --release --test loom_channel`
#![cfg(loom)]

#[path = "../src/threads/channel.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    reason = "a public file, of which the models use a part"
)]
mod channel;

use std::{
    future::Future,
    pin::pin,
    task::{Context, Waker},
};

use channel::{TryRecvError, channel};
use loom::{future::block_on, thread};

#[test]
fn a_waiting_receiver_is_woken_by_a_message_and_by_the_end() {
    loom::model(|| {
        let (sender, mut receiver) = channel(2);
        let sending = thread::spawn(move || {
            sender.try_send(1).unwrap();
            sender.try_send(2).unwrap();
        });
        let received =
            block_on(async { [receiver.recv().await, receiver.recv().await, receiver.recv().await] });
        assert_eq!(received, [Some(1), Some(2), None]);
        sending.join().unwrap();
    });
}

#[test]
fn a_sender_that_finds_it_full_is_woken_by_the_read_that_makes_room() {
    loom::model(|| {
        let (sender, mut receiver) = channel(1);
        sender.try_send(1).unwrap();
        let sending = thread::spawn(move || block_on(sender.send(2)).unwrap());
        assert_eq!(block_on(receiver.recv()), Some(1));
        assert_eq!(block_on(receiver.recv()), Some(2));
        sending.join().unwrap();
    });
}

#[test]
fn two_senders_and_room_for_one_send_each_in_the_end() {
    loom::model(|| {
        let (sender, mut receiver) = channel(1);
        let other = sender.clone();
        let one = thread::spawn(move || block_on(sender.send(1)).unwrap());
        let two = thread::spawn(move || block_on(other.send(2)).unwrap());
        let sum = block_on(receiver.recv()).unwrap() + block_on(receiver.recv()).unwrap();
        assert_eq!((sum, block_on(receiver.recv())), (3, None));
        one.join().unwrap();
        two.join().unwrap();
    });
}

#[test]
fn a_sender_that_gives_up_leaves_the_room_to_the_next() {
    loom::model(|| {
        let (sender, mut receiver) = channel(1);
        sender.try_send(1).unwrap();
        let other = sender.clone();
        let gives_up = thread::spawn(move || {
            let mut sending = pin!(sender.send(7));
            sending.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
        });
        let sends = thread::spawn(move || block_on(other.send(2)).unwrap());
        let mut sum = 0;
        while let Some(n) = block_on(receiver.recv()) {
            sum += n;
        }
        sends.join().unwrap();
        assert_eq!(sum, if gives_up.join().unwrap() { 10 } else { 3 });
    });
}

#[test]
fn a_receiver_that_goes_tells_the_sender_that_waits() {
    loom::model(|| {
        let (sender, mut receiver) = channel(1);
        sender.try_send(1).unwrap();
        let going = thread::spawn(move || {
            assert_eq!(receiver.try_recv(), Ok(1));
            assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty) | Ok(2)));
        });
        // Sent or refused, never left waiting.
        let _ = block_on(sender.send(2));
        going.join().unwrap();
    });
}
