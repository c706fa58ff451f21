//! The simulator: a deterministic kernel with a virtual clock and an in-memory network.
//!
//! It executes an operation by asking the in-flight table for the operation's SQE when its time has come,
//! which lends the real buffers: so there is no pointer here, and what the operation describes is what happens.
//! The order among operations that can go on, the latencies, and the faults are drawn from the seed.

mod faults;
mod net;
mod rng;

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    net::SocketAddr,
    panic::{self, AssertUnwindSafe},
    ptr,
    rc::Rc,
    thread,
};

pub use faults::Faults;
pub(crate) use net::Socket;
use net::{Net, Outcome, SharedNet};
use rng::Rng;

use super::{Abilities, Next, RingCounters, Sizes, Wait};
use crate::{
    clock::Clock,
    exception,
    fd::{Fd, Inner},
    op::{
        Brought, Done, Kind, Pause, Payload, Receiver, Sqe,
        inflight::{InFlight, Key, Table},
    },
    pool::{Filled, Pool},
    socket::ListenOptions,
};

/// Data takes up to this long, in virtual nanoseconds.
const LATENCY_NS: u64 = 50_000;
/// A turn that does not sleep takes this long, so that a busy loop's timers come up.
const TURN_NS: u64 = 1_000;

/// An operation that has not ended.
struct Pending {
    key: Key,
    cancelled: bool,
    /// Bytes moved so far by a send, or by a capped receive.
    moved: usize,
    sends: bool,
    /// A send that reports nothing if it sends everything.
    silent: bool,
    /// Its completions arrive in order: none before this time.
    not_before: u64,
    /// The end of a pause.
    due: Option<u64>,
    /// A receive that has lost a hang-up, with what was on its way then: it sleeps until there is more.
    deaf: Option<usize>,
}

/// A completion that has not been taken.
struct Completion {
    key: Key,
    done: Done,
}

/// See the head of the file.
pub(crate) struct Sim {
    clock: Clock,
    rng: Rng,
    faults: Faults,
    net: SharedNet,
    pending: Vec<Pending>,
    /// What was executed, each with the time at which the loop may see it.
    done: Vec<(u64, Completion)>,
    /// What the loop is taking.
    ready: VecDeque<Completion>,
    /// Of the one that it took last.
    last: Option<Done>,
    submitted: u64,
    cq: usize,
    pool: Pool,
    /// Something happened since the last pause was over.
    news: bool,
    pub(crate) abilities: Abilities,
    pub(crate) counters: RingCounters,
}

/// What one look at an operation came to.
enum Step {
    Blocked,
    /// A result, with more to come.
    More(Done),
    Last(Done),
    /// The end of a silent send that sent everything.
    Silence,
}

impl Sim {
    pub(crate) fn new(seed: u64, sizes: Sizes, faults: Faults, clock: Clock) -> io::Result<Sim> {
        Ok(Sim {
            clock,
            rng: Rng::new(seed),
            net: Rc::new(RefCell::new(Net::new(faults.window))),
            faults,
            pending: Vec::new(),
            done: Vec::new(),
            ready: VecDeque::new(),
            last: None,
            submitted: 0,
            cq: sizes.cq as usize,
            pool: Pool::simulated(sizes.buffer_count, sizes.buffer_size)?,
            news: true,
            abilities: Abilities::all(sizes),
            counters: RingCounters::default(),
        })
    }

    pub(crate) fn submit(&mut self, table: &mut Table, op: InFlight) -> Key {
        let key = table.insert(op, None, false);
        self.queue(key);
        key
    }

    #[inline(never)]
    pub(crate) fn send_silently(
        &mut self,
        table: &mut Table,
        payload: Box<dyn Payload>,
        fd: &Fd,
        token: u32,
    ) -> Key {
        let key = table.silent.push(payload, fd, token, self.submitted);
        self.queue(key);
        key
    }

    fn queue(&mut self, key: Key) {
        self.submitted += 1;
        self.counters.sqes += 1;
        let number = self.submitted;
        match self.faults.fail.iter().find(|(n, _)| *n == number) {
            Some((_, errno)) => self.done.push((0, Completion { key, done: Done::new(-errno) })),
            None => self.pending.push(Pending {
                key,
                cancelled: false,
                moved: 0,
                sends: false,
                silent: key.silent().is_some(),
                not_before: 0,
                due: None,
                deaf: None,
            }),
        }
    }

    pub(crate) fn cancel(&mut self, key: Key) {
        self.counters.cancels += 1;
        if let Some(op) = self.pending.iter_mut().find(|op| op.key == key) {
            op.cancelled = true;
        }
    }

    pub(crate) fn wants_enter(&self) -> bool {
        !self.pending.is_empty() || !self.done.is_empty()
    }

    /// Executes what can go on; if that is nothing, lets virtual time pass, as `wait` allows.
    #[inline(never)]
    pub(crate) fn enter(&mut self, table: &mut Table, wait: Wait) -> io::Result<()> {
        self.counters.enters += 1;
        if wait == Wait::No {
            self.clock.advance_to(self.clock.now_ns().saturating_add(TURN_NS));
        }
        loop {
            self.execute(table);
            let now = self.clock.now_ns();
            if wait == Wait::No || self.done.iter().any(|(at, _)| *at <= now) {
                return Ok(());
            }
            let arrival = self.net.borrow().next_arrival(now);
            let next = self.done.iter().map(|(at, _)| *at).chain(arrival).chain(self.next_due()).min();
            match (wait, next) {
                (Wait::Until(deadline), next) if next.is_none_or(|at| at >= deadline) => {
                    self.clock.advance_to(deadline);
                    return Ok(());
                }
                (_, Some(at)) => self.clock.advance_to(at),
                // Only another thread can end this.
                (_, None) => {
                    thread::park();
                    return Ok(());
                }
            }
        }
    }

    /// When the next pause is over. Without news none is: it would only keep the loop from waiting for another thread.
    fn next_due(&self) -> Option<u64> {
        self.pending.iter().filter_map(|op| op.due).min().filter(|_| self.news)
    }

    /// Looks at every operation, in any order, until none can go on.
    fn execute(&mut self, table: &mut Table) {
        let mut pending = std::mem::take(&mut self.pending);
        self.rng.shuffle(&mut pending);
        let mut progress = true;
        while progress {
            progress = false;
            let mut blocked = Vec::with_capacity(pending.len());
            for mut op in pending {
                match self.look(table, &mut op) {
                    Step::Blocked => blocked.push(op),
                    // As in the kernel it does not end a sleep.
                    Step::Silence => {}
                    Step::Last(done) => {
                        progress = true;
                        self.complete(&mut op, done, false);
                    }
                    Step::More(done) => {
                        progress = true;
                        let last = self.rng.happens(self.faults.lose_more);
                        self.complete(&mut op, done, !last);
                        if !last {
                            blocked.push(op);
                        }
                    }
                }
            }
            pending = blocked;
        }
        self.pending = pending;
    }

    fn complete(&mut self, op: &mut Pending, mut done: Done, more: bool) {
        done.more = more;
        self.news = op.due.is_none();
        if done.errno() == Some(libc::ENOBUFS) {
            self.counters.enobufs += 1;
        }
        // A silent send reports as it is submitted, or not at all.
        if !op.silent {
            let late = self.rng.below(self.faults.delay.as_nanos().try_into().unwrap_or(u64::MAX));
            op.not_before = op.not_before.max(self.clock.now_ns().saturating_add(late));
        }
        self.done.push((op.not_before, Completion { key: op.key, done }));
    }

    fn look(&mut self, table: &mut Table, op: &mut Pending) -> Step {
        if op.cancelled && !self.rng.happens(self.faults.success_after_cancel) {
            return Step::Last(op.cancelled());
        }
        // Foreign code, which was called once before.
        let (key, table) = (op.key, AssertUnwindSafe(table));
        let described = panic::catch_unwind(move || {
            let whole = table;
            whole.0.sqe(key)
        });
        let sqe = match described {
            Ok(Some(sqe)) => sqe,
            Ok(None) => return Step::Blocked,
            Err(payload) => {
                exception::discard(payload);
                return Step::Last(Done::new(-libc::EFAULT));
            }
        };
        match self.perform(sqe, op) {
            Step::Blocked if op.cancelled => Step::Last(op.cancelled()),
            step => step,
        }
    }

    fn perform(&mut self, sqe: Sqe<'_>, op: &mut Pending) -> Step {
        let now = self.clock.now_ns();
        match sqe.kind {
            Kind::Nop => Step::Last(Done::new(0)),
            Kind::Recv { fd, buf } | Kind::Read { fd, buf } => match id(fd) {
                Some(id) => self.receive(id, buf),
                None => refused(),
            },
            Kind::RecvMulti { fd, cap } => match id(fd) {
                Some(id) => self.receive_multi(id, self.abilities.cap(cap) as usize, op),
                None => refused(),
            },
            Kind::Send { fd, buf } | Kind::Write { fd, buf } => match id(fd) {
                Some(id) => self.send(id, &[buf], op),
                None => refused(),
            },
            Kind::SendVectored { fd, bufs } => match id(fd) {
                Some(id) => self.send(id, &bufs, op),
                None => refused(),
            },
            Kind::AcceptMulti { fd } => match id(fd) {
                Some(id) => self.accept(id),
                None => refused(),
            },
            Kind::Connect { fd, addr } => match (id(fd), addr.to_std()) {
                (Some(id), Some(addr)) => step(self.net.borrow_mut().connect(id, addr)),
                _ => refused(),
            },
            Kind::Shutdown { fd, how } => match id(fd) {
                Some(id) => {
                    self.net.borrow_mut().shutdown(id, how);
                    Step::Last(Done::new(0))
                }
                None => refused(),
            },
            Kind::WaitExit { .. } => refused(),
            Kind::Pause { pause } => self.pause(pause, op),
            Kind::PollMulti { fd } => match id(fd) {
                Some(id) => self.poll_multi(id, op),
                None => refused(),
            },
            Kind::PollReadable { fd } => match id(fd) {
                Some(id) if self.net.borrow_mut().readable(id, now) => {
                    Step::Last(Done::new(libc::POLLIN.into()))
                }
                Some(_) => Step::Blocked,
                None => refused(),
            },
        }
    }

    fn pause(&self, pause: &Pause, op: &mut Pending) -> Step {
        let now = self.clock.now_ns();
        let due = *op.due.get_or_insert(now.saturating_add(pause.nanos));
        if due <= now && self.news { Step::Last(Done::new(-libc::ETIME)) } else { Step::Blocked }
    }

    /// How much of `len` bytes a transfer moves at most.
    fn transfer(&mut self, len: usize) -> usize {
        if len > 1 && self.rng.happens(self.faults.short_transfers) {
            1 + self.rng.below(len as u64 - 1) as usize
        } else {
            len
        }
    }

    fn receive(&mut self, id: usize, buf: &mut [u8]) -> Step {
        let most = self.transfer(buf.len());
        let (outcome, more) = self.net.borrow_mut().receive(id, &mut buf[..most], self.clock.now_ns());
        match step(outcome) {
            Step::Last(mut done) => {
                done.sock_nonempty = more;
                Step::Last(done)
            }
            other => other,
        }
    }

    fn receive_multi(&mut self, id: usize, cap: usize, op: &mut Pending) -> Step {
        let now = self.clock.now_ns();
        if !self.net.borrow_mut().readable(id, now) {
            return Step::Blocked;
        }
        if op.deaf.is_some() && op.deaf == self.net.borrow_mut().only_hang_up(id) {
            return Step::Blocked;
        }
        if self.pool.available() == 0 || self.rng.happens(self.faults.enobufs) {
            return Step::Last(Done::new(-libc::ENOBUFS));
        }
        let mut bytes = vec![0; self.transfer(self.pool.buffer_size())];
        let (outcome, more) = self.net.borrow_mut().receive(id, &mut bytes, now);
        match outcome {
            Outcome::Ready(n @ 1..) => {
                op.moved += n;
                let mut done = Done::new(n as i32);
                done.brought = match self.pool.receive(&bytes[..n]) {
                    Some(filled) => Brought::Buf(self.pool.share(filled)),
                    None => Brought::Nothing,
                };
                done.sock_nonempty = more;
                let hang_up = self.net.borrow_mut().only_hang_up(id);
                op.deaf = hang_up.filter(|_| self.rng.happens(self.faults.lose_hang_ups));
                if cap > 0 && op.moved >= cap { Step::Last(done) } else { Step::More(done) }
            }
            other => step(other),
        }
    }

    /// Tells of each change once.
    fn poll_multi(&mut self, id: usize, op: &mut Pending) -> Step {
        let events = self.net.borrow_mut().hang_ups(id, self.clock.now_ns());
        if events == 0 || op.moved == events as usize {
            return Step::Blocked;
        }
        op.moved = events as usize;
        Step::More(Done::new(events.into()))
    }

    /// As `MSG_WAITALL`: ends when everything is sent. A silent send does not wait.
    fn send(&mut self, id: usize, bufs: &[&[u8]], op: &mut Pending) -> Step {
        let silent = op.silent;
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        let stop = self.transfer(total);
        let at = self.clock.now_ns().saturating_add(self.rng.below(LATENCY_NS));
        let mut skip = op.moved;
        op.sends = true;
        for buf in bufs {
            let rest = &buf[skip.min(buf.len())..];
            skip = skip.saturating_sub(buf.len());
            let rest = &rest[..rest.len().min(stop.saturating_sub(op.moved))];
            if rest.is_empty() {
                continue;
            }
            match self.net.borrow_mut().send(id, rest, at) {
                Outcome::Ready(n) => op.moved += n,
                Outcome::Failed(errno) if op.moved == 0 => return Step::Last(Done::new(-errno)),
                Outcome::Failed(_) => return Step::Last(Done::new(op.moved as i32)),
                Outcome::Blocked if !silent => return Step::Blocked,
                Outcome::Blocked if op.moved == 0 => return Step::Last(Done::new(-libc::EAGAIN)),
                Outcome::Blocked => break,
            }
            if op.moved < total && op.moved < stop && !silent {
                return Step::Blocked;
            }
        }
        if silent && op.moved == total { Step::Silence } else { Step::Last(Done::new(op.moved as i32)) }
    }

    fn accept(&mut self, id: usize) -> Step {
        let outcome = self.net.borrow_mut().accept(id);
        match outcome {
            Outcome::Ready(accepted) => {
                let mut done = Done::new(accepted as i32);
                done.brought = Brought::Fd(Socket::open(accepted, &self.net));
                Step::More(done)
            }
            other => step(other),
        }
    }

    /// Hands over what has arrived, as much as the completion queue holds.
    #[inline(never)]
    pub(crate) fn arrived(&mut self, table: &mut Table) {
        let now = self.clock.now_ns();
        let capacity = self.faults.cq_capacity.unwrap_or(self.cq);
        let (mut ready, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.done).into_iter().partition(|(at, _)| *at <= now);
        self.done = later;
        if self.faults.reorder {
            self.reorder(&mut ready);
        }
        if ready.len() > capacity {
            self.counters.overflows += 1;
            self.done.splice(..0, ready.split_off(capacity));
        } else {
            table.silent.settle(self.submitted);
        }
        self.counters.cqes += ready.len() as u64;
        self.ready.extend(ready.into_iter().map(|(_, completion)| completion));
    }

    #[inline(never)]
    pub(crate) fn next(&mut self, table: &Table) -> Next {
        let Some(Completion { key, done }) = self.ready.pop_front() else { return Next::None };
        if done.more
            && let Some((to, token)) = table.receiver(key)
            && let Brought::Buf(data) = done.brought
        {
            return Next::Data(to, token, data.unshare());
        }
        self.last = Some(done);
        Next::Other(key)
    }

    #[inline(never)]
    pub(crate) fn next_data(&mut self, table: &Table, to: &'static Receiver) -> Option<(u32, Filled)> {
        let Completion { key, done } = self.ready.front()?;
        let (whose, _) = table.receiver(*key)?;
        if !done.more || !ptr::eq(whose, to) || done.buffer().is_none() {
            return None;
        }
        match self.next(table) {
            Next::Data(_, token, filled) => Some((token, filled)),
            Next::None | Next::Other(_) => None,
        }
    }

    pub(crate) fn done(&mut self) -> Done {
        self.last.take().expect("a completion is asked for once, after `next`")
    }

    /// Any order among operations; the completions of one keep theirs.
    fn reorder(&mut self, ready: &mut [(u64, Completion)]) {
        let salt = self.rng.next();
        ready.sort_by_key(|(_, c)| Rng::new(salt ^ c.key.to_user_data()).next());
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn listen(&mut self, addr: SocketAddr, options: ListenOptions) -> io::Result<Fd> {
        let id = self.net.borrow_mut().listen(addr, options)?;
        Ok(Socket::open(id, &self.net))
    }

    pub(crate) fn connector(&mut self, local: Option<SocketAddr>) -> io::Result<Fd> {
        let id = self.net.borrow_mut().connector(local);
        Ok(Socket::open(id, &self.net))
    }
}

impl Pending {
    /// The last word of a cancelled operation. A send tells how far it came, as the kernel does.
    fn cancelled(&self) -> Done {
        match self.sends {
            true if self.moved > 0 => Done::new(self.moved as i32),
            _ => Done::new(-libc::ECANCELED),
        }
    }
}

/// The socket of a simulated descriptor.
fn id(fd: &Fd) -> Option<usize> {
    match fd.inner() {
        Inner::Sim(socket) => Some(socket.id()),
        Inner::Os(_) => None,
    }
}

/// The kernel's own descriptors do not exist in the simulation.
fn refused() -> Step {
    Step::Last(Done::new(-libc::EOPNOTSUPP))
}

fn step(outcome: Outcome) -> Step {
    match outcome {
        Outcome::Blocked => Step::Blocked,
        Outcome::Ready(n) => Step::Last(Done::new(n as i32)),
        Outcome::Failed(errno) => Step::Last(Done::new(-errno)),
    }
}
