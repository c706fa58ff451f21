//! Two workers wait for an event that a third one sets (S1 Event).

mod clock;

use clock::{log, seconds};
use corio::{Event, gather, sleep};

async fn waiting(event: &Event, name: &str) {
    log(format!("{name} start"));
    event.wait().await;
    log(format!("{name} got event"));
    sleep(seconds(3)).await;
    log(format!("{name} end"));
}

async fn setting(event: &Event, name: &str) {
    log(format!("{name} start"));
    sleep(seconds(3)).await;
    event.set();
    log(format!("{name} end"));
}

#[corio::main]
async fn main() {
    let event = Event::new();
    gather!(waiting(&event, "worker2"), setting(&event, "worker3"), waiting(&event, "worker1")).await;
}
