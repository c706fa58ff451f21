//! A coroutine awaits another one (S3 sample07).

mod clock;

use clock::{log, seconds};
use corio::sleep;

async fn compute(x: i32, y: i32) -> i32 {
    log(format!("Compute {x} + {y} ..."));
    sleep(seconds(1)).await;
    x + y
}

async fn print_sum(x: i32, y: i32) {
    let sum = compute(x, y).await;
    log(format!("{x} + {y} = {sum}"));
}

#[corio::main]
async fn main() {
    print_sum(1, 2).await;
}
