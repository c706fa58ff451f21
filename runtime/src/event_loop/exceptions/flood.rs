//! Limits the printing of reports: of each kind ten at once, then one a second. The others are counted, and their
//! number is printed.

use std::{io, panic::Location, time::Duration};

use crate::scheduler::clock::nanos;

/// So many reports of a kind are printed, however fast they come.
const BURST: u64 = 10;
/// After these, one in this time.
const EVERY: Duration = Duration::from_secs(1);
/// A kind of which nothing was printed for so long has ended its flood: what was suppressed is told.
pub(crate) const QUIET: Duration = Duration::from_secs(2);
/// From so many kinds on those that have been quiet are forgotten.
const KINDS: usize = 64;

/// What reports have in common: the line of the source that reports, where their task was created, the kind of error.
/// The text is no part of it, as it may hold an address or a number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) reported_at: &'static Location<'static>,
    pub(super) created_at: Option<&'static Location<'static>>,
    pub(super) error: Option<io::ErrorKind>,
}

/// The reports of one kind.
struct Flood {
    kind: Kind,
    /// When the kind is as quiet as at first; each report that is printed puts it off by `EVERY`.
    calm_ns: u64,
    printed_ns: u64,
    suppressed: u64,
    /// The last one that was suppressed.
    last: String,
}

/// The reports of one loop that go to standard error.
#[derive(Default)]
pub(super) struct Floods(Vec<Flood>);

impl Floods {
    /// The line to print for a report, if it is not suppressed.
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

    /// The lines for the floods that have ended by `now_ns`: with the counts that nobody has told yet.
    pub(super) fn ended(&mut self, now_ns: u64) -> Vec<String> {
        let over = |flood: &&mut Flood| now_ns >= flood.printed_ns.saturating_add(nanos(QUIET));
        self.0.iter_mut().filter(over).filter_map(|flood| flood.rest(now_ns)).collect()
    }

    /// The same for all of them: nothing comes any more.
    pub(super) fn all(&mut self, now_ns: u64) -> Vec<String> {
        self.0.iter_mut().filter_map(|flood| flood.rest(now_ns)).collect()
    }

    /// Whether a count is still to be told.
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
