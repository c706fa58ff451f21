//! Tests at start-up for abilities that no version number shows. They run on the fresh ring, with operations of their
//! own.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    rc::Rc,
};

use crate::kernel::{
    fd::Fd,
    inflight::{InFlight, Table},
    key::Key,
    operation::{Done, Multishot, Operation},
    payload::Payload,
    ring::{
        refusal::Refusal,
        terms::{Next, RingCounters, Wait},
        uring::{Encoded, Uring},
    },
    sqe::Sqe,
};

const ENTER: &str = "io_uring_enter";
const BLOCK: usize = 64 * 1024;

/// Notes the kernel's abilities.
pub(super) fn try_all(ring: &mut Uring) -> Result<(), Refusal> {
    ring.abilities.silent_sends = silent_send(ring)?;
    if !capped_receive(ring)? {
        ring.abilities.receive_cap = 0;
    }
    ring.abilities.quiet_writes = quiet_write(ring)?;
    ring.counters = RingCounters::default();
    Ok(())
}

/// Fills a socket pair with silent sends. Those without a completion must have sent everything, and the reported bytes
/// must add up to the bytes that arrive.
fn silent_send(ring: &mut Uring) -> Result<bool, Refusal> {
    let (ours, mut theirs) = UnixStream::pair().map_err(Refusal::of("socketpair"))?;
    theirs.set_nonblocking(true).map_err(Refusal::of("ioctl"))?;
    let fd = Fd::from(std::os::fd::OwnedFd::from(ours));
    let mut table = Table::new(|| ());
    let (mut sent, mut full) = (0, false);
    for _ in 0..256 {
        let payload = Box::new(Zeroes);
        let Ok(key) = ring.send_silently(&mut table, payload, &fd, 0) else { break };
        let completions = run(ring, &mut table, key)?;
        let [(_, res)] = completions[..] else { return finish(ring, &mut table, false) };
        match res {
            count @ 1.. => sent += count as usize,
            _ => full = true,
        }
        if full {
            break;
        }
    }
    let mut arrived = 0;
    let mut buf = vec![0; BLOCK];
    while let Ok(n @ 1..) = theirs.read(&mut buf) {
        arrived += n;
    }
    let honoured = full && sent == arrived && table.silent.succeeded > 0;
    finish(ring, &mut table, honoured)
}

/// A multishot receive with a cap of 16 bytes must end by itself after at least 16 bytes.
fn capped_receive(ring: &mut Uring) -> Result<bool, Refusal> {
    let (ours, mut theirs) = UnixStream::pair().map_err(Refusal::of("socketpair"))?;
    let fd = Fd::from(std::os::fd::OwnedFd::from(ours));
    theirs.write_all(&[0; 32]).map_err(Refusal::of("write"))?;
    let mut table = Table::new(|| ());
    let op = InFlight::Shots(Rc::new(CappedRecv(fd)));
    let key = ring.submit(&mut table, Encoded::new(op, ring.abilities));
    let completions = run(ring, &mut table, key)?;
    let honoured = matches!(completions[..], [(false, 32)]);
    finish(ring, &mut table, honoured)
}

/// Whether a write may suppress SIGPIPE: an unknown flag is refused before anything is written.
fn quiet_write(ring: &mut Uring) -> Result<bool, Refusal> {
    let (_read, write) = io::pipe().map_err(Refusal::of("pipe2"))?;
    let mut table = Table::new(|| ());
    let op = Box::new(EmptyWrite { fd: Fd::from(std::os::fd::OwnedFd::from(write)) });
    let key = ring.submit(&mut table, Encoded::new(InFlight::Resident(op), ring.abilities));
    let completions = run(ring, &mut table, key)?;
    finish(ring, &mut table, completions == [(false, 0)])
}

/// Enters the ring. On failure the operations are freed if the kernel has consumed no SQE; otherwise the ring is
/// leaked, as the kernel may still write to its memory.
fn enter(ring: &mut Uring, table: &mut Table, wait: Wait) -> Result<(), Refusal> {
    ring.enter(wait).map_err(|e| {
        if ring.consumed() == 0 {
            table.take_back();
        } else {
            ring.leak();
        }
        Refusal::of(ENTER)(e)
    })
}

/// Submits, and collects the immediate completions of an operation: (more to come, result).
fn run(ring: &mut Uring, table: &mut Table, key: Key) -> Result<Vec<(bool, i32)>, Refusal> {
    enter(ring, table, Wait::No)?;
    ring.arrived(table);
    let mut reports = Vec::new();
    while let Some((whose, done)) = next(ring, table) {
        if whose == key {
            reports.push((done.more, done.res));
        }
        take(table, whose, done.more);
    }
    while let Some(send) = table.silent.next_over() {
        reports.push((false, send.payload.bytes().len() as i32));
    }
    Ok(reports)
}

/// Ends all operations that the test left in flight.
fn finish(ring: &mut Uring, table: &mut Table, passed: bool) -> Result<bool, Refusal> {
    for key in table.keys() {
        ring.cancel(key);
    }
    while table.in_flight() > 0 {
        enter(ring, table, Wait::Forever)?;
        ring.arrived(table);
        while let Some((key, done)) = next(ring, table) {
            take(table, key, done.more);
        }
        while table.silent.next_over().is_some() {}
    }
    Ok(passed)
}

/// The next completion. The tests start no receives of handles, so all are `Next::Other`.
fn next(ring: &mut Uring, table: &mut Table) -> Option<(Key, Done)> {
    match ring.next(table) {
        Next::Other(key) => Some((key, ring.done(table))),
        Next::None | Next::Data(..) => None,
    }
}

/// Takes an operation out of the table after its final completion.
fn take(table: &mut Table, key: Key, more: bool) {
    if !more {
        drop(table.deliver(key));
    }
}

struct Zeroes;

impl Payload for Zeroes {
    fn bytes(&self) -> &[u8] {
        &[0; BLOCK]
    }

    fn sent(self: Box<Self>, _: u32, _: i32) {}
}

struct CappedRecv(Fd);

impl Multishot for CappedRecv {
    fn prepare(&self) -> Sqe<'_> {
        Sqe::recv_multi(&self.0, 16)
    }

    fn item(&self, _: Done) {}

    fn end(&self, _: Done) {}
}

struct EmptyWrite {
    fd: Fd,
}

impl Operation for EmptyWrite {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        Sqe::write(&self.fd, &[])
    }

    fn complete(self: Box<Self>, _: Done) {}
}
