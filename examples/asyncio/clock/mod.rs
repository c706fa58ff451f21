//! Output of the samples: each line with the time of day, or if `ELAPSED` is set, the seconds since the first line.
#![allow(dead_code, reason = "each program uses a part")]

use std::{
    fmt::Display,
    sync::OnceLock,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use corio::time::{Duration, now, sleep};

/// Prints `message`, preceded by the time.
pub(crate) fn log(message: impl Display) {
    println!("{} {message}", stamp());
}

/// The time, by the loop's clock.
pub(crate) fn stamp() -> String {
    static START: OnceLock<(Instant, SystemTime)> = OnceLock::new();
    let (start, wall) = START.get_or_init(|| (now(), SystemTime::now()));
    let elapsed = now() - *start;
    if std::env::var_os("ELAPSED").is_some() {
        return format!("+{:.3}", elapsed.as_secs_f64());
    }
    let today = (*wall + elapsed).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}", today / 3600, today / 60 % 60, today % 60)
}

/// The number of this thread.
pub(crate) fn thread() -> String {
    format!("{:?}", std::thread::current().id())
}

/// Prints `message` after this many seconds.
pub(crate) async fn say(delay: u64, message: impl Display) {
    sleep(seconds(delay)).await;
    log(message);
}

/// This many seconds.
pub(crate) const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
