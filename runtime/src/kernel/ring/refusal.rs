//! A system call that the kernel refuses while a loop is made: the call, its error, and a text with the likely cause,
//! the setting and the remedy.

use std::{error::Error, fs, io};

use nix::sys::resource::{Resource, getrlimit};

use crate::kernel::{error, ring::terms::Sizes};

/// A system call that a loop needs was refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    call: &'static str,
    cause: io::Error,
}

impl Refusal {
    /// Makes a refusal of `call` from its error.
    pub(crate) fn of(call: &'static str) -> impl Fn(io::Error) -> Refusal {
        move |cause| Refusal { call, cause }
    }

    /// The error number of the kernel, even if the error has a text.
    pub(crate) fn errno(&self) -> Option<i32> {
        let mut error: Option<&(dyn Error + 'static)> = Some(&self.cause);
        while let Some(e) = error {
            if let Some(errno) = e.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
                return Some(errno);
            }
            error = e.source();
        }
        None
    }

    /// The call and its error number, if io_uring itself is refused: by a filter, a setting, or a kernel without
    /// io_uring or with too old a version of it.
    pub(crate) fn of_io_uring(&self) -> Option<(&'static str, i32)> {
        let errno = self.errno()?;
        let refused =
            matches!(errno, libc::ENOSYS | libc::EPERM | libc::EACCES | libc::EINVAL | libc::EOPNOTSUPP);
        (refused && self.call.starts_with("io_uring")).then_some((self.call, errno))
    }

    /// An error with a text that explains why a loop with these sizes cannot be made.
    pub(crate) fn explain(self, sizes: Sizes) -> io::Error {
        let text = if self.call.starts_with("io_uring") { self.of_the_ring(sizes) } else { self.beside_it() };
        error::explain(self.cause, text)
    }

    fn beside_it(&self) -> String {
        let Refusal { call, cause } = self;
        match self.errno() {
            Some(libc::EMFILE | libc::ENFILE) => self.no_descriptor(),
            Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => format!(
                "the loop cannot be set up: {call}: {cause}. A seccomp filter or another policy refuses this system \
                call; allow it, as every loop needs it."
            ),
            _ => format!("the loop cannot be set up: {call}: {cause}"),
        }
    }

    fn of_the_ring(&self, sizes: Sizes) -> String {
        match self.errno() {
            Some(libc::EMFILE | libc::ENFILE) => self.no_descriptor(),
            Some(libc::ENOSYS) => "io_uring is not available (ENOSYS): the kernel is older than 5.1, was built \
                without CONFIG_IO_URING, or a sandbox (gVisor, a seccomp filter) hides it. corio's use of it \
                needs Linux 6.1 or newer; run it outside the sandbox, allow io_uring_setup, io_uring_enter and \
                io_uring_register in it, or run on epoll (Backend::Auto, Backend::Epoll, CORIO_BACKEND=epoll)."
                .to_owned(),
            Some(libc::EACCES) => refused("EACCES", io_uring_disabled()),
            Some(libc::EPERM) => refused("EPERM", io_uring_disabled()),
            Some(libc::ENOMEM) => no_memory(locked_bytes(sizes)),
            Some(libc::EINVAL) => format!(
                "{} refused what the loop needs (EINVAL): Linux {} is too old for corio's use of io_uring, which needs \
                6.1 or newer. Run on epoll (Backend::Auto, Backend::Epoll, CORIO_BACKEND=epoll).",
                self.call,
                kernel_release()
            ),
            _ => format!("the loop cannot be set up: {}", self.cause),
        }
    }

    fn no_descriptor(&self) -> String {
        let Refusal { call, cause } = self;
        format!(
            "cannot open what the loop needs: the limit of open files is reached ({call}: {cause}). RLIMIT_NOFILE is \
            {}; raise it (ulimit -n, LimitNOFILE=) or close descriptors. (On epoll, CORIO_BACKEND=epoll, a loop \
            needs 2.)",
            limit(Resource::RLIMIT_NOFILE)
        )
    }
}

/// `sysctl kernel.io_uring_disabled`, if it can be read.
pub(crate) fn io_uring_disabled() -> Option<u8> {
    fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

/// The text, with the value of `sysctl kernel.io_uring_disabled`, if it can be read.
fn refused(errno: &str, sysctl: Option<u8>) -> String {
    let sysctl = match sysctl {
        Some(value) => format!(
            "`sysctl kernel.io_uring_disabled` is {value} here (it must be 0, or 1 with this process in \
            kernel.io_uring_group or with CAP_SYS_ADMIN)"
        ),
        None => "`sysctl kernel.io_uring_disabled` cannot be read here".to_owned(),
    };
    format!(
        "io_uring was refused ({errno}). {sysctl}. If the sysctl allows it, a seccomp filter refuses it: \
        Docker's and containerd's default profiles do; run with a profile that allows io_uring_setup, \
        io_uring_enter and io_uring_register (--security-opt seccomp=PROFILE), or run on epoll (Backend::Auto, \
        Backend::Epoll, CORIO_BACKEND=epoll)."
    )
}

/// The locked memory that the kernel charges for a ring of this size, in bytes: measured on Linux 6.18.
fn locked_bytes(sizes: Sizes) -> u64 {
    let buffers = (16 * u64::from(sizes.buffer_count)).next_multiple_of(4096);
    64 * u64::from(sizes.sq) + 16 * u64::from(sizes.cq) + 4096 + buffers
}

fn no_memory(needed: u64) -> String {
    format!(
        "cannot allocate the ring (ENOMEM): RLIMIT_MEMLOCK is {} for all rings of this user together, and each \
        loop needs {} KiB of it. Raise it (ulimit -l, LimitMEMLOCK=, --ulimit memlock=), run fewer loops, or run on \
        epoll, which needs none (CORIO_BACKEND=epoll).",
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
        let sizes = Sizes { sq: 256, cq: 1024, buffer_count: 128, buffer_size: 4096 };
        let refused = |call, errno| Refusal::of(call)(io::Error::from_raw_os_error(errno)).explain(sizes);
        let text = |errno| refused("io_uring_setup", errno).to_string();
        assert!(text(libc::ENOSYS).contains("6.1"));
        assert!(text(libc::EPERM).contains("kernel.io_uring_disabled"));
        assert!(text(libc::EPERM).contains("seccomp"));
        assert!(text(libc::ENOMEM).contains("RLIMIT_MEMLOCK"));
        assert!(text(libc::ENOMEM).contains("40 KiB"));
        assert!(
            text(libc::EINVAL).contains("io_uring_setup refused") && text(libc::EINVAL).contains("too old")
        );
        let register = refused("io_uring_register", libc::EINVAL).to_string();
        assert!(register.contains("io_uring_register refused"), "{register}");
        for errno in [libc::ENOSYS, libc::EPERM, libc::ENOMEM, libc::EINVAL, libc::EMFILE] {
            assert!(text(errno).contains("CORIO_BACKEND=epoll"), "{}", text(errno));
        }
        assert!(text(libc::EMFILE).contains("RLIMIT_NOFILE"));
        let beside = refused("eventfd2", libc::EPERM).to_string();
        assert!(beside.contains("eventfd2") && !beside.contains("io_uring was refused"), "{beside}");
    }

    #[test]
    fn i3_the_value_of_the_sysctl_is_told() {
        for value in 0..=2 {
            let text = refused("EPERM", Some(value));
            assert!(text.contains(&format!("`sysctl kernel.io_uring_disabled` is {value} here")), "{text}");
        }
        let text = refused("EPERM", None);
        assert!(text.contains("`sysctl kernel.io_uring_disabled` cannot be read here"), "{text}");
    }

    #[test]
    fn a_resource_that_is_short_is_no_refusal_of_io_uring() {
        let refusal = |call, errno| Refusal::of(call)(io::Error::from_raw_os_error(errno));
        for errno in [libc::ENOSYS, libc::EPERM, libc::EACCES, libc::EINVAL, libc::EOPNOTSUPP] {
            let refused = refusal("io_uring_enter", errno);
            assert_eq!(refused.of_io_uring(), Some(("io_uring_enter", errno)));
            assert_eq!(refusal("eventfd2", errno).of_io_uring(), None);
        }
        for errno in [libc::ENOMEM, libc::EMFILE, libc::ENFILE, libc::EAGAIN] {
            assert_eq!(refusal("io_uring_setup", errno).of_io_uring(), None, "{errno}");
        }
    }

    #[test]
    fn the_number_of_an_explained_error_is_found() {
        let explained = error::explain(io::Error::from_raw_os_error(libc::EPERM), "with a text");
        assert_eq!(Refusal::of("io_uring_enter")(explained).errno(), Some(libc::EPERM));
    }
}
