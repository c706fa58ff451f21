//! Concurrent sleeps take as long as the longest one; blocking sleeps add up (S3 sample100).

mod clock;

use clock::{log, seconds};
use corio::{gather, sleep};

#[corio::main]
async fn main() {
    log("start");
    gather([3, 4].map(async |n| sleep(seconds(n)).await)).await;
    log("asleep side by side");
    gather([3, 4].map(async |n| std::thread::sleep(seconds(n)))).await;
    log("blocked one after the other");
}
