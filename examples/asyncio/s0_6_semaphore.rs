//! Nine jobs, three at a time (S0 example6).

mod clock;

use clock::{log, say};
use corio::{Semaphore, gather};

async fn limited(semaphore: &Semaphore, message: String) {
    let _permit = semaphore.acquire().await;
    say(1, message).await;
}

#[corio::main]
async fn main() {
    log("start");
    let semaphore = Semaphore::new(3);
    gather((1..10).map(|n| limited(&semaphore, format!("msg#{n}")))).await;
    log("end");
}
