//! The simulator: a deterministic kernel with a virtual clock and an in-memory network.
//!
//! To execute an operation, it asks the in-flight table for the operation's SQE, which borrows the real buffers: so
//! this kernel stores no pointers, and always executes the current description. The order of operations that can
//! continue, the latencies, and the faults are drawn from the seed.

mod faults;
mod net;

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    net::{Shutdown, SocketAddr},
    os::fd::BorrowedFd,
    rc::Rc,
    thread,
};

use net::{Net, SharedNet};

use crate::{
    kernel::{
        fd::{Fd, Inner},
        inflight::{InFlight, ReceiverId, Table},
        key::Key,
        operation::{Brought, Done},
        payload::Payload,
        pool::{Filled, Pool},
        ring::{
            outcome::Outcome,
            perform::{Progress, Step, World, perform},
            terms::{Abilities, Next, RingCounters, Sizes, Wait},
        },
        sqe::{Kind, SockAddr},
    },
    scheduler::{clock::Clock, rng::Rng},
};

pub use faults::Faults;
pub(crate) use net::Socket;

/// The longest latency of data, in virtual nanoseconds.
const LATENCY_NS: u64 = 50_000;
/// The virtual duration of a turn that does not sleep, so that the timers of a busy loop fire.
const TURN_NS: u64 = 1_000;

/// An operation that has not ended.
struct Pending {
    key: Key,
    cancelled: bool,
    progress: Progress,
    /// No completion arrives before this time, so that an operation's completions arrive in order.
    not_before: u64,
    /// A receive that lost a hang-up, with the number of parcels in transit then: it sleeps until there are more.
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
    /// Completions, each with the time at which the loop may see it.
    done: Vec<(u64, Completion)>,
    /// Completions that the loop is taking.
    ready: VecDeque<Completion>,
    /// The result of the completion taken last.
    last: Option<Done>,
    submitted: u64,
    cq: usize,
    pool: Pool,
    /// Something happened since the last pause ended.
    news: bool,
    pub(crate) abilities: Abilities,
    pub(crate) counters: RingCounters,
}

impl Sim {
    pub(crate) fn new(seed: u64, sizes: Sizes, pool: Pool, faults: Faults, clock: Clock) -> Sim {
        Sim {
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
            pool,
            news: true,
            abilities: Abilities::all(sizes),
            counters: RingCounters::default(),
        }
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
                progress: Progress::new(key.silent().is_some()),
                not_before: 0,
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

    /// Executes operations that can continue. If there are none, advances virtual time, as `wait` allows.
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
                // Only another thread can end this sleep.
                (_, None) => {
                    thread::park();
                    return Ok(());
                }
            }
        }
    }

    /// The end of the next pause. `None` also if nothing has happened since the last one ended: another pause would
    /// only keep the loop from waiting for another thread.
    fn next_due(&self) -> Option<u64> {
        self.pending.iter().filter_map(|op| op.progress.due()).min().filter(|_| self.news)
    }

    /// Tries every operation, in random order, until none can continue.
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
                    // As in the kernel, it does not end a sleep. But the peer may have waited for the data.
                    Step::Silence => progress = true,
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
        self.news = op.progress.due().is_none();
        if done.errno() == Some(libc::ENOBUFS) {
            self.counters.enobufs += 1;
        }
        // A silent send reports when it is submitted, or never.
        if !op.progress.silent {
            let late = self.rng.below(self.faults.delay.as_nanos().try_into().unwrap_or(u64::MAX));
            op.not_before = op.not_before.max(self.clock.now_ns().saturating_add(late));
        }
        self.done.push((op.not_before, Completion { key: op.key, done }));
    }

    fn look(&mut self, table: &mut Table, op: &mut Pending) -> Step {
        if op.cancelled && !self.rng.happens(self.faults.success_after_cancel) {
            return Step::Last(op.progress.cancelled());
        }
        let sqe = match table.describe(op.key) {
            Ok(Some(sqe)) => sqe,
            Ok(None) => return Step::Blocked,
            Err(errno) => return Step::Last(Done::new(-errno)),
        };
        let receives = if let Kind::RecvMulti { fd, .. } = &sqe.kind { id(fd) } else { None };
        if let Some(receives) = receives
            && (self.is_deaf(receives, op.deaf)
                || !self.net.borrow_mut().readable(receives, self.clock.now_ns()))
        {
            return if op.cancelled { Step::Last(op.progress.cancelled()) } else { Step::Blocked };
        }
        if receives.is_some() && self.rng.happens(self.faults.enobufs) {
            return Step::Last(Done::new(-libc::ENOBUFS));
        }
        match perform(self, sqe, &mut op.progress) {
            Step::Blocked if op.cancelled => Step::Last(op.progress.cancelled()),
            Step::Last(done) if done.errno() == Some(libc::ETIME) && !self.news => Step::Blocked,
            step => {
                if let (Some(id), Step::More(_)) = (receives, &step) {
                    let hang_up = self.net.borrow_mut().only_hang_up(id);
                    op.deaf = hang_up.filter(|_| self.rng.happens(self.faults.lose_hang_ups));
                }
                step
            }
        }
    }

    /// Whether a receive has lost a hang-up, and nothing else has arrived since.
    fn is_deaf(&self, id: usize, deaf: Option<usize>) -> bool {
        deaf.is_some() && deaf == self.net.borrow_mut().only_hang_up(id)
    }

    /// Hands over due completions, as many as the completion queue holds.
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
    pub(crate) fn next(&mut self, table: &mut Table) -> Next {
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
    pub(crate) fn next_data(&mut self, table: &mut Table, to: ReceiverId) -> Option<(u32, Filled)> {
        let Completion { key, done } = self.ready.front()?;
        let (whose, _) = table.receiver(*key)?;
        if !done.more || whose != to || done.buffer().is_none() {
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

    /// Shuffles the completions of different operations; those of one operation keep their order.
    fn reorder(&mut self, ready: &mut [(u64, Completion)]) {
        let salt = self.rng.next();
        ready.sort_by_key(|(_, c)| Rng::new(salt ^ c.key.to_user_data()).next());
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn bind(&mut self, addr: SocketAddr) -> io::Result<Fd> {
        let id = self.net.borrow_mut().bind(addr)?;
        Ok(Fd::simulated(Socket::open(id, &self.net, &self.clock)))
    }

    pub(crate) fn connector(&mut self, local: Option<SocketAddr>) -> io::Result<Fd> {
        let id = self.net.borrow_mut().connector(local);
        Ok(Fd::simulated(Socket::open(id, &self.net, &self.clock)))
    }
}

/// Only simulated descriptors exist here.
impl World for Sim {
    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    fn pool(&self) -> Pool {
        self.pool.clone()
    }

    fn cap(&self, asked: u32) -> u32 {
        self.abilities.cap(asked)
    }

    fn most(&mut self, len: usize) -> usize {
        if len > 1 && self.rng.happens(self.faults.short_transfers) {
            1 + self.rng.below(len as u64 - 1) as usize
        } else {
            len
        }
    }

    fn receive(&mut self, fd: &Fd, buf: &mut [u8]) -> Outcome {
        let now = self.clock.now_ns();
        self.on(fd, |net, id| net.receive(id, buf, now))
    }

    fn send(&mut self, fd: &Fd, bufs: &[&[u8]]) -> Outcome {
        let data = bufs.first().copied().unwrap_or_default();
        let at = self.clock.now_ns().saturating_add(self.rng.below(LATENCY_NS));
        self.on(fd, |net, id| net.send(id, data, at))
    }

    fn accept(&mut self, fd: &Fd) -> Outcome<(Fd, Option<SockAddr>)> {
        match self.on(fd, |net, id| net.accept(id)) {
            Outcome::Ready(accepted) => {
                let fd = Fd::simulated(Socket::open(accepted, &self.net, &self.clock));
                let peer = fd.peer_addr().ok().map(SockAddr::from);
                Outcome::Ready((fd, peer))
            }
            Outcome::Blocked => Outcome::Blocked,
            Outcome::Failed(errno) => Outcome::Failed(errno),
        }
    }

    fn connect(&mut self, fd: &Fd, addr: &SockAddr, _: bool) -> Outcome<()> {
        let Some(addr) = addr.to_std() else { return Outcome::Failed(libc::EAFNOSUPPORT) };
        self.on(fd, |net, id| net.connect(id, addr))
    }

    fn shutdown(&mut self, fd: &Fd, how: Shutdown) -> Outcome<()> {
        self.on(fd, |net, id| {
            net.shutdown(id, how);
            Outcome::Ready(())
        })
    }

    fn poll_readable(&mut self, fd: &Fd) -> Outcome<i16> {
        let now = self.clock.now_ns();
        self.on(
            fd,
            |net, id| if net.readable(id, now) { Outcome::Ready(libc::POLLIN) } else { Outcome::Blocked },
        )
    }

    fn poll_hang_ups(&mut self, fd: &Fd) -> Outcome<i16> {
        let now = self.clock.now_ns();
        self.on(fd, |net, id| match net.hang_ups(id, now) {
            0 => Outcome::Blocked,
            events => Outcome::Ready(events),
        })
    }

    fn wait_exit(&mut self, _: BorrowedFd<'_>) -> Outcome<()> {
        Outcome::Failed(libc::EOPNOTSUPP)
    }
}

impl Sim {
    fn on<T>(&self, fd: &Fd, f: impl FnOnce(&mut Net, usize) -> Outcome<T>) -> Outcome<T> {
        match id(fd) {
            Some(id) => f(&mut self.net.borrow_mut(), id),
            None => Outcome::Failed(libc::EOPNOTSUPP),
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
