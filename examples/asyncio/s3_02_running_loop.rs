//! A callback finds the running loop of its thread (S3 sample02).

use corio::{
    event_loop::{call_soon, create_future},
    handle,
};

#[corio::main]
async fn main() {
    let home = handle();
    let (stop, stopped) = create_future();
    call_soon(move || {
        assert_eq!(handle(), home);
        println!("Hello World");
        let _ = stop.set_result(());
    });
    let _ = stopped.await;
}
