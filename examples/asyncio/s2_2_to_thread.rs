//! Blocking work on another thread (S2 to_thread).

mod clock;

use clock::{log, seconds, thread};
use corio::to_thread;

fn blocking() {
    log(thread());
    std::thread::sleep(seconds(1));
    log(thread());
}

#[corio::main]
async fn main() {
    log(thread());
    to_thread(blocking).await;
    log(thread());
}
