//! A coroutine that prints the date every second (S3 sample06).

mod clock;

use clock::{log, seconds};
use corio::{sleep, time::now};

#[corio::main]
async fn main() {
    let end = now() + seconds(5);
    loop {
        log("date");
        if now() + seconds(1) >= end {
            return;
        }
        sleep(seconds(1)).await;
    }
}
