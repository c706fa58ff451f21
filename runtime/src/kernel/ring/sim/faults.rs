//! The faults that a simulation injects.

use std::{io, time::Duration};

/// Faults that the simulator injects. A probability is from 0 (never, the default) to 1 (always; larger values mean
/// 1); the seed decides when.
///
/// ```
/// use corio_runtime::{Backend, Faults, Runner};
/// use std::time::Duration;
/// let faults = Faults::default().short_transfers(0.5).delay(Duration::from_millis(3)).reorder(true);
/// let mut runner = Runner::builder().backend(Backend::Sim { seed: 7 }).faults(faults).build()?;
/// assert_eq!(runner.run(async { 1 }), 1);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "faults do nothing until they are given to a Builder"]
pub struct Faults {
    pub(super) short_transfers: f64,
    pub(super) fail: Vec<(u64, i32)>,
    pub(super) delay: Duration,
    pub(super) reorder: bool,
    pub(super) success_after_cancel: f64,
    pub(super) lose_more: f64,
    pub(super) enobufs: f64,
    pub(super) cq_capacity: Option<usize>,
    pub(super) window: Option<usize>,
    pub(super) lose_hang_ups: f64,
}

impl Faults {
    /// Sends and receives move fewer bytes than they could.
    pub fn short_transfers(mut self, probability: f64) -> Faults {
        self.short_transfers = probability;
        self
    }

    /// The `n`-th operation of the loop (from 1) fails with this error number (1 to 4095, as in the kernel). May be
    /// called several times.
    pub fn fail_nth(mut self, n: u64, errno: i32) -> Faults {
        self.fail.push((n, errno));
        self
    }

    /// Completions arrive up to `most` later, in virtual time.
    pub fn delay(mut self, most: Duration) -> Faults {
        self.delay = most;
        self
    }

    /// Completions of different operations arrive in any order.
    pub fn reorder(mut self, on: bool) -> Faults {
        self.reorder = on;
        self
    }

    /// A cancelled operation that could succeed does.
    pub fn success_after_cancel(mut self, probability: f64) -> Faults {
        self.success_after_cancel = probability;
        self
    }

    /// A completion of a multishot operation is its last one.
    pub fn lose_more(mut self, probability: f64) -> Faults {
        self.lose_more = probability;
        self
    }

    /// A receive finds no provided buffer.
    pub fn enobufs(mut self, probability: f64) -> Faults {
        self.enobufs = probability;
        self
    }

    /// A multishot receive that has taken all data before the end or reset of a connection sleeps on and does not
    /// report it, like kernels that lose a hang-up which arrives with data. A new receive finds it.
    pub fn lose_hang_ups(mut self, probability: f64) -> Faults {
        self.lose_hang_ups = probability;
        self
    }

    /// At most `entries` completions (at least 1) fit into the queue; the rest overflow, and arrive in the next turn.
    pub fn cq_capacity(mut self, entries: usize) -> Faults {
        self.cq_capacity = Some(entries.max(1));
        self
    }

    /// # Errors
    /// An operation number or error number out of range.
    pub(crate) fn check(&self) -> io::Result<()> {
        match self.fail.iter().find(|(n, errno)| *n == 0 || !(1..=4095).contains(errno)) {
            None => Ok(()),
            Some((n, errno)) => {
                let text =
                    format!("fail_nth({n}, {errno}): operations count from 1, error numbers from 1 to 4095");
                Err(io::Error::new(io::ErrorKind::InvalidInput, text))
            }
        }
    }

    /// A direction of a connection holds at most `bytes` (at least 1) before its sender waits. Default: 65536.
    pub fn window(mut self, bytes: usize) -> Faults {
        self.window = Some(bytes.max(1));
        self
    }
}
