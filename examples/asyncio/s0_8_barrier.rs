//! Three tasks meet at a barrier (S0 example8).

mod clock;

use std::rc::Rc;

use clock::{log, seconds};
use corio::{Barrier, create_task, gather, sleep};

async fn waiter(barrier: Rc<Barrier>, n: u32) {
    log(format!("ready... #{n} {barrier:?}"));
    if barrier.wait().await.is_ok() {
        log(format!("go! #{n} {barrier:?}"));
    }
}

#[corio::main]
async fn main() {
    log("start");
    let barrier = Rc::new(Barrier::new(3));
    let mut tasks = Vec::new();
    for n in 1..4 {
        tasks.push(create_task(waiter(barrier.clone(), n)));
        if n < 3 {
            sleep(seconds(1)).await;
        }
    }
    gather(tasks).await;
    log("end");
}
