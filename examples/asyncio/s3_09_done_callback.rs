//! A callback at the end of a future (S3 sample09).

mod clock;

use clock::{log, seconds};
use corio::{create_task, event_loop::create_future, sleep};

#[corio::main]
async fn main() {
    log("start");
    let (resolver, future) = create_future();
    let (stop, stopped) = create_future();
    future.add_done_callback(move || {
        log("Future is done!");
        let _ = stop.set_result(());
    });
    let _task = create_task(async move {
        sleep(seconds(1)).await;
        let _ = resolver.set_result(());
    });
    let _ = stopped.await;
}
