//! Two lines, two seconds apart (S3 sample12).

mod clock;

use clock::{log, seconds};
use corio::sleep;

#[corio::main]
async fn main() {
    log("before");
    sleep(seconds(2)).await;
    log("after");
}
