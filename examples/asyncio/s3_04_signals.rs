//! SIGINT and SIGTERM stop the program gracefully (S3 sample04).

use std::{io, rc::Rc};

use corio::{
    Event,
    signal::{SignalKind, add_signal_handler},
};

#[corio::main]
async fn main() -> io::Result<()> {
    let exit = Rc::new(Event::new());
    for (kind, name) in [(SignalKind::INTERRUPT, "SIGINT"), (SignalKind::TERMINATE, "SIGTERM")] {
        let exit = exit.clone();
        add_signal_handler(kind, move || {
            println!("got signal {name}: exit.");
            exit.set();
        })?;
    }
    println!("Event loop running forever, press Ctrl+C to interrupt.");
    println!("pid {}: send SIGINT or SIGTERM to exit.", std::process::id());
    exit.wait().await;
    Ok(())
}
