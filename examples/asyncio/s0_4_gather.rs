//! Results come in the order of the arguments (S0 example4).

mod clock;

use clock::{log, seconds, stamp};
use corio::{gather, sleep};

async fn get(delay: u64, message: &str) -> String {
    sleep(seconds(delay)).await;
    format!("{} {message}", stamp())
}

#[corio::main]
async fn main() {
    log("start");
    for result in gather([get(2, "hello"), get(1, "world")]).await {
        log(result);
    }
    log("end");
}
