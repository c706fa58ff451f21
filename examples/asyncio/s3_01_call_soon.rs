//! A plain callback (S3 sample01).

use corio::event_loop::{call_soon, create_future};

#[corio::main]
async fn main() {
    let (stop, stopped) = create_future();
    call_soon(move || {
        println!("Hello World");
        let _ = stop.set_result(());
    });
    let _ = stopped.await;
}
