//! A task sets the result of a future (S3 sample08).

mod clock;

use clock::{log, seconds};
use corio::{create_task, event_loop::create_future, sleep};

#[corio::main]
async fn main() {
    log("start");
    let (resolver, future) = create_future();
    let _task = create_task(async move {
        sleep(seconds(1)).await;
        let _ = resolver.set_result("Future is done!");
    });
    if let Ok(text) = future.await {
        log(text);
    }
}
