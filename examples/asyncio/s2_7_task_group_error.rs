//! The first failure cancels the others (S2 TaskGroup with errors).

mod clock;

use std::cell::RefCell;

use clock::{log, seconds, thread};
use corio::{sleep, task_group};

async fn worker(delay: u64) -> Result<(), String> {
    log(thread());
    sleep(seconds(delay)).await;
    log(thread());
    Err(format!("failed after {delay}"))
}

#[corio::main]
async fn main() {
    let tasks = RefCell::new(Vec::new());
    let result: Result<(), _> = task_group(async |group| {
        tasks.borrow_mut().push(group.create_task(worker(1)));
        tasks.borrow_mut().push(group.create_task(worker(2)));
        Ok(())
    })
    .await;
    if let Err(errors) = result {
        log(errors);
    }
    for (n, task) in tasks.into_inner().iter().enumerate() {
        log(format!("t{} canceled? : {}", n + 1, task.cancelled()));
    }
}
