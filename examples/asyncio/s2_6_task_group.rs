//! A group waits for its tasks (S2 TaskGroup).

mod clock;

use clock::{log, seconds, thread};
use corio::{TaskGroupError, sleep, task_group};

async fn worker(delay: u64) -> Result<(), String> {
    log(thread());
    sleep(seconds(delay)).await;
    log(thread());
    Ok(())
}

#[corio::main]
async fn main() -> Result<(), TaskGroupError<String>> {
    task_group(async |group| {
        group.create_task(worker(1));
        group.create_task(worker(2));
        Ok(())
    })
    .await
}
