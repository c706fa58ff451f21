//! The main coroutine stays on one thread (S2 run).

mod clock;

use clock::{log, seconds, thread};
use corio::sleep;

#[corio::main]
async fn main() {
    log(thread());
    sleep(seconds(1)).await;
    log(thread());
}
