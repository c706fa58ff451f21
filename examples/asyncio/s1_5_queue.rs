//! One worker puts items, another one gets them (S1 Queue).

mod clock;

use clock::log;
use corio::{Queue, gather};

async fn putting(queue: &Queue<u32>, name: &str) {
    log(format!("{name} start"));
    if queue.put(100).await.is_ok() {
        log(format!("{name} end"));
    }
}

async fn getting(queue: &Queue<u32>, name: &str) {
    log(format!("{name} start"));
    if let Ok(item) = queue.get().await {
        log(item);
        log(format!("{name} end"));
    }
}

#[corio::main]
async fn main() {
    let queue = Queue::new(2);
    gather!(getting(&queue, "worker2"), putting(&queue, "worker1")).await;
}
