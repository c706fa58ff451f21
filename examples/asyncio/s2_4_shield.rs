//! A shielded task outlives the task that waits for it (S2 shield).

mod clock;

use clock::{log, seconds, thread};
use corio::{create_task, shield, sleep};

async fn worker() {
    log(thread());
    sleep(seconds(2)).await;
    log(thread());
}

#[corio::main]
async fn main() {
    let outer = create_task(shield(create_task(worker())));
    sleep(seconds(1)).await;
    outer.cancel();
    if outer.await.is_err() {
        log(thread());
    }
    sleep(seconds(2)).await;
}
