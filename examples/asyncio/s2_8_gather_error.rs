//! The first error ends `try_gather_tasks`; the other task continues (S2 gather with errors).

mod clock;

use clock::{log, seconds, thread};
use corio::{create_task, sleep, task::try_gather_tasks};

async fn worker(delay: u64) -> Result<(), String> {
    log(thread());
    sleep(seconds(delay)).await;
    log(thread());
    Err(format!("failed after {delay}"))
}

#[corio::main]
async fn main() {
    let (mut t1, mut t2) = (create_task(worker(3)), create_task(worker(2)));
    if let Err(e) = try_gather_tasks([&mut t1, &mut t2]).await {
        log(e);
    }
    sleep(seconds(2)).await;
    log(format!("t1 canceled? : {}", t1.cancelled()));
    log(format!("t2 canceled? : {}", t2.cancelled()));
}
