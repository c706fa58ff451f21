//! The io_uring kernel of the ring.
//!
//! # What this file owns
//! The io_uring instance, the SQEs that did not fit into its queue (`backlog`), and the registered buffer pool. The
//! operations themselves belong to the in-flight table (`kernel/inflight.rs`), which is part of the proof: an operation
//! leaves it only by `deliver`, on a completion without F_MORE, or by `SilentSends::next_over`, for a completion that
//! is final by rule 3 (or by `take_back` at start-up, see rule 2).
//!
//! # States of an operation, as this file sees it
//! ```text
//!   submit ──▶ queued (backlog or SQ) ──enter──▶ the kernel's ──CQE with F_MORE──▶ the kernel's
//!                                                    │
//!                                                    └─CQE without F_MORE, or silent success──▶ finished
//! ```
//!
//! # Rules
//! 1. Every pointer of an SQE borrows from the operation (`Sqe<'_>` from `prepare`, the `bytes` of a payload), from
//!    static memory, or from the `Scratch` that is stored with the operation. The operation is boxed before that. Until
//!    the operation's final completion its contents are not moved, touched or freed, neither by an `Encoded`, which is
//!    submitted or dropped as a whole, nor by the table (a table that is dropped earlier leaks them).
//! 2. From its push on, an SQE counts as in flight, even if `enter` fails: nothing is taken back. (Except at start-up:
//!    a ring whose first `enter` is refused has consumed nothing, and is dropped.)
//! 3. A completion is final if it lacks F_MORE. The missing completion of a silent send is final if the kernel has
//!    consumed the send in an `enter` that returned, and the CQ was drained after that, with no completions left
//!    outside of it by an overflow (self-tested at start-up).
//! 4. A result of 0 or more of an operation marked `makes_fd` is a new descriptor without another owner.
//! 5. The pool's region outlives its registration: the ring is dropped first (field order), or both leak.
//! 6. The ring is dropped only when the table has no operations in flight: a closing loop quiesces; if that fails,
//!    `Driver::drop` calls `leak`.
//! 7. Only the loop's thread uses the ring: `Uring` lives in a `Loop`, which is not `Send`.

use std::{
    collections::VecDeque,
    fmt, io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
    time::Duration,
};

use io_uring::{
    IoUring, cqueue, opcode,
    squeue::{Entry, Flags},
    types::{self, SubmitArgs, Timespec},
};

use crate::{
    kernel::{
        fd::{Fd, Inner},
        inflight::{InFlight, ReceiverId, Table},
        key::Key,
        operation::{Brought, Done},
        payload::Payload,
        pool::{self, Filled, Pool},
        ring::{
            not_entered::not_entered,
            refusal::Refusal,
            set_up::set_up,
            terms::{Abilities, Next, RingCounters, Sizes, Wait},
        },
        scratch::Scratch,
        sqe::{Kind, Sqe},
    },
    scheduler::{clock::Clock, slab::smaller},
};

/// The longest sleep: a year. The loop then checks its timers again. The kernel adds it to its clock, which ends after
/// 292 years.
const WAIT_MAX_NS: u64 = 365 * 24 * 3600 * 1_000_000_000;
/// The user data of SQEs whose completions are ignored.
const IGNORED: u64 = u64::MAX;

pub(crate) struct Uring {
    // Dropped before the pool: rule 5.
    ring: Option<IoUring>,
    pub(crate) pool: Pool,
    backlog: VecDeque<Entry>,
    /// A completion that was taken from the CQ, but is not yet delivered.
    last: Option<cqueue::Entry>,
    pushed: u64,
    registered: Option<u32>,
    flags: u32,
    pub(crate) abilities: Abilities,
    clock: Clock,
    pub(crate) counters: RingCounters,
}

impl Uring {
    /// Sets up the ring, smaller if locked memory is short.
    pub(crate) fn new(sizes: Sizes, pool: Pool, clock: Clock) -> Result<Uring, Refusal> {
        let ring = set_up(sizes, |ring| register_pool(ring, &pool))?;
        let flags = if ring.params().is_feature_no_iowait() { ENTER_NO_IOWAIT } else { 0 };
        // `ACCEPT_POLL_FIRST` arrived in the same release as this feature, Linux 6.10.
        let patient_accepts = ring.params().is_feature_recvsend_bundle();
        let uring = Uring {
            registered: register_ring_fd(&ring),
            ring: Some(ring),
            pool,
            backlog: VecDeque::new(),
            last: None,
            pushed: 0,
            flags,
            // The self-tests submit operations with the abilities that they test. `silent_sends` is not needed: the
            // test calls `send_silently`.
            abilities: Abilities { silent_sends: false, patient_accepts, ..Abilities::all(sizes) },
            clock,
            counters: RingCounters::default(),
        };
        Ok(uring)
    }

    fn ring(&mut self) -> &mut IoUring {
        self.ring.as_mut().expect("the ring is taken only by leak, at the loop's end")
    }

    pub(crate) fn submit(&mut self, table: &mut Table, encoded: Encoded) -> Key {
        let Encoded { op, entry, scratch, makes_fd, .. } = encoded;
        let key = table.insert(op, scratch, makes_fd);
        self.push(|| entry.clone().user_data(key.to_user_data()));
        key
    }

    /// Refuses a payload that is too long: the kernel would send a part of it, and report nothing.
    #[inline(always)]
    pub(crate) fn send_silently<P: Payload>(
        &mut self,
        table: &mut Table,
        payload: Box<P>,
        fd: &Fd,
        token: u32,
    ) -> Result<Key, Box<P>> {
        let bytes = payload.bytes();
        if bytes.len() > LENGTH_MAX {
            return Err(payload);
        }
        let outgoing = Outgoing::new(fd, bytes);
        let key = table.silent.push(payload, fd, token, self.pushed);
        self.push(|| outgoing.silent_entry(key.to_user_data()));
        Ok(key)
    }

    pub(crate) fn cancel(&mut self, key: Key) {
        self.counters.cancels += 1;
        let entry = opcode::AsyncCancel::new(key.to_user_data()).build().flags(Flags::SKIP_SUCCESS);
        self.push(|| entry.clone().user_data(IGNORED));
    }

    /// Takes a function, so that the entry is built in its final place.
    #[inline(always)]
    fn push(&mut self, entry: impl Fn() -> Entry) {
        self.pushed += 1;
        self.counters.sqes += 1;
        if !self.backlog.is_empty() || !self.push_now(&entry()) {
            self.push_later(entry());
        }
    }

    #[cold]
    #[inline(never)]
    fn push_later(&mut self, entry: Entry) {
        self.backlog.push_back(entry);
    }

    /// After `leak` entries are discarded: their operations stay in the table.
    #[inline(always)]
    fn push_now(&mut self, entry: &Entry) -> bool {
        let Some(ring) = &mut self.ring else { return true };
        // SAFETY: rules 1 and 2.
        unsafe { ring.submission().push(entry) }.is_ok()
    }

    /// Registers `fd`, which the kernel then signals at every completion.
    pub(crate) fn embed(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.ring().submitter().register_eventfd(fd.as_raw_fd())
    }

    pub(crate) fn wants_enter(&mut self) -> bool {
        let backlog = !self.backlog.is_empty();
        // A leaked ring fails the loop at its next `enter`.
        let Some(ring) = &mut self.ring else { return true };
        let sq = ring.submission();
        let wanted = backlog || !sq.is_empty() || sq.taskrun() || sq.cq_overflow();
        drop(sq);
        wanted || !ring.completion().is_empty()
    }

    /// Calls `io_uring_enter` once, or more often while the backlog does not fit into the queue.
    pub(crate) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        if !self.backlog.is_empty() && self.push_backlog()? {
            return Ok(());
        }
        self.enter_once(wait)
    }

    /// Enters once for each full queue of the backlog except the last; `true` if the kernel consumes nothing.
    #[cold]
    fn push_backlog(&mut self) -> io::Result<bool> {
        loop {
            while let Some(entry) = self.backlog.pop_front() {
                if !self.push_now(&entry) {
                    self.backlog.push_front(entry);
                    break;
                }
            }
            if self.backlog.is_empty() {
                return Ok(false);
            }
            let before = self.queued();
            self.enter_once(Wait::No)?;
            // The CQ is full: its completions must be drained first.
            if self.queued() == before {
                return Ok(true);
            }
        }
    }

    /// Frees the memory of a peak.
    pub(crate) fn tidy(&mut self) {
        let backlog = &mut self.backlog;
        if let Some(to) = smaller(backlog.capacity(), backlog.len(), size_of::<Entry>()) {
            backlog.shrink_to(to);
        }
    }

    fn queued(&mut self) -> usize {
        self.ring().submission().len()
    }

    fn enter_once(&mut self, wait: Wait) -> io::Result<()> {
        let entered = match wait {
            Wait::No => self.enter_raw(false, None),
            Wait::Forever => self.enter_raw(true, None),
            Wait::Until(at) => self.enter_until(at),
        };
        entered.or_else(not_entered)
    }

    #[inline(never)]
    fn enter_until(&mut self, at: u64) -> io::Result<()> {
        let timeout = at.saturating_sub(self.clock.now_ns()).min(WAIT_MAX_NS);
        let timespec = Timespec::from(Duration::from_nanos(timeout));
        self.enter_raw(timeout > 0, Some(&SubmitArgs::new().timespec(&timespec)))
    }

    #[inline(always)]
    fn enter_raw(&mut self, sleep: bool, args: Option<&SubmitArgs<'_, '_>>) -> io::Result<()> {
        self.counters.enters += 1;
        self.counters.calls += 1;
        let Some(ring) = &mut self.ring else { return Err(leaked()) };
        let want = u32::from(sleep && ring.completion().is_empty());
        let submit = ring.submission().len() as u32;
        let (fd, registered) = match self.registered {
            Some(index) => (index as i32, ENTER_REGISTERED_RING),
            None => (ring.as_raw_fd(), 0),
        };
        let (ext_arg, size) = args.map_or((0, 0), |args| (ENTER_EXT_ARG, size_of_val(args)));
        let flags = ENTER_GETEVENTS | ext_arg | registered | self.flags;
        let args = args.map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the ring is ours (rule 7); `args` is null or the structure that EXT_ARG asks for, and it
        // outlives the call; the entries submitted obey rules 1 and 2.
        let n = unsafe { libc::syscall(libc::SYS_io_uring_enter, fd, submit, want, flags, args, size) };
        if n < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// To be called after an `enter`, before the completions are taken. Rule 3: notes which silent sends have reported
    /// by now, if they ever will. After an overflow it notes nothing: the report of a consumed send may be among the
    /// completions outside of the CQ.
    pub(crate) fn arrived(&mut self, table: &mut Table) {
        let Some(ring) = &mut self.ring else { return };
        let sq = ring.submission();
        if sq.cq_overflow() {
            self.counters.overflows += 1;
        } else {
            table.silent.settle(self.pushed - self.backlog.len() as u64 - sq.len() as u64);
        }
    }

    /// Takes the next completion, which must be delivered before the next is asked for.
    #[inline(always)]
    pub(crate) fn next(&mut self, table: &mut Table) -> Next {
        let Some(cqe) = self.last.take().or_else(|| self.take_cqe()) else { return Next::None };
        if let Some((to, token)) = receiver(table, &cqe)
            && let Some(filled) = self.filled(&cqe)
        {
            return Next::Data(to, token, filled);
        }
        let key = Key::from_user_data(cqe.user_data());
        self.last = Some(cqe);
        Next::Other(key)
    }

    /// Like `next`, but only for data of `to`; leaves everything else to `next`. To be called only after data, from
    /// `next` or from this function.
    #[inline(always)]
    pub(crate) fn next_data(&mut self, table: &mut Table, to: ReceiverId) -> Option<(u32, Filled)> {
        debug_assert!(self.last.is_none(), "a completion would be lost");
        let cqe = self.take_cqe()?;
        if let Some((whose, token)) = receiver(table, &cqe)
            && whose == to
            && let Some(filled) = self.filled(&cqe)
        {
            return Some((token, filled));
        }
        self.last = Some(cqe);
        None
    }

    #[inline(always)]
    fn take_cqe(&mut self) -> Option<cqueue::Entry> {
        let cqe = self.ring.as_mut()?.completion().find(|cqe| cqe.user_data() != IGNORED)?;
        self.counters.cqes += 1;
        Some(cqe)
    }

    #[inline(always)]
    fn filled(&self, cqe: &cqueue::Entry) -> Option<Filled> {
        self.pool.take(cqueue::buffer_select(cqe.flags())?, cqe.result())
    }

    /// The result of the completion that `next` returned last, as owned values. To be called once.
    pub(crate) fn done(&mut self, table: &mut Table) -> Done {
        let cqe = self.last.take().expect("a completion is asked for once, after `next`");
        let (key, res, flags) = (Key::from_user_data(cqe.user_data()), cqe.result(), cqe.flags());
        self.counters.enobufs += u64::from(res == -libc::ENOBUFS);
        let brought = if let Some(id) = cqueue::buffer_select(flags) {
            let filled = self.pool.take(id, res);
            filled.map_or(Brought::Nothing, |filled| Brought::Buf(self.pool.share(filled)))
        } else if res >= 0 && table.makes_fd(key) {
            // SAFETY: rule 4.
            Brought::Fd(Fd::from(unsafe { OwnedFd::from_raw_fd(res) }))
        } else {
            Brought::Nothing
        };
        Done { res, more: cqueue::more(flags), brought }
    }

    /// The number of SQEs that the kernel has consumed.
    pub(super) fn consumed(&mut self) -> u64 {
        self.pushed - self.backlog.len() as u64 - self.queued() as u64
    }

    pub(crate) fn leak(&mut self) {
        self.pool.leak();
        mem::forget(self.ring.take());
    }
}

#[cold]
#[inline(never)]
fn leaked() -> io::Error {
    io::Error::other("the kernel did not end the loop's operations: the ring is given up")
}

/// The receiver and token of a completion, if it has data and F_MORE.
#[inline(always)]
fn receiver(table: &Table, cqe: &cqueue::Entry) -> Option<(ReceiverId, u32)> {
    if !cqueue::more(cqe.flags()) {
        return None;
    }
    table.receiver(Key::from_user_data(cqe.user_data()))
}

/// An operation in its final place, and its SQE in the kernel's form. Both are made together here, so that no SQE is
/// ever submitted with another operation.
pub(crate) struct Encoded {
    op: InFlight,
    entry: Entry,
    scratch: Option<Box<Scratch>>,
    makes_fd: bool,
    moves_nothing: bool,
}

impl Encoded {
    /// # Panics
    /// If an operation with one result describes a multishot.
    #[inline(never)]
    pub(crate) fn new(mut op: InFlight, abilities: Abilities) -> Encoded {
        let many = matches!(op, InFlight::Shots(_) | InFlight::Receive { .. });
        let sqe = op.describe();
        let sqe = if many { sqe } else { sqe.single() };
        let moves_nothing = sqe.is_empty();
        let (entry, scratch, makes_fd) = encode(sqe, abilities);
        Encoded { op, entry, scratch, makes_fd, moves_nothing }
    }

    /// Whether it is a transfer of no bytes.
    pub(crate) fn moves_nothing(&self) -> bool {
        self.moves_nothing
    }

    pub(crate) fn into_operation(self) -> InFlight {
        self.op
    }
}

/// Encodes the description in the kernel's form. The lifetimes end here and rule 1 takes over.
fn encode(sqe: Sqe<'_>, abilities: Abilities) -> (Entry, Option<Box<Scratch>>, bool) {
    let mut scratch = None;
    let mut makes_fd = false;
    let entry = match sqe.kind {
        Kind::Nop => opcode::Nop::new().build(),
        Kind::Read { fd, buf } => {
            opcode::Read::new(raw(fd), buf.as_mut_ptr(), length(buf)).offset(u64::MAX).build()
        }
        Kind::Write { fd, buf } => {
            let flags = if abilities.quiet_writes { RWF_NOSIGNAL } else { 0 };
            opcode::Write::new(raw(fd), buf.as_ptr(), length(buf)).offset(u64::MAX).rw_flags(flags).build()
        }
        Kind::Recv { fd, buf } => opcode::Recv::new(raw(fd), buf.as_mut_ptr(), length(buf)).build(),
        Kind::RecvMulti { fd, cap } => {
            let entry = opcode::RecvMulti::new(raw(fd), pool::GROUP).build();
            // The total cap (`optlen`).
            patched(entry, 44, abilities.cap(cap).to_ne_bytes())
        }
        Kind::Send { fd, buf } => Outgoing::new(fd, buf).entry(),
        Kind::SendVectored { fd, bufs } => {
            let message = scratch.insert(Scratch::new(&bufs));
            opcode::SendMsg::new(raw(fd), &message.header).flags(SEND_FLAGS as u32).build()
        }
        Kind::Accept { fd, peer } => {
            makes_fd = true;
            let addr = ptr::from_mut(&mut peer.addr.0).cast();
            let entry =
                opcode::Accept::new(raw(fd), addr, &raw mut peer.len).flags(libc::SOCK_CLOEXEC).build();
            if abilities.patient_accepts { patched(entry, 2, ACCEPT_POLL_FIRST.to_ne_bytes()) } else { entry }
        }
        Kind::Connect { fd, addr } => {
            use nix::sys::socket::SockaddrLike;
            opcode::Connect::new(raw(fd), addr.0.as_ptr(), addr.0.len()).build()
        }
        Kind::Shutdown { fd, how } => opcode::Shutdown::new(raw(fd), how_number(how)).build(),
        Kind::WaitExit { pidfd } => {
            let pidfd = pidfd.as_raw_fd().cast_unsigned();
            opcode::WaitId::new(libc::P_PIDFD, pidfd, libc::WEXITED | libc::WNOWAIT).build()
        }
        Kind::PollReadable { fd } => opcode::PollAdd::new(raw(fd), libc::POLLIN as u32).build(),
        Kind::Pause { pause } => opcode::Timeout::new(&raw const pause.timespec).build(),
        // The kernel adds POLLERR, POLLHUP and POLLRDHUP.
        Kind::PollMulti { fd } => opcode::PollAdd::new(raw(fd), 0).multi(true).build(),
    };
    (entry, scratch, makes_fd)
}

/// A send before its encoding. Like `Encoded`, but without its cost, as every message needs one.
struct Outgoing {
    fd: types::Fd,
    data: *const u8,
    len: u32,
}

const SEND_FLAGS: i32 = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;

impl Outgoing {
    /// Rule 1, as for `Encoded::new`.
    #[inline(always)]
    fn new(fd: &Fd, bytes: &[u8]) -> Outgoing {
        Outgoing { fd: raw(fd), data: bytes.as_ptr(), len: length(bytes) }
    }

    fn entry(&self) -> Entry {
        opcode::Send::new(self.fd, self.data, self.len).flags(SEND_FLAGS).build()
    }

    /// A send without a completion if it sends all of its bytes.
    #[inline(always)]
    fn silent_entry(&self, user_data: u64) -> Entry {
        let entry = SendEntry {
            opcode: opcode::Send::CODE,
            flags: Flags::SKIP_SUCCESS.bits(),
            priority: 0,
            fd: self.fd.0,
            offset: 0,
            data: self.data.expose_provenance() as u64,
            len: self.len,
            message_flags: SEND_FLAGS | libc::MSG_DONTWAIT,
            user_data,
            rest: [0; 3],
        };
        // SAFETY: both are 64 bytes of plain data (`struct io_uring_sqe`), and the entry describes a send (rule 1).
        unsafe { mem::transmute::<SendEntry, Entry>(entry) }
    }
}

/// A send in the kernel's form. Every message needs one, and the binding's builder writes it three times.
#[repr(C)]
struct SendEntry {
    opcode: u8,
    flags: u8,
    priority: u16,
    fd: i32,
    offset: u64,
    data: u64,
    len: u32,
    message_flags: i32,
    user_data: u64,
    rest: [u64; 3],
}

impl Scratch {
    /// The iovecs and header of a vectored send of `bufs`.
    fn new(bufs: &[&[u8]]) -> Box<Scratch> {
        let mut parts: Vec<libc::iovec> = bufs
            .iter()
            .take(libc::UIO_MAXIOV as usize)
            .map(|b| libc::iovec { iov_base: b.as_ptr().cast_mut().cast(), iov_len: b.len() })
            .collect();
        // SAFETY: all zeroes is a valid msghdr: no name, no control data.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_iov = parts.as_mut_ptr();
        header.msg_iovlen = parts.len();
        Box::new(Scratch { header, _parts: parts })
    }
}

#[inline(always)]
fn raw(fd: &Fd) -> types::Fd {
    match fd.inner() {
        Inner::Os(fd) => types::Fd(fd.as_raw_fd()),
        Inner::Sim(_) => types::Fd(-1),
    }
}

/// The most bytes that one operation moves (`MAX_RW_COUNT`, with pages of 64 KiB); the next operation moves the rest.
const LENGTH_MAX: usize = 0x7fff_0000;

#[inline(always)]
fn length(buf: &[u8]) -> u32 {
    buf.len().min(LENGTH_MAX) as u32
}

fn how_number(how: std::net::Shutdown) -> i32 {
    match how {
        std::net::Shutdown::Read => libc::SHUT_RD,
        std::net::Shutdown::Write => libc::SHUT_WR,
        std::net::Shutdown::Both => libc::SHUT_RDWR,
    }
}

/// Writes `value` at byte `at` of the SQE, for a field that the binding lacks.
fn patched<const N: usize>(entry: Entry, at: usize, value: [u8; N]) -> Entry {
    const { assert!(size_of::<Entry>() == 64) };
    // SAFETY: an entry is 64 bytes of plain data (`struct io_uring_sqe`), and all bit patterns are valid.
    let mut bytes: [u8; 64] = unsafe { mem::transmute(entry) };
    bytes[at..at + N].copy_from_slice(&value);
    // SAFETY: as above.
    unsafe { mem::transmute(bytes) }
}

const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;
const ENTER_NO_IOWAIT: u32 = 1 << 7;
/// In the `ioprio` of an accept.
const ACCEPT_POLL_FIRST: u16 = 1 << 2;
/// Since Linux 6.18.
const RWF_NOSIGNAL: i32 = 0x100;
const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;

fn register_pool(ring: IoUring, pool: &Pool) -> Result<IoUring, Refusal> {
    // SAFETY: rule 5.
    let registered = unsafe {
        ring.submitter().register_buf_ring_with_flags(pool.ring_address(), pool.count(), pool::GROUP, 0)
    };
    registered.map(|()| ring).map_err(Refusal::of("io_uring_register"))
}

/// Registers the ring's descriptor, which saves a file lookup in every `enter`. If that fails, the descriptor itself is
/// used.
fn register_ring_fd(ring: &IoUring) -> Option<u32> {
    let fd = ring.as_raw_fd();
    let mut update = RingFdUpdate { offset: u32::MAX, resv: 0, data: fd as u64 };
    (change_ring_fds(fd, REGISTER_RING_FDS, &mut update) == 1).then_some(update.offset)
}

/// The kernel's `struct io_uring_rsrc_update`.
#[repr(C)]
struct RingFdUpdate {
    offset: u32,
    resv: u32,
    data: u64,
}

fn change_ring_fds(fd: RawFd, opcode: u32, update: &mut RingFdUpdate) -> libc::c_long {
    // SAFETY: `update` is the structure of both calls, one of it, and outlives them.
    unsafe { libc::syscall(libc::SYS_io_uring_register, fd, opcode, std::ptr::from_mut(update), 1) }
}

impl Drop for Uring {
    /// Unregisters the ring's descriptor: the thread's registration would keep the ring alive.
    fn drop(&mut self) {
        if let (Some(ring), Some(offset)) = (&self.ring, self.registered) {
            let mut update = RingFdUpdate { offset, resv: 0, data: 0 };
            change_ring_fds(ring.as_raw_fd(), UNREGISTER_RING_FDS, &mut update);
        }
    }
}

impl fmt::Debug for Uring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uring")
            .field("abilities", &self.abilities)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}
