//! Three tasks wait for one event (S0 example7).

mod clock;

use std::rc::Rc;

use clock::{log, seconds};
use corio::{Event, create_task, gather, sleep};

async fn waiter(event: Rc<Event>, n: u32) {
    log(format!("ready... #{n}"));
    event.wait().await;
    log(format!("go! #{n}"));
}

#[corio::main]
async fn main() {
    log("start");
    let event = Rc::new(Event::new());
    let tasks: Vec<_> = (1..4).map(|n| create_task(waiter(event.clone(), n))).collect();
    sleep(seconds(3)).await;
    event.set();
    gather(tasks).await;
    log("end");
}
