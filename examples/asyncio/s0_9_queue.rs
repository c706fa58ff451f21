//! Ten producers, and a consumer that takes an item every three seconds (S0 example9).

mod clock;

use std::rc::Rc;

use clock::{log, seconds, stamp};
use corio::{Queue, create_task, gather, sleep};

async fn produce(queue: Rc<Queue<String>>, n: u64) {
    sleep(seconds(n)).await;
    let put = queue.put_nowait(format!("{} task#{n}", stamp()));
    assert!(put.is_ok(), "a queue without limit is never full");
}

async fn consume(queue: Rc<Queue<String>>, total: u32) {
    let (mut group, mut seen) = (0, 0);
    while seen < total {
        sleep(seconds(3)).await;
        group += 1;
        log(format!("group#{group}"));
        while let Ok(item) = queue.get_nowait() {
            println!("  {item}");
            seen += 1;
        }
    }
}

#[corio::main]
async fn main() {
    log("start");
    let queue = Rc::new(Queue::new(0));
    // The consumer first: of equal deadlines the older timer fires first.
    let consumer = create_task(consume(queue.clone(), 10));
    let producers = (1..11).map(|n| create_task(produce(queue.clone(), n)));
    gather([consumer].into_iter().chain(producers)).await;
    log("end");
}
