//! The rows of the table, and how they are checked.

use std::{
    any::Any,
    fmt::Debug,
    io,
    panic::{self, AssertUnwindSafe},
    sync::{Once, mpsc},
    thread,
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What takes longer hangs.
const HANGS: Duration = Duration::from_secs(60);
/// More address space than that nothing here needs.
const MEMORY_MAX: u64 = 24 << 30;

/// A function of the public interface with the numbers that it takes.
pub(crate) struct Row {
    pub(crate) what: &'static str,
    cases: Vec<Case>,
    /// A documented panic, where the signature leaves no room for an error: its text.
    contract: Option<Contract>,
}

/// The values that it is about, and its text.
type Contract = (fn(&str) -> bool, &'static str);

struct Case {
    value: String,
    call: Box<dyn FnOnce() -> io::Result<()> + Send>,
}

/// A row: `call` with each of the extremes of its type.
pub(crate) fn row<N: Extreme>(what: &'static str, call: fn(N) -> io::Result<()>) -> Row {
    let case = |n: N| Case { value: format!("{n:?}"), call: Box::new(move || call(n)) };
    Row { what, cases: N::extremes().into_iter().map(case).collect(), contract: None }
}

/// A row of a function that takes two numbers: each pair of extremes.
pub(crate) fn row2<N: Extreme, M: Extreme>(what: &'static str, call: fn(N, M) -> io::Result<()>) -> Row {
    let cases = N::extremes().into_iter().flat_map(|n| {
        M::extremes()
            .into_iter()
            .map(move |m| Case { value: format!("{n:?}, {m:?}"), call: Box::new(move || call(n, m)) })
    });
    Row { what, cases: cases.collect(), contract: None }
}

impl Row {
    /// With the values that `of` holds for, the function panics with this text, as its documentation says.
    pub(crate) fn panics(mut self, of: fn(&str) -> bool, text: &'static str) -> Row {
        self.contract = Some((of, text));
        self
    }
}

/// A type with extremes.
pub(crate) trait Extreme: Copy + Debug + Send + 'static {
    fn extremes() -> Vec<Self>;
}

macro_rules! numbers {
    ($($number:ty),*) => {
        $(impl Extreme for $number {
            fn extremes() -> Vec<Self> {
                let mut all = vec![0, 1, <$number>::MAX / 2, <$number>::MAX, <$number>::MIN];
                all.dedup_by_key(|n| *n);
                if <$number>::MIN == 0 {
                    all.pop();
                }
                all
            }
        })*
    };
}
numbers!(usize, u16, u32, u64, i32);

impl Extreme for f64 {
    fn extremes() -> Vec<f64> {
        vec![0.0, 1.0, f64::MAX / 2.0, f64::MAX, f64::MIN, f64::NAN, f64::INFINITY]
    }
}

impl Extreme for Duration {
    /// Half of the maximum is more than an `Instant` can hold; what it can hold is more than the kernel's clocks can.
    fn extremes() -> Vec<Duration> {
        let years = |n: u64| Duration::from_secs(n * 365 * 24 * 3600);
        let (zero, nano) = (Duration::ZERO, Duration::from_nanos(1));
        vec![zero, nano, years(1), years(290), years(500), years(600), Duration::MAX / 2, Duration::MAX]
    }
}

impl Extreme for Instant {
    /// The earliest and the latest that the system can name, and those between.
    fn extremes() -> Vec<Instant> {
        let now = Instant::now();
        let (mut earliest, mut latest, mut step) = (now, now, Duration::MAX / 2);
        while step > Duration::ZERO {
            earliest = earliest.checked_sub(step).unwrap_or(earliest);
            latest = latest.checked_add(step).unwrap_or(latest);
            step /= 2;
        }
        let centuries = Duration::from_secs(500 * 365 * 24 * 3600);
        vec![earliest, now - Duration::from_secs(1), now, now + centuries, latest]
    }
}

impl<N: Extreme> Extreme for Option<N> {
    fn extremes() -> Vec<Option<N>> {
        N::extremes().into_iter().map(Some).chain([None]).collect()
    }
}

/// Looks at every case of `rows`, each on a thread of its own.
pub(crate) fn check(rows: Vec<Row>) {
    limit_memory();
    let mut wrong = Vec::new();
    for Row { what, cases, contract } in rows {
        for Case { value, call } in cases {
            let contract = contract.and_then(|(of, text)| of(&value).then_some(text));
            if let Err(e) = judge(outcome(call), &value, contract) {
                wrong.push(format!("{what}({value}) {e}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of them are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// From now on absurd allocations fail.
fn limit_memory() {
    static LIMITED: Once = Once::new();
    LIMITED.call_once(|| {
        let (_, hard) = getrlimit(Resource::RLIMIT_AS).unwrap();
        setrlimit(Resource::RLIMIT_AS, MEMORY_MAX.min(hard), hard).unwrap();
    });
}

type Ended = Result<io::Result<()>, Box<dyn Any + Send>>;

/// How a call ended; `None` if it hangs.
fn outcome(call: impl FnOnce() -> io::Result<()> + Send + 'static) -> Option<Ended> {
    let (ended, end) = mpsc::channel();
    thread::spawn(move || {
        let _ = ended.send(panic::catch_unwind(AssertUnwindSafe(call)));
    });
    end.recv_timeout(HANGS).ok()
}

fn judge(outcome: Option<Ended>, value: &str, contract: Option<&str>) -> Result<(), String> {
    match (outcome, contract) {
        (None, _) => Err("hangs".to_owned()),
        (Some(Ok(Ok(()))), None) => Ok(()),
        (Some(Ok(_)), Some(text)) => Err(format!("should panic: {text}")),
        (Some(Ok(Err(e))), None) => {
            let named = value.split(", ").any(|value| e.to_string().contains(value));
            if e.kind() != io::ErrorKind::InvalidInput {
                Err(format!("is an error of kind {:?}: {e}", e.kind()))
            } else if !named {
                Err(format!("is an error that does not name the value: {e}"))
            } else {
                Ok(())
            }
        }
        (Some(Err(panic)), contract) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("something else");
            if contract.is_some_and(|contract| text.contains(contract)) {
                Ok(())
            } else {
                Err(format!("panics: {text}"))
            }
        }
    }
}
