//! A callback that arms itself again every second (S3 sample03).

mod clock;

use std::time::Instant;

use clock::{log, seconds};
use corio::{
    event_loop::{Resolver, call_later, call_soon, create_future},
    time::now,
};

fn display_date(end: Instant, stop: Resolver<()>) {
    log("date");
    if now() + seconds(1) < end {
        call_later(seconds(1), move || display_date(end, stop));
    } else {
        let _ = stop.set_result(());
    }
}

#[corio::main]
async fn main() {
    let (stop, stopped) = create_future();
    let end = now() + seconds(5);
    call_soon(move || display_date(end, stop));
    let _ = stopped.await;
}
