//! Two workers and two permits (S1 Semaphore).

mod clock;

use clock::{log, seconds};
use corio::{Semaphore, gather, sleep};

async fn worker(semaphore: &Semaphore, name: &str) {
    let _permit = semaphore.acquire().await;
    log(format!("{name} start"));
    sleep(seconds(3)).await;
    log(format!("{name} end"));
}

#[corio::main]
async fn main() {
    let semaphore = Semaphore::new(2);
    gather([worker(&semaphore, "worker2"), worker(&semaphore, "worker1")]).await;
}
