//! The inbox under every interleaving of its threads:
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test -p corio-runtime --release --test loom_inbox`
#![cfg(loom)]

#[path = "../src/scheduler/inbox.rs"]
#[allow(dead_code, reason = "the models use a part")]
mod inbox;

use inbox::{Inbox, Notify};
use loom::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

const ONE: u64 = 1;
const TWO: u64 = 2;

/// Counts notifications.
#[derive(Clone)]
struct Bell(Arc<AtomicUsize>);

impl Bell {
    fn new() -> Bell {
        Bell(Arc::new(AtomicUsize::new(0)))
    }

    fn rung(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Notify for Bell {
    fn notify(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A message that counts its end, read or not.
struct Letter(Arc<AtomicUsize>);

impl Drop for Letter {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn opened<M>(loop_id: u64) -> (Arc<Inbox<M, Bell>>, Bell) {
    let (inbox, bell) = (Inbox::new(), Bell::new());
    inbox.open(loop_id, bell.clone());
    (Arc::new(inbox), bell)
}

/// Reads all that is there.
fn drain<M>(inbox: &Inbox<M, Bell>, loop_id: u64) -> Vec<M> {
    std::iter::from_fn(|| inbox.receive(loop_id)).collect()
}

#[test]
fn f1_a_sleeper_sees_the_message_or_is_notified() {
    loom::model(|| {
        let (inbox, bell) = opened(ONE);
        let sender = {
            let inbox = inbox.clone();
            thread::spawn(move || assert!(inbox.send(ONE, 7).is_ok()))
        };
        let sleeps = inbox.prepare_sleep();
        sender.join().unwrap();
        if sleeps {
            assert_eq!(bell.rung(), 1, "it sleeps on a message that nobody tells it of");
            inbox.awake();
        }
        assert_eq!(drain(&inbox, ONE), [7]);
    });
}

#[test]
fn f1_two_senders_lose_nothing_and_notify_once() {
    loom::model(|| {
        let (inbox, bell) = opened(ONE);
        let senders: Vec<_> = (0..2)
            .map(|n| {
                let inbox = inbox.clone();
                thread::spawn(move || assert!(inbox.send(ONE, n).is_ok()))
            })
            .collect();
        let sleeps = inbox.prepare_sleep();
        for sender in senders {
            sender.join().unwrap();
        }
        assert!(bell.rung() <= 1, "one system call for a sleep");
        assert!(!sleeps || bell.rung() == 1);
        let mut read = drain(&inbox, ONE);
        read.sort_unstable();
        assert_eq!(read, [0, 1]);
    });
}

#[test]
fn f1_turn_after_turn_no_message_is_slept_on() {
    loom::model(|| {
        let (inbox, bell) = opened(ONE);
        let sender = {
            let inbox = inbox.clone();
            thread::spawn(move || (0..2).for_each(|n| assert!(inbox.send(ONE, n).is_ok())))
        };
        let mut read = Vec::new();
        // Two turns that do not really sleep, as if the kernel woke the loop for another reason.
        for _ in 0..2 {
            if inbox.prepare_sleep() {
                inbox.awake();
            }
            read.extend(drain(&inbox, ONE));
        }
        let before = bell.rung();
        let sleeps = inbox.prepare_sleep();
        sender.join().unwrap();
        // It sleeps: whatever is in the inbox now came after it looked, and rang.
        let missed = 2 - read.len();
        assert!(!sleeps || missed == 0 || bell.rung() > before);
        read.extend(drain(&inbox, ONE));
        assert_eq!(read, [0, 1]);
    });
}

#[test]
fn f5_a_message_that_races_with_the_close_is_read_or_dropped() {
    loom::model(|| {
        let (inbox, _bell) = opened(ONE);
        let ended = Arc::new(AtomicUsize::new(0));
        let sender = {
            let (inbox, letter) = (inbox.clone(), Letter(ended.clone()));
            thread::spawn(move || inbox.send(ONE, letter).is_ok())
        };
        let read = inbox.receive(ONE).is_some();
        inbox.close();
        let taken = sender.join().unwrap();
        assert!(inbox.is_empty(), "stuck in a closed inbox");
        assert!(!read || taken);
        assert_eq!(ended.load(Ordering::SeqCst), 1, "read, dropped, or given back");
    });
}

#[test]
fn f5_a_stale_letter_never_reaches_the_next_loop_and_never_waits_for_it() {
    loom::model(|| {
        let (inbox, _bell) = opened(ONE);
        let ended = Arc::new(AtomicUsize::new(0));
        let sender = {
            let (inbox, letter) = (inbox.clone(), Letter(ended.clone()));
            thread::spawn(move || inbox.send(ONE, letter).is_ok())
        };
        inbox.close();
        let bell = Bell::new();
        inbox.open(TWO, bell.clone());
        let sleeps = inbox.prepare_sleep();
        sender.join().unwrap();
        // Its destructor is its answer, which a sleeping loop must not hold back.
        let answered = ended.load(Ordering::SeqCst) == 1;
        assert!(answered || !sleeps || bell.rung() == 1, "stuck in the inbox of a loop that sleeps");
        inbox.awake();
        assert!(inbox.receive(TWO).is_none(), "a stale letter is not for the new loop");
        assert_eq!(ended.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn f5_the_next_loop_gets_its_own_letters_beside_a_stale_sender() {
    loom::model(|| {
        let (inbox, _bell) = opened(ONE);
        let stale = {
            let inbox = inbox.clone();
            thread::spawn(move || inbox.send(ONE, "stale").is_ok())
        };
        inbox.close();
        let bell = Bell::new();
        inbox.open(TWO, bell.clone());
        let sender = {
            let inbox = inbox.clone();
            thread::spawn(move || assert!(inbox.send(TWO, "own").is_ok()))
        };
        let sleeps = inbox.prepare_sleep();
        sender.join().unwrap();
        stale.join().unwrap();
        assert!(!sleeps || bell.rung() == 1);
        assert_eq!(drain(&inbox, TWO), ["own"]);
    });
}
