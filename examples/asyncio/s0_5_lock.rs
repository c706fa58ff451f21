//! A lock makes two jobs take turns (S0 example5).

mod clock;

use clock::{log, say};
use corio::{Lock, gather};

async fn locked(lock: &Lock, delay: u64, message: &str) {
    let _guard = lock.acquire().await;
    say(delay, message).await;
}

#[corio::main]
async fn main() {
    log("start");
    let lock = Lock::new(());
    gather([locked(&lock, 2, "hello"), locked(&lock, 1, "world")]).await;
    log("end");
}
