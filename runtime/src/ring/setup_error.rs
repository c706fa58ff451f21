//! Why a ring could not be set up, in words that name the cause seen, the setting and the remedy.

use std::{error::Error, fmt, fs, io};

use nix::sys::resource::{Resource, getrlimit};

use crate::error;

/// Memory that a ring of this size is charged for, in bytes: measured on Linux 6.18.
pub(crate) fn locked_bytes(sq: u32, cq: u32, buffers: u16) -> u64 {
    64 * u64::from(sq) + 16 * u64::from(cq) + 4096 + (16 * u64::from(buffers)).next_multiple_of(4096)
}

/// A system call beside io_uring's own failed: what it was refused is not the ring.
#[derive(Debug)]
struct Beside {
    call: &'static str,
    cause: io::Error,
}

impl fmt::Display for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.cause)
    }
}

impl Error for Beside {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

/// Marks the error of `call`, one of those that a loop needs beside io_uring's.
pub(crate) fn beside(call: &'static str) -> impl Fn(io::Error) -> io::Error {
    move |cause| io::Error::new(cause.kind(), Beside { call, cause })
}

/// The number of an error, or of its kind where `ring/uring.rs` has given it a text.
fn errno(error: &io::Error) -> Option<i32> {
    error.raw_os_error().or(match error.kind() {
        io::ErrorKind::Unsupported => Some(libc::ENOSYS),
        io::ErrorKind::PermissionDenied => Some(libc::EPERM),
        io::ErrorKind::OutOfMemory => Some(libc::ENOMEM),
        _ => None,
    })
}

/// Explains the kernel's refusal `error` of the ring described, of its first use, or of what else a loop needs.
pub(crate) fn explain(error: io::Error, sq: u32, cq: u32, buffers: u16) -> io::Error {
    let beside = error.get_ref().and_then(|e| e.downcast_ref::<Beside>());
    let text = match beside.map_or(errno(&error), |beside| beside.cause.raw_os_error()) {
        Some(libc::EMFILE | libc::ENFILE) => format!(
            "cannot open what the loop needs: the limit of open files is reached ({error}). \
            RLIMIT_NOFILE is {}; raise it \
            (ulimit -n, LimitNOFILE=) or close descriptors.",
            limit(Resource::RLIMIT_NOFILE)
        ),
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) if beside.is_some() => format!(
            "the loop cannot be set up: {error}. A seccomp filter or another policy refuses this system call; \
            allow it, as corio needs it beside io_uring's."
        ),
        _ if beside.is_some() => format!("the loop cannot be set up: {error}"),
        Some(libc::ENOSYS) => "io_uring is not available (ENOSYS): the kernel is older than 5.1, was built without \
            CONFIG_IO_URING, or a sandbox (gVisor, a seccomp filter) hides it. corio needs Linux 6.1 or newer; \
            run it outside the sandbox or allow io_uring_setup, io_uring_enter and io_uring_register in it."
            .to_owned(),
        Some(libc::EACCES) => refused("EACCES"),
        Some(libc::EPERM) => refused("EPERM"),
        Some(libc::ENOMEM) => no_memory(locked_bytes(sq, cq, buffers)),
        Some(libc::EINVAL) => format!(
            "io_uring_setup refused its flags (EINVAL): Linux {} is too old, corio needs 6.1 or newer",
            kernel_release()
        ),
        _ => format!("the loop cannot be set up: {error}"),
    };
    error::explain(error, text)
}

fn refused(errno: &str) -> String {
    let sysctl = match fs::read_to_string("/proc/sys/kernel/io_uring_disabled") {
        Ok(value) => format!(
            "`sysctl kernel.io_uring_disabled` is {} here (it must be 0, or 1 with this process in \
            kernel.io_uring_group or with CAP_SYS_ADMIN)",
            value.trim()
        ),
        Err(_) => "`sysctl kernel.io_uring_disabled` cannot be read here".to_owned(),
    };
    format!(
        "io_uring was refused ({errno}). {sysctl}. If the sysctl allows it, a seccomp filter refuses it: \
        Docker's and containerd's default profiles do; run with a profile that allows io_uring_setup, \
        io_uring_enter and io_uring_register (--security-opt seccomp=PROFILE)."
    )
}

fn no_memory(needed: u64) -> String {
    format!(
        "cannot allocate the ring (ENOMEM): RLIMIT_MEMLOCK is {} for all rings of this user together, and each \
        loop needs {} KiB of it. Raise it (ulimit -l, LimitMEMLOCK=, --ulimit memlock=) or run fewer loops.",
        limit(Resource::RLIMIT_MEMLOCK),
        needed.div_ceil(1024)
    )
}

fn limit(which: Resource) -> String {
    match getrlimit(which) {
        Ok((u64::MAX, _)) => "unlimited".to_owned(),
        Ok((soft, _)) if which == Resource::RLIMIT_MEMLOCK => format!("{} KiB", soft / 1024),
        Ok((soft, _)) => soft.to_string(),
        Err(e) => format!("unknown ({e})"),
    }
}

fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "(unknown)".to_owned(), |v| v.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i3_each_refusal_names_cause_and_remedy() {
        let text = |errno| explain(io::Error::from_raw_os_error(errno), 256, 1024, 128).to_string();
        assert!(text(libc::ENOSYS).contains("6.1"));
        assert!(text(libc::EPERM).contains("kernel.io_uring_disabled"));
        assert!(text(libc::EPERM).contains("seccomp"));
        assert!(text(libc::ENOMEM).contains("RLIMIT_MEMLOCK"));
        assert!(text(libc::ENOMEM).contains("40 KiB"));
        assert!(text(libc::EINVAL).contains("too old"));
        assert!(text(libc::EMFILE).contains("RLIMIT_NOFILE"));
    }
}
