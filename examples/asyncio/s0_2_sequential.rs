//! Two awaits, one after the other (S0 example2).

mod clock;

use clock::{log, say};

#[corio::main]
async fn main() {
    log("start");
    say(2, "hello").await;
    say(1, "world").await;
    log("end");
}
