//! Notified workers continue one after the other (S1 Condition).

mod clock;

use clock::{log, seconds};
use corio::{Condition, gather, sleep};

async fn waiting(condition: &Condition, n: u32) {
    let guard = condition.acquire().await.wait().await;
    log(format!("asyncio native start{n}"));
    sleep(seconds(3)).await;
    log(format!("asyncio native stop{n}"));
    drop(guard);
}

async fn notifying(condition: &Condition, n: u32) {
    sleep(seconds(1)).await;
    let guard = condition.acquire().await;
    log(format!("asyncio native start{n}"));
    sleep(seconds(3)).await;
    log(format!("asyncio native stop{n}"));
    guard.notify_all();
}

#[corio::main]
async fn main() {
    let condition = Condition::new(());
    gather!(waiting(&condition, 1), waiting(&condition, 2), notifying(&condition, 3)).await;
}
