//! A filter of system calls. It holds for this thread and what comes of it: threads, children, and the program that it
//! becomes. Nothing takes it back.

use std::{io, ops::RangeInclusive};

/// The calls of io_uring.
pub(crate) const IO_URING: [libc::c_long; 3] =
    [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// What a call comes to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// It fails.
    Errno(i32),
    /// It ends the process by SIGSYS.
    Kill,
}

/// Answers these calls.
pub(crate) fn forbid(calls: &[libc::c_long], answer: Answer) -> io::Result<()> {
    forbid_some(calls, 0..=u32::MAX, answer)
}

/// The same, where the first argument is one of `first`: for two of io_uring's it is the ring's descriptor.
pub(crate) fn forbid_some(
    calls: &[libc::c_long],
    first: RangeInclusive<u32>,
    answer: Answer,
) -> io::Result<()> {
    let answer = match answer {
        Answer::Errno(errno) => libc::SECCOMP_RET_ERRNO | errno as u32,
        Answer::Kill => libc::SECCOMP_RET_KILL_PROCESS,
    };
    let mut filter = Vec::new();
    // The jumps lead to the next call's part.
    for call in calls {
        filter.extend([
            load(NUMBER),
            jump(libc::BPF_JEQ, *call as u32, 0, 4),
            load(FIRST),
            jump(libc::BPF_JGE, *first.start(), 0, 2),
            jump(libc::BPF_JGT, *first.end(), 1, 0),
            give(answer),
        ]);
    }
    filter.push(give(libc::SECCOMP_RET_ALLOW));
    install(&mut filter)
}

/// Offsets in the data of a call: its number, and the low half of its first argument.
const NUMBER: u32 = 0;
const FIRST: u32 = if cfg!(target_endian = "little") { 16 } else { 20 };

fn statement(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

fn load(offset: u32) -> libc::sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

fn jump(test: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    statement(libc::BPF_JMP | test | libc::BPF_K, k, jt, jf)
}

fn give(answer: u32) -> libc::sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, answer, 0, 0)
}

fn install(filter: &mut [libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: takes numbers only.
    let done = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the program and its filter outlive the call, which copies them.
    let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
