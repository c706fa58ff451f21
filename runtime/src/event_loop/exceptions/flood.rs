//! Limits the printing of reports: per kind ten at once, then one per second. Suppressed ones are counted, and the
//! count is printed.

use std::{io, panic::Location, time::Duration};

use crate::scheduler::clock::nanos;

/// Reports of a kind that are printed at once.
const BURST: u64 = 10;
/// Interval of further ones.
const EVERY: Duration = Duration::from_secs(1);
/// After this time without a print, a kind's suppressed count is printed.
pub(crate) const QUIET: Duration = Duration::from_secs(2);
/// Quiet kinds are forgotten when there are this many kinds.
const KINDS: usize = 64;

/// The kind of a report: the source line that reports, where the task or callback was created, the kind of error. The
/// text does not count, as it may contain an address or a number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) reported_at: &'static Location<'static>,
    pub(super) created_at: Option<&'static Location<'static>>,
    pub(super) error: Option<io::ErrorKind>,
}

/// The reports of one kind.
struct Flood {
    kind: Kind,
    /// When the kind may print a full burst again; each printed report adds `EVERY`.
    calm_ns: u64,
    printed_ns: u64,
    suppressed: u64,
    /// The text of the last suppressed report.
    last: String,
}

/// The printed kinds of one loop.
#[derive(Default)]
pub(super) struct Floods(Vec<Flood>);

impl Floods {
    /// The line to print for a report, unless it is suppressed.
    pub(super) fn admit(&mut self, kind: Kind, text: String, now_ns: u64) -> Option<String> {
        let flood = self.of(kind, now_ns);
        let room = (BURST - 1) * nanos(EVERY);
        if flood.calm_ns > now_ns + room {
            flood.suppressed += 1;
            flood.last = text;
            return None;
        }
        flood.calm_ns = flood.calm_ns.max(now_ns) + nanos(EVERY);
        flood.printed_ns = now_ns;
        match std::mem::take(&mut flood.suppressed) {
            0 => Some(text),
            more => Some(format!("{text} ({more} more suppressed)")),
        }
    }

    /// Lines with the suppressed counts of the kinds that are quiet by `now_ns`.
    pub(super) fn ended(&mut self, now_ns: u64) -> Vec<String> {
        let over = |flood: &&mut Flood| now_ns >= flood.printed_ns.saturating_add(nanos(QUIET));
        self.0.iter_mut().filter(over).filter_map(|flood| flood.rest(now_ns)).collect()
    }

    /// As `ended`, for all kinds: no more reports come.
    pub(super) fn all(&mut self, now_ns: u64) -> Vec<String> {
        self.0.iter_mut().filter_map(|flood| flood.rest(now_ns)).collect()
    }

    /// Whether a suppressed count was not printed yet.
    pub(super) fn any_suppressed(&self) -> bool {
        self.0.iter().any(|flood| flood.suppressed > 0)
    }

    fn of(&mut self, kind: Kind, now_ns: u64) -> &mut Flood {
        if let Some(at) = self.0.iter().position(|flood| flood.kind == kind) {
            return &mut self.0[at];
        }
        if self.0.len() >= KINDS {
            self.0.retain(|flood| flood.suppressed > 0 || flood.calm_ns > now_ns);
        }
        let new = Flood { kind, calm_ns: now_ns, printed_ns: now_ns, suppressed: 0, last: String::new() };
        let at = self.0.len();
        self.0.push(new);
        &mut self.0[at]
    }
}

impl Flood {
    fn rest(&mut self, now_ns: u64) -> Option<String> {
        let more = std::mem::take(&mut self.suppressed);
        if more == 0 {
            return None;
        }
        self.printed_ns = now_ns;
        let last = std::mem::take(&mut self.last);
        Some(format!("{more} more reports were suppressed, the last of them: {last}"))
    }
}
