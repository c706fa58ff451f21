//! `run_forever`, until a callback at the end of a future stops the loop (S3 sample09).

mod clock;

use std::io;

use clock::{log, seconds};
use corio::{
    Runner,
    event_loop::{Resolver, create_future, stop},
    sleep,
};

async fn slow_operation(resolver: Resolver<()>) {
    sleep(seconds(1)).await;
    let _ = resolver.set_result(());
}

fn got_result() {
    log("Future is done!");
    stop();
}

fn main() -> io::Result<()> {
    let mut runner = Runner::new()?;
    let (resolver, future) = runner.enter(|| {
        log("start");
        create_future()
    });
    let _task = runner.create_task(slow_operation(resolver));
    future.add_done_callback(got_result);
    runner.run_forever()?;
    runner.close();
    Ok(())
}
