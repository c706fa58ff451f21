//! A task is cancelled while it sleeps (S2 cancel).

mod clock;

use clock::{log, seconds, thread};
use corio::{create_task, sleep};

async fn worker() {
    log(thread());
    sleep(seconds(3)).await;
    log("this line never appears");
}

#[corio::main]
async fn main() {
    let mut task = create_task(worker());
    sleep(seconds(1)).await;
    task.cancel();
    if (&mut task).await.is_err() {
        log(format!("cancel? : {}", task.cancelled()));
    }
}
