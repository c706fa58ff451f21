//! Two workers and one lock (S1 Lock).

mod clock;

use clock::{log, seconds};
use corio::{Lock, gather, sleep};

async fn worker(lock: &Lock, name: &str) {
    log(format!("{name} start"));
    let _guard = lock.acquire().await;
    log(format!("{name} got lock"));
    sleep(seconds(3)).await;
    log(format!("{name} end"));
}

#[corio::main]
async fn main() {
    let lock = Lock::new(());
    gather([worker(&lock, "worker2"), worker(&lock, "worker1")]).await;
}
