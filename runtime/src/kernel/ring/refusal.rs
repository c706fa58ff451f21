//! A refusal by the kernel while a loop is made: the call and its error, and in words the likely cause, the setting
//! and the remedy.

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
    /// Of `call`, by its error.
    pub(crate) fn of(call: &'static str) -> impl Fn(io::Error) -> Refusal {
        move |cause| Refusal { call, cause }
    }

    /// The kernel's number of the error, also where it has got a text.
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

    /// Why a loop with rings of these sizes cannot be made, in words.
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
                call; allow it, as corio needs it beside io_uring's."
            ),
            _ => format!("the loop cannot be set up: {call}: {cause}"),
        }
    }

    fn of_the_ring(&self, sizes: Sizes) -> String {
        match self.errno() {
            Some(libc::EMFILE | libc::ENFILE) => self.no_descriptor(),
            Some(libc::ENOSYS) => "io_uring is not available (ENOSYS): the kernel is older than 5.1, was built \
                without CONFIG_IO_URING, or a sandbox (gVisor, a seccomp filter) hides it. corio needs Linux 6.1 or \
                newer; run it outside the sandbox or allow io_uring_setup, io_uring_enter and io_uring_register in it."
                .to_owned(),
            Some(libc::EACCES) => refused("EACCES"),
            Some(libc::EPERM) => refused("EPERM"),
            Some(libc::ENOMEM) => no_memory(locked_bytes(sizes)),
            Some(libc::EINVAL) => format!(
                "{} refused what the loop needs (EINVAL): Linux {} is too old, corio needs 6.1 or newer",
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
            {}; raise it (ulimit -n, LimitNOFILE=) or close descriptors.",
            limit(Resource::RLIMIT_NOFILE)
        )
    }
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

/// Memory that a ring of this size is charged for, in bytes: measured on Linux 6.18.
fn locked_bytes(sizes: Sizes) -> u64 {
    let buffers = (16 * u64::from(sizes.buffer_count)).next_multiple_of(4096);
    64 * u64::from(sizes.sq) + 16 * u64::from(sizes.cq) + 4096 + buffers
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
        assert!(text(libc::EMFILE).contains("RLIMIT_NOFILE"));
        let beside = refused("eventfd2", libc::EPERM).to_string();
        assert!(beside.contains("eventfd2") && !beside.contains("io_uring was refused"), "{beside}");
    }

    #[test]
    fn the_number_of_an_explained_error_is_found() {
        let explained = error::explain(io::Error::from_raw_os_error(libc::EPERM), "with a text");
        assert_eq!(Refusal::of("io_uring_enter")(explained).errno(), Some(libc::EPERM));
    }
}
